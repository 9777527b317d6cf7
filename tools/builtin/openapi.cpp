#include "tools/builtin/openapi.hpp"

#include "tools/builtin/confined.hpp"
#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/guarded_web.hpp"
#include "tools/builtin/openapi_document.hpp"

#include <nlohmann/json.hpp>

#include <iterator>

namespace kontor::tools {
namespace {

constexpr std::size_t kDocumentBytes = 8u << 20, kErrorText = 2000;

Error wrong(const std::string& group, const std::string& what) { return fail(Errc::usage, "tools." + group + "." + what, "tool_settings"); }

Result<Json> read_document(const std::string& group, const std::string& name, const BuiltinContext& context) {
  auto file = open_for_reading({make_root(context.folder, ".")}, context.hidden, name);
  if (!file) return file.error();
  auto text = read_all(file->fd(), name, kDocumentBytes);
  if (!text) return text.error();
  const bool yaml = name.ends_with(".yaml") || name.ends_with(".yml");
  if (yaml && !context.read_yaml) return wrong(group, "document: YAML cannot be read here; give JSON");
  auto document = yaml ? context.read_yaml(*text) : parse_json(*text);
  if (!document) return fail(document.error().code, name + ": " + document.error().describe(), document.error().kind);
  return document;
}

ToolResult call_operation(const Web& web, const std::string& base, const ApiOperation& operation, const Json& arguments, const CallContext& context) {
  auto target = api_target(operation, arguments);
  if (!target) return ToolResult::error("invalid_arguments", target.error().message);
  auto url = WebAddress::parse(base + *target);
  if (!url) return ToolResult::error("invalid_arguments", "the address would be none: " + url.error().message);
  WebRequest wanted;
  wanted.method = operation.method;
  wanted.address = *url;
  wanted.headers = web.headers;
  for (const auto& parameter : operation.parameters) {
    if (parameter.place != ApiParameter::Place::header || !arguments.contains(parameter.key)) continue;
    // A header of the agent file, a token for example, is not for a call to replace.
    for (const auto& [name, value] : web.headers) {
      if (same_header(name, parameter.name)) return ToolResult::error("invalid_arguments", "argument '" + parameter.key + "': this header is set by the agent file");
    }
    auto value = api_header(parameter, arguments.at(parameter.key));
    if (!value) return ToolResult::error("invalid_arguments", value.error().message);
    wanted.headers.emplace_back(parameter.name, std::move(*value));
  }
  if (!operation.body_key.empty() && arguments.contains(operation.body_key)) {
    const Json& body = arguments.at(operation.body_key);
    auto text = api_body(operation, body);
    if (!text) return ToolResult::error("invalid_arguments", text.error().message);
    wanted.body = std::move(*text);
    wanted.headers.emplace_back("Content-Type", operation.body_type);
  }
  if (operation.method != "GET" && !context.idempotency_key.empty()) wanted.headers.emplace_back("Idempotency-Key", context.idempotency_key);
  auto done = guarded_transfer(web, std::move(wanted), context.stop);
  if (!done) return error_result(done.error());
  const int status = done->answer.status;
  ToolResult result = web_result(done->address, std::move(done->answer));
  if (status < 400 || result.is_error) return result;
  std::string text = result.value["text"].get<std::string>();
  if (text.size() > kErrorText) {
    std::size_t end = kErrorText;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text.resize(end);
  }
  return ToolResult::error("http_status", "the server answered " + std::to_string(status) + (text.empty() ? "" : ": " + text));
}

}  // namespace

Result<std::vector<std::shared_ptr<Tool>>> make_openapi(const std::string& group, const Json& settings, const BuiltinContext& context) {
  std::vector<std::string> known{"document", "server", "only"};
  known.insert(known.end(), std::begin(kWebSettings), std::end(kWebSettings));
  if (auto checked = check_settings(settings, group, known); !checked) return checked.error();
  const auto name = text_setting(settings, group, "document", ""), server = text_setting(settings, group, "server", "");
  if (!name) return name.error();
  if (!server) return server.error();
  if (name->empty()) return wrong(group, "document has to name the OpenAPI document, a .json or .yaml file");
  std::vector<std::string> only;
  if (const auto globs = settings.find("only"); globs != settings.end()) {
    const std::string form = "only is a list of operations, for example [getPet, list_*]";
    if (!globs->is_array()) return wrong(group, form);
    for (const auto& glob : *globs) {
      if (!glob.is_string()) return wrong(group, form);
      only.push_back(glob.get<std::string>());
    }
  }
  auto read = read_web(group, settings, context);
  if (!read) return read.error();
  const std::shared_ptr<const Web> web = *read;
  auto json = read_document(group, *name, context);
  if (!json) return json.error();
  auto document = read_api_document(*json, only);
  if (!document) return fail(document.error().code, *name + ": " + document.error().describe(), document.error().kind);
  if (document->operations.empty()) return wrong(group, only.empty() ? "document: " + *name + " has no operation" : "only names no operation of " + *name);
  std::string base = server->empty() ? document->server : *server;
  if (base.empty()) return wrong(group, "server has to be the address that paths are appended to: " + *name + " names none that is complete");
  while (base.ends_with('/')) base.pop_back();
  auto parsed = WebAddress::parse(base);
  if (!parsed || base.find_first_of("?#") != std::string::npos) return wrong(group, "server: '" + base.substr(0, 100) + "' is no address that paths can be appended to");
  std::vector<std::shared_ptr<Tool>> tools;
  for (auto& operation : document->operations) {
    ToolSpec spec = operation.spec;
    spec.name = group + "." + operation.name;
    auto shared = std::make_shared<const ApiOperation>(std::move(operation));
    tools.push_back(std::make_shared<FunctionTool>(std::move(spec), [web, base, shared](const Json& arguments, const CallContext& call) { return call_operation(*web, base, *shared, arguments, call); }));
  }
  return tools;
}

}  // namespace kontor::tools
