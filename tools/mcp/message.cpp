#include "tools/mcp/message.hpp"

#include "tools/json_text.hpp"

#include <array>
#include <limits>

namespace kontor::tools::mcp {
namespace {

Error no_message(const std::string& why) { return fail(Errc::malformed, "not a JSON-RPC message: " + why, "not_a_message"); }

/// The start of a message, up to the value of `key`.
std::string begin_message(const char* key, const Json& value) {
  std::string text = std::string(R"({"jsonrpc":"2.0",")") + key + "\":";
  append_json(value, text);
  return text;
}

std::string end_message(std::string text, const char* key, const Json& value) {
  text += std::string(",\"") + key + "\":";
  append_json(value, text);
  text += '}';
  return text;
}

bool is_id(const Json& value) { return value.is_string() || value.is_number_integer(); }

Result<Message> read_call(Json& value, Message message) {
  const auto method = value.find("method");
  if (!method->is_string()) return no_message("'method' is not a text");
  message.method = method->get<std::string>();
  if (const auto params = value.find("params"); params != value.end()) {
    if (!params->is_object()) return no_message("'params' is not an object");
    message.body = std::move(*params);
  }
  message.kind = value.contains("id") ? Message::Kind::request : Message::Kind::notification;
  if (message.kind == Message::Kind::request && !is_id(message.id)) return no_message("'id' is neither a text nor a whole number");
  return message;
}

Result<Message> read_error(const Json& error, Message message) {
  if (!error.is_object()) return no_message("'error' is not an object");
  const auto code = error.find("code");
  if (code == error.end() || !code->is_number_integer()) return no_message("'error' has no whole number as its 'code'");
  const auto number = code->get<std::int64_t>();
  const bool fits = number >= std::numeric_limits<int>::min() && number <= std::numeric_limits<int>::max();
  message.error.code = fits ? static_cast<int>(number) : kInternalError;
  message.error.message = text_at(error, "message");
  if (const auto data = error.find("data"); data != error.end()) message.error.data = *data;
  message.kind = Message::Kind::error;
  return message;
}

}  // namespace

bool is_handshake_revision(std::string_view revision) {
  constexpr std::array<std::string_view, 4> kKnown = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};
  for (const auto known : kKnown) {
    if (revision == known) return true;
  }
  return false;
}

Result<Message> parse_message(std::string_view text) {
  auto value = parse_json(text, JsonLimits{kMessageDepthMax, kMessageBytesMax, true});
  if (!value) return value.error();
  if (!value->is_object()) return no_message("it is not an object");
  if (text_at(*value, "jsonrpc") != "2.0") return no_message("'jsonrpc' is not \"2.0\"");
  Message message;
  if (const auto id = value->find("id"); id != value->end()) message.id = *id;
  if (value->contains("method")) return read_call(*value, std::move(message));
  if (const auto result = value->find("result"); result != value->end()) {
    if (!is_id(message.id)) return no_message("a result without an 'id'");
    if (!result->is_object()) return no_message("'result' is not an object");
    message.kind = Message::Kind::result;
    message.body = std::move(*result);
    return message;
  }
  if (const auto error = value->find("error"); error != value->end()) {
    if (!message.id.is_null() && !is_id(message.id)) return no_message("'id' is neither a text nor a whole number");
    return read_error(*error, std::move(message));
  }
  return no_message("it has neither 'method' nor 'result' nor 'error'");
}

std::string write_request(const Json& id, const std::string& method, const Json& params) {
  std::string text = begin_message("id", id) + ",\"method\":";
  append_json(method, text);
  return end_message(std::move(text), "params", params);
}

std::string write_notification(const std::string& method, const Json& params) { return end_message(begin_message("method", method), "params", params); }

std::string write_result(const Json& id, const Json& result) { return end_message(begin_message("id", id), "result", result); }

std::string write_error(const Json& id, const RpcError& error) {
  Json body{{"code", error.code}, {"message", error.message}};
  if (!error.data.is_null()) body["data"] = error.data;
  Json message{{"jsonrpc", "2.0"}};
  if (!id.is_null()) message["id"] = id;
  message["error"] = std::move(body);
  return compact_json(message);
}

std::string text_at(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

const Json& object_at(const Json& object, const char* key) {
  static const Json kEmpty = Json::object();
  if (!object.is_object()) return kEmpty;
  const auto found = object.find(key);
  return found != object.end() && found->is_object() ? *found : kEmpty;
}

}  // namespace kontor::tools::mcp
