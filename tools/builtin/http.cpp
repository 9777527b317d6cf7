// builtin.http: GET and POST to hosts that the agent file names. The very address that a connection goes to is judged, so
// a name that changes its meaning between look-up and use (DNS rebinding) gains nothing. Each redirect is judged like a
// first request.

#include "tools/builtin/confined.hpp"
#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"
#include "tools/builtin/private_address.hpp"
#include "tools/builtin/transfer.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdlib>

namespace kontor::tools {
namespace {

struct Web {
  std::vector<std::string> hosts;    ///< "api.example.com", "*.example.com", either with ":8443"
  std::vector<std::pair<std::string, std::string>> headers;
  std::string ca_file;
  bool allow_private = false, plain = false, loopback_only = false;
  std::int64_t timeout_ms = 30'000;
  std::size_t body_bytes = 4u << 20;
  std::int64_t redirects = 5;
};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// A pattern with a port allows that port, one without allows the usual one of the scheme.
bool allows(const std::string& pattern, const WebAddress& url) {
  std::string host = pattern;
  int port = url.secure() ? 443 : 80;
  const std::size_t colon = pattern.rfind(':');
  if (colon != std::string::npos && pattern.find(']', colon) == std::string::npos && (pattern.starts_with('[') || pattern.find(':') == colon)) {
    host = pattern.substr(0, colon);
    port = std::atoi(pattern.c_str() + colon + 1);
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (port != url.port()) return false;
  const std::string name = url.host();
  if (host.starts_with("*.")) return name.size() > host.size() - 1 && name.ends_with(lower(host.substr(1)));
  return name == lower(host);
}

Result<void> judge(const Web& web, const WebAddress& url) {
  if (!url.secure() && !web.plain) return fail(Errc::denied, url.origin() + ": only https is allowed (setting `plain: true` allows http)", "denied");
  // Asking a name server would already leave this machine.
  if (web.loopback_only && url.host() != "localhost" && !is_loopback_address(url.host()))
    return fail(Errc::denied, "--airgap refuses " + url.origin() + ": it is not on this machine", "airgap");
  if (std::any_of(web.hosts.begin(), web.hosts.end(), [&](const auto& pattern) { return allows(pattern, url); })) return {};
  std::string list;
  for (const auto& host : web.hosts) list += (list.empty() ? "" : ", ") + host;
  return fail(Errc::denied, url.origin() + " is not among the allowed hosts (" + list + ")", "denied");
}

bool is_redirect(int status) { return status == 301 || status == 302 || status == 303 || status == 307 || status == 308; }

Json headers_of(const WebAnswer& answer) {
  Json out = Json::object();
  for (const auto& [name, value] : answer.headers) {
    if (invalid_utf8(value) || invalid_utf8(name) || name == "set-cookie") continue;
    out[name] = out.contains(name) ? out[name].get<std::string>() + ", " + value : value;
  }
  return out;
}

ToolResult result_of(const WebAddress& url, WebAnswer answer) {
  const std::string type = answer.header("content-type");
  if (invalid_utf8(answer.body)) return ToolResult::error("encoding", "the answer (" + std::to_string(answer.body.size()) + " bytes) is not UTF-8 text");
  Json result{{"status", answer.status}, {"url", url.text()}, {"headers", headers_of(answer)}};
  if (lower(type).find("json") != std::string::npos)
    if (auto json = parse_json(answer.body)) result["json"] = std::move(*json);
  result["text"] = std::move(answer.body);
  return ToolResult::ok(std::move(result));
}

/// Headers of the call, and the body of a POST. Errors: usage, for the caller to read.
Result<void> fill(WebRequest& wanted, const Json& arguments, const CallContext& context) {
  if (arguments.contains("headers"))
    for (const auto& [name, value] : arguments["headers"].items()) {
      const std::string key = lower(name);
      if (key == "host" || key == "content-length" || key == "transfer-encoding" || key == "connection" || key == "expect") return fail(Errc::usage, "argument 'headers': '" + key + "' is set by the tool");
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
  wanted.body_bytes = web.body_bytes;
  wanted.ca_file = web.ca_file;
  wanted.permit = [&web](const std::string& address) -> Result<void> {
    if (web.loopback_only && !is_loopback_address(address)) return fail(Errc::denied, "--airgap refuses " + address + ": it is not on this machine", "airgap");
    if (web.allow_private || !is_private_address(address)) return {};
    return fail(Errc::denied, address + " is a private address (setting `private: true` allows them)", "denied");
  };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(web.timeout_ms);
  for (std::int64_t hop = 0;; ++hop) {
    if (auto judged = judge(web, wanted.address); !judged) return error_result(judged.error());
    wanted.timeout_ms = std::max<std::int64_t>(1, std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count());
    auto answer = transfer(wanted, context.stop);
    if (!answer) return error_result(answer.error());
    const std::string location = answer->header("location");
    if (!is_redirect(answer->status) || location.empty()) return result_of(wanted.address, std::move(*answer));
    if (hop >= web.redirects) return ToolResult::error("limit", "more than " + std::to_string(web.redirects) + " redirects");
    auto next = wanted.address.resolved(location);
    if (!next) return ToolResult::error("malformed", "a redirect to an address that is none");
    if (wanted.address.secure() && !next->secure()) return ToolResult::error("denied", "a redirect from https to http");
    const bool keeps_method = answer->status == 307 || answer->status == 308;
    if (!keeps_method && wanted.method != "GET") {
      wanted.method = "GET";
      wanted.body.clear();
    }
    if (next->origin() != wanted.address.origin()) {
      if (wanted.method != "GET") return ToolResult::error("denied", "a redirect of the POST to another host, " + next->origin());
      wanted.headers.clear();  // they were meant for the first host
    }
    wanted.address = *next;
  }
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

Error wrong(const std::string& group, const std::string& what) { return fail(Errc::usage, "tools." + group + "." + what, "tool_settings"); }

}  // namespace

std::vector<ToolSpec> describe_http(const std::string& group) { return {http_spec(group, false), http_spec(group, true)}; }

Result<Tools> make_http(const std::string& group, const Json& settings, const BuiltinContext& context) {
  if (auto checked = check_settings(settings, group, {"hosts", "config", "private", "plain", "ca_file", "timeout_ms", "max_body", "redirects"}); !checked) return checked.error();
  auto web = std::make_shared<Web>();
  const auto hosts = settings.find("hosts");
  if (hosts == settings.end() || !hosts->is_array() || hosts->empty()) return wrong(group, "hosts has to name the hosts that may be reached, for example [api.example.com, \"*.example.org\"]");
  for (const auto& host : *hosts) {
    if (!host.is_string() || host.get<std::string>().empty() || host.get<std::string>().find('/') != std::string::npos) return wrong(group, "hosts is a list of names such as api.example.com or *.example.org:8443");
    const auto text = host.get<std::string>();
    if (text == "*" || text == "*." || (text.find('*') != std::string::npos && !(text.starts_with("*.") && text.find('*', 1) == std::string::npos)))
      return wrong(group, "hosts: '" + text.substr(0, 80) + "': a star stands for the first part of a name, as in *.example.org");
    web->hosts.push_back(text);
  }
  if (const auto headers = settings.find("config"); headers != settings.end()) {
    if (!headers->is_object()) return wrong(group, "config is a mapping from header names to texts");
    for (const auto& [name, value] : headers->items()) {
      if (!value.is_string()) return wrong(group, "config is a mapping from header names to texts");
      web->headers.emplace_back(name, value.get<std::string>());
    }
  }
  for (const auto& [key, place] : {std::pair("private", &web->allow_private), std::pair("plain", &web->plain)}) {
    const auto found = settings.find(key);
    if (found == settings.end()) continue;
    if (!found->is_boolean()) return wrong(group, std::string(key) + " is true or false");
    *place = found->get<bool>();
  }
  const auto ca_file = text_setting(settings, group, "ca_file", "");
  if (!ca_file) return ca_file.error();
  if (!ca_file->empty()) web->ca_file = make_root(context.folder, *ca_file).path;
  const auto timeout = number_setting(settings, group, "timeout_ms", 30'000, 600'000), body = number_setting(settings, group, "max_body", 4 << 20, 64 << 20), redirects = number_setting(settings, group, "redirects", 5, 20);
  if (!timeout) return timeout.error();
  if (!body) return body.error();
  if (!redirects) return redirects.error();
  web->timeout_ms = *timeout;
  web->body_bytes = static_cast<std::size_t>(*body);
  web->redirects = *redirects;
  web->loopback_only = context.airgap;
  Tools tools;
  for (const bool post : {false, true})
    tools.push_back(std::make_shared<FunctionTool>(http_spec(group, post), [web, post](const Json& arguments, const CallContext& call) { return request(*web, post ? "POST" : "GET", arguments, call); }));
  return tools;
}

}  // namespace kontor::tools
