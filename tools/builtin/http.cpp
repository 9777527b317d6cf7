// builtin.http: GET and POST to hosts that the agent file names.

#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"
#include "tools/builtin/guarded_web.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <iterator>

namespace kontor::tools {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// Headers of the call, and the body of a POST. Errors: usage, for the caller to read.
Result<void> fill(WebRequest& wanted, const Json& arguments, const CallContext& context) {
  if (arguments.contains("headers"))
    for (const auto& [name, value] : arguments["headers"].items()) {
      const std::string key = lower(name);
      if (key == "host" || key == "content-length" || key == "transfer-encoding" || key == "connection" || key == "expect") return fail(Errc::usage, "argument 'headers': '" + key + "' is set by the tool");
      if (!is_header(name, value.get_ref<const std::string&>())) return fail(Errc::usage, "argument 'headers': '" + name.substr(0, 40) + "' has a line break or is no name of a header");
      wanted.headers.emplace_back(name, value.get<std::string>());
    }
  if (wanted.method == "GET") return {};
  if (arguments.contains("json") == arguments.contains("body")) return fail(Errc::usage, "give either 'json' or 'body'");
  const bool json = arguments.contains("json");
  wanted.body = json ? arguments["json"].dump() : arguments["body"].get<std::string>();
  const bool typed = std::any_of(wanted.headers.begin(), wanted.headers.end(), [](const auto& header) { return lower(header.first) == "content-type"; });
  if (!typed) wanted.headers.emplace_back("Content-Type", json ? "application/json" : "text/plain; charset=utf-8");
  if (!context.idempotency_key.empty()) wanted.headers.emplace_back("Idempotency-Key", context.idempotency_key);
  return {};
}

ToolResult request(const Web& web, const std::string& method, const Json& arguments, const CallContext& context) {
  auto url = WebAddress::parse(arguments["url"].get<std::string>());
  if (!url) return ToolResult::error("invalid_arguments", "argument 'url': " + url.error().message);
  WebRequest wanted;
  wanted.method = method;
  wanted.address = *url;
  wanted.headers = web.headers;
  if (auto filled = fill(wanted, arguments, context); !filled) return ToolResult::error("invalid_arguments", filled.error().message);
  auto done = guarded_transfer(web, std::move(wanted), context.stop);
  if (!done) return error_result(done.error());
  return web_result(done->address, std::move(done->answer));
}

ToolSpec http_spec(const std::string& group, bool post) {
  ToolSpec spec;
  spec.name = group + (post ? ".post" : ".get");
  spec.description = post ? "Sends data to a web address with POST and returns the answer." : "Fetches a web address and returns the answer.";
  const std::string url = R"("url":{"type":"string","maxLength":8192,"description":"https://host/path?query"},)";
  const std::string headers = R"("headers":{"type":"object","additionalProperties":{"type":"string","maxLength":8192},"maxProperties":50})";
  const std::string body = post ? R"("json":{"description":"Any JSON value; give either json or body"},"body":{"type":"string"},)" : "";
  spec.parameters = schema((R"({"type":"object","properties":{)" + url + body + headers + R"(},"required":["url"],"additionalProperties":false})").c_str());
  spec.result = schema(R"({"type":"object","properties":{"status":{"type":"integer"},"url":{"type":"string"},"headers":{"type":"object"},"text":{"type":"string"},"json":{}},
    "required":["status","url","headers","text"]})");
  spec.effect = post ? Effect::once : Effect::none;
  spec.untrusted_output = true;
  spec.timeout_ms = 600'000;
  return spec;
}

}  // namespace

std::vector<ToolSpec> describe_http(const std::string& group) { return {http_spec(group, false), http_spec(group, true)}; }

Result<Tools> make_http(const std::string& group, const Json& settings, const BuiltinContext& context) {
  if (auto checked = check_settings(settings, group, {std::begin(kWebSettings), std::end(kWebSettings)}); !checked) return checked.error();
  auto read = read_web(group, settings, context);
  if (!read) return read.error();
  const std::shared_ptr<const Web> web = *read;
  Tools tools;
  for (const bool post : {false, true})
    tools.push_back(std::make_shared<FunctionTool>(http_spec(group, post), [web, post](const Json& arguments, const CallContext& call) { return request(*web, post ? "POST" : "GET", arguments, call); }));
  return tools;
}

}  // namespace kontor::tools
