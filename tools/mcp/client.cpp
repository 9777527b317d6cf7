#include "tools/mcp/client.hpp"

#include <set>

namespace kontor::tools::mcp {
namespace {

constexpr int kRoundsOfNegotiation = 2;

Error rpc_error(const std::string& method, const RpcError& error) {
  const std::string message = error.message.empty() ? "no reason given" : error.message.substr(0, 2000);
  return fail(Errc::io, method + " failed: " + message + " (" + std::to_string(error.code) + ")", "rpc", std::to_string(error.code));
}

/// An error that only a server of the stateless revision gives.
bool is_modern(const RpcError& error) { return error.code == kUnsupportedVersion || error.code == kMissingCapability || error.code == kHeaderMismatch; }

bool offers(const Json& versions, std::string_view wanted) {
  if (!versions.is_array()) return false;
  for (const auto& version : versions) {
    if (version.is_string() && version.get<std::string>() == wanted) return true;
  }
  return false;
}

std::string listed(const Json& versions) {
  std::string text;
  if (versions.is_array()) {
    for (const auto& version : versions) {
      if (version.is_string() && text.size() < 200) text += (text.empty() ? "" : ", ") + version.get<std::string>().substr(0, 32);
    }
  }
  return text.empty() ? "none" : text;
}

}  // namespace

Client::Client(std::unique_ptr<Transport> transport, ClientHooks hooks, const ClientOptions& options)
    : options_(options), hooks_(std::move(hooks)), transport_(std::move(transport)) {}

Client::~Client() { transport_.reset(); }

Result<std::unique_ptr<Client>> Client::connect(std::unique_ptr<Transport> transport, ClientHooks hooks, const ClientOptions& options) {
  std::unique_ptr<Client> client(new Client(std::move(transport), std::move(hooks), options));
  if (auto started = client->transport_->start(*client); !started) return started.error();
  if (auto agreed = client->agree(); !agreed) return agreed.error();
  if (client->revision_ == kStateless) client->subscribe();
  return client;
}

Result<void> Client::agree() {
  if (options_.revision.empty() || options_.revision == kStateless) {
    auto modern = discover();
    if (!modern) return modern.error();
    if (*modern) {
      revision_ = kStateless;
      transport_->agreed(revision_);
      return {};
    }
    if (!options_.revision.empty()) return fail(Errc::unsupported, "the server does not speak revision " + options_.revision, "revision");
  }
  return initialize();
}

Result<bool> Client::discover() {
  const bool only = !options_.revision.empty();
  const auto patience = Patience::of_ms(only ? options_.start_timeout_ms : options_.probe_timeout_ms, options_.stop);
  for (int round = 0; round < kRoundsOfNegotiation; ++round) {
    auto answer = send("server/discover", Json::object(), {}, patience);
    if (!answer) {
      // Silence may be the way of an old server; what is not silence is an error.
      if (answer.error().code == Errc::timeout && !only && transport_->alive()) return false;
      if (answer.error().kind == "not_modern") return false;
      return answer.error();
    }
    if (answer->kind == Message::Kind::error) {
      if (!is_modern(answer->error)) return false;
      const Json versions = answer->error.data.is_object() && answer->error.data.contains("supported") ? answer->error.data.at("supported") : Json();
      if (answer->error.code == kUnsupportedVersion && offers(versions, kStateless)) continue;
      if (answer->error.code == kUnsupportedVersion) {
        return fail(Errc::unsupported, "the server speaks revisions " + listed(versions) + "; this version speaks " + std::string(kStateless), "revision");
      }
      return rpc_error("server/discover", answer->error);
    }
    const Json versions = answer->body.contains("supportedVersions") ? answer->body.at("supportedVersions") : Json();
    if (!versions.is_array()) return false;
    server_capabilities_ = object_at(answer->body, "capabilities");
    server_info_ = object_at(object_at(answer->body, "_meta"), kMetaServerInfo);
    if (offers(versions, kStateless)) return true;
    for (const auto& version : versions) {
      if (version.is_string() && is_handshake_revision(version.get<std::string>()) && !only) return false;
    }
    return fail(Errc::unsupported, "the server speaks revisions " + listed(versions) + "; this version speaks " + std::string(kStateless), "revision");
  }
  return fail(Errc::unsupported, "the server refuses the revision that it offers", "revision");
}

Result<void> Client::initialize() {
  const std::string wanted = options_.revision.empty() ? std::string(kHandshake) : options_.revision;
  revision_ = wanted;
  const Json params{{"protocolVersion", wanted}, {"capabilities", hooks_.capabilities}, {"clientInfo", Json{{"name", "kontor"}, {"version", options_.version}}}};
  transport_->agreed("");
  auto answer = transport_->exchange("initialize", params, {}, Patience::of_ms(options_.start_timeout_ms, options_.stop));
  if (!answer) return answer.error();
  if (answer->kind == Message::Kind::error) return rpc_error("initialize", answer->error);
  revision_ = text_at(answer->body, "protocolVersion");
  if (!is_handshake_revision(revision_)) {
    return fail(Errc::unsupported, "the server speaks revision '" + revision_.substr(0, 32) + "', which is not known here", "revision");
  }
  server_capabilities_ = object_at(answer->body, "capabilities");
  server_info_ = object_at(answer->body, "serverInfo");
  transport_->agreed(revision_);
  return transport_->notify("notifications/initialized", Json::object());
}

void Client::add_meta(Json& params) const {
  Json& meta = params["_meta"];
  meta[kMetaVersion] = kStateless;
  meta[kMetaClientInfo] = Json{{"name", "kontor"}, {"version", options_.version}};
  meta[kMetaCapabilities] = hooks_.capabilities;
}

void Client::subscribe() {
  const Json& tools = object_at(server_capabilities_, "tools");
  if (!tools.contains("listChanged") || tools.at("listChanged") != Json(true)) return;
  Json params{{"notifications", Json{{"toolsListChanged", true}}}};
  add_meta(params);
  transport_->subscribe("subscriptions/listen", params);
}

Result<Message> Client::send(const std::string& method, Json params, const Headers& headers, const Patience& patience) {
  if (revision_.empty() || revision_ == kStateless) add_meta(params);
  return transport_->exchange(method, params, headers, patience);
}

Result<Json> Client::request(const std::string& method, const Json& params, const Patience& patience) {
  auto answer = send(method, params, {}, patience);
  if (!answer) return answer.error();
  if (answer->kind == Message::Kind::error) return rpc_error(method, answer->error);
  return std::move(answer->body);
}

Result<std::vector<Json>> Client::list_tools(const Patience& patience) {
  tools_changed_ = false;
  std::vector<Json> tools;
  std::set<std::string> cursors;
  Json params = Json::object();
  for (int page = 0; page < kToolPagesMax; ++page) {
    auto answer = request("tools/list", params, patience);
    if (!answer) return answer.error();
    const auto listed_tools = answer->find("tools");
    if (listed_tools == answer->end() || !listed_tools->is_array()) return fail(Errc::malformed, "the answer to tools/list has no list 'tools'", "tools_list");
    for (auto& tool : *listed_tools) {
      if (tools.size() >= kToolsMax) return fail(Errc::limit, "the server has more than " + std::to_string(kToolsMax) + " tools", "tools_list");
      tools.push_back(std::move(tool));
    }
    const std::string cursor = text_at(*answer, "nextCursor");
    if (cursor.empty()) return tools;
    if (!cursors.insert(cursor).second) return fail(Errc::malformed, "the pages of tools/list go round in a circle", "tools_list");
    params["cursor"] = cursor;
  }
  return fail(Errc::limit, "tools/list has more than " + std::to_string(kToolPagesMax) + " pages", "tools_list");
}

Result<Json> Client::call_tool(const std::string& name, const Json& arguments, const Json& definition, const Patience& patience) {
  Headers headers;
  if (transport_->has_headers() && revision_ == kStateless && definition.is_object()) {
    auto repeated = argument_headers(object_at(definition, "inputSchema"), arguments);
    if (!repeated) return repeated.error();
    headers = std::move(*repeated);
  }
  Json params{{"name", name}, {"arguments", arguments}};
  for (int round = 0; round <= kInputRoundsMax; ++round) {
    auto answer = send("tools/call", params, headers, patience);
    if (!answer) return answer.error();
    if (answer->kind == Message::Kind::error) return rpc_error("tools/call " + name, answer->error);
    const std::string type = answer->body.contains("resultType") ? text_at(answer->body, "resultType") : "complete";
    if (type == "complete") return std::move(answer->body);
    if (type != "input_required") return fail(Errc::malformed, "the answer is of a kind that is not known: '" + type.substr(0, 64) + "'", "result_type");
    params = Json{{"name", name}, {"arguments", arguments}};
    if (const Json& requests = object_at(answer->body, "inputRequests"); !requests.empty()) {
      auto responses = answers_to(requests);
      if (!responses) return responses.error();
      params["inputResponses"] = std::move(*responses);
    }
    // Ours to give back as it is, not to read.
    if (const auto state = answer->body.find("requestState"); state != answer->body.end()) params["requestState"] = *state;
  }
  return fail(Errc::limit, name + " asks for input again and again", "input_rounds");
}

Result<Json> Client::answers_to(const Json& requests) {
  constexpr std::size_t kRequestsMax = 16;
  if (requests.size() > kRequestsMax) return fail(Errc::limit, "the server asks for more than " + std::to_string(kRequestsMax) + " inputs at once", "input_rounds");
  Json responses = Json::object();
  for (const auto& [key, request] : requests.items()) {
    const std::string method = text_at(request, "method");
    const Reply reply = asked(method, object_at(request, "params"));
    if (const auto* error = std::get_if<RpcError>(&reply)) {
      return fail(Errc::denied, "the server asks for input (" + method.substr(0, 64) + "), which is not given: " + error->message, "input_refused");
    }
    responses[key] = std::get<Json>(reply);
  }
  return responses;
}

void Client::notified(const std::string& method, const Json& params) {
  if (method == "notifications/tools/list_changed") tools_changed_ = true;
  if (method == "notifications/subscriptions/acknowledged" && object_at(params, "notifications").value("toolsListChanged", Json()) != Json(true)) {
    noted("the server does not tell when its tools change, though it offers to");
  }
  if (method == "notifications/message" && hooks_.note) {
    const auto data = params.find("data");
    const std::string text = data == params.end() ? "" : data->is_string() ? data->get<std::string>() : spaced_json(*data);
    hooks_.note(text_at(params, "level") + ": " + text.substr(0, 1000));
  }
}

Reply Client::asked(const std::string& method, const Json& params) {
  if (method == "ping") return Json::object();
  const char* capability = method == "elicitation/create" ? "elicitation" : method == "sampling/createMessage" ? "sampling" : method == "roots/list" ? "roots" : nullptr;
  if (!capability) return RpcError{kMethodNotFound, "method '" + method.substr(0, 64) + "' is not known here"};
  if (!hooks_.answer || !hooks_.capabilities.contains(capability)) return RpcError{kMethodNotFound, std::string(capability) + " is not offered by this client"};
  return hooks_.answer(method, params);
}

void Client::noted(const std::string& line) {
  if (hooks_.note) hooks_.note(line);
}

}  // namespace kontor::tools::mcp
