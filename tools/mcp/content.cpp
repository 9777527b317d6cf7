#include "tools/mcp/content.hpp"

namespace kontor::tools::mcp {
namespace {

constexpr std::size_t kBlocksMax = 1'000;

void add_line(std::string& text, const std::string& line) {
  if (!text.empty() && !line.empty()) text += '\n';
  text += line;
}

/// Bytes behind a Base64 text, roughly.
std::size_t bytes_of(const std::string& base64) { return base64.size() / 4 * 3; }

/// Adds a block to the text or to the attachments; false when it has no known form.
bool add_block(const Json& block, std::string& text, Json& attachments) {
  const std::string type = text_at(block, "type");
  if (type == "text" && block.contains("text")) {
    add_line(text, text_at(block, "text"));
    return true;
  }
  if (type == "image" || type == "audio") {
    attachments.push_back(Json{{"kind", type}, {"type", text_at(block, "mimeType")}, {"bytes", bytes_of(text_at(block, "data"))}});
    return true;
  }
  if (type == "resource") {
    const Json& resource = object_at(block, "resource");
    Json attachment{{"kind", "resource"}, {"uri", text_at(resource, "uri")}, {"type", text_at(resource, "mimeType")}};
    if (resource.contains("text")) add_line(text, text_at(resource, "text"));
    else attachment["bytes"] = bytes_of(text_at(resource, "blob"));
    attachments.push_back(std::move(attachment));
    return true;
  }
  if (type == "resource_link") {
    attachments.push_back(Json{{"kind", "link"}, {"uri", text_at(block, "uri")}, {"name", text_at(block, "name")}, {"type", text_at(block, "mimeType")}});
    return true;
  }
  return false;
}

}  // namespace

ToolResult result_of(const Json& call_result) {
  const bool is_error = call_result.contains("isError") && call_result.at("isError") == Json(true);
  std::string text;
  Json attachments = Json::array();
  if (const auto content = call_result.find("content"); content != call_result.end()) {
    if (!content->is_array() || content->size() > kBlocksMax) return ToolResult::error("bad_result", "the server's result has no list of contents of a fitting size");
    for (const auto& block : *content) {
      if (!add_block(block, text, attachments)) return ToolResult::error("bad_result", "the server's result has a content of the unknown type '" + text_at(block, "type").substr(0, 64) + "'");
    }
  }
  if (is_error) {
    return ToolResult::error("tool_error", text.empty() ? "the server says that the call failed and not why" : text);
  }
  const auto structured = call_result.find("structuredContent");
  ToolResult result = ToolResult::ok(nullptr);
  if (structured != call_result.end() && !structured->is_null()) {
    result.value = *structured;
  } else {
    result.value = Json{{"text", text}};
    if (!attachments.empty()) result.value["attachments"] = std::move(attachments);
  }
  return result;
}

Json call_result_of(const ToolResult& result, const Json& content) {
  Json out = Json::object();
  if (content.is_array() && !content.empty()) {
    out["content"] = content;
  } else {
    const std::string text = result.is_error ? text_at(result.value, "error") : result.text.empty() ? spaced_json(result.value) : result.text;
    out["content"] = Json::array({Json{{"type", "text"}, {"text", text}}});
  }
  if (result.is_error) out["isError"] = true;
  else if (result.value.is_object() && content.is_null()) out["structuredContent"] = result.value;
  return out;
}

}  // namespace kontor::tools::mcp
