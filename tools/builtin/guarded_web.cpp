#include "tools/builtin/guarded_web.hpp"

#include "tools/builtin/confined.hpp"
#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/private_address.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdlib>

namespace kontor::tools {
namespace {

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
  if (auto permitted = web.egress.permit_name(url.origin(), url.host(), url.port()); !permitted) return permitted.error();
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

Error wrong(const std::string& group, const std::string& what) { return fail(Errc::usage, "tools." + group + "." + what, "tool_settings"); }

/// What a server says of its answer, as a stranger's word: short and printable.
std::string noted(const std::string& words) {
  std::string out = words.empty() ? "" : ", ";
  for (const char c : words.substr(0, 60)) out += c >= 0x20 && c < 0x7f ? c : '?';
  return out;
}

}  // namespace

bool same_header(std::string_view a, std::string_view b) { return lower(std::string(a)) == lower(std::string(b)); }

ToolResult web_result(const WebAddress& url, WebAnswer answer) {
  const std::string type = answer.header("content-type");
  if (invalid_utf8(answer.body)) return ToolResult::error("encoding", "the answer (" + std::to_string(answer.body.size()) + " bytes" + noted(type) + noted(answer.header("content-encoding")) + ") is not UTF-8 text");
  Json result{{"status", answer.status}, {"url", url.text()}, {"headers", headers_of(answer)}};
  if (lower(type).find("json") != std::string::npos)
    if (auto json = parse_json(answer.body)) result["json"] = std::move(*json);
  result["text"] = std::move(answer.body);
  return ToolResult::ok(std::move(result));
}

Result<GuardedAnswer> guarded_transfer(const Web& web, WebRequest wanted, std::stop_token stop) {
  wanted.body_bytes = web.body_bytes;
  wanted.ca_file = web.ca_file;
  wanted.permit = [&web, &wanted](const std::string& address) -> Result<void> {
    if (auto permitted = web.egress.permit_address(wanted.address.origin(), wanted.address.host(), address, wanted.address.port()); !permitted) return permitted.error();
    if (web.allow_private || !is_private_address(address)) return {};
    return fail(Errc::denied, address + " is a private address (setting `private: true` allows them)", "denied");
  };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(web.timeout_ms);
  for (std::int64_t hop = 0;; ++hop) {
    if (auto judged = judge(web, wanted.address); !judged) return judged.error();
    wanted.timeout_ms = std::max<std::int64_t>(1, std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count());
    auto answer = transfer(wanted, stop);
    if (!answer) return answer.error();
    const std::string location = answer->header("location");
    if (!is_redirect(answer->status) || location.empty()) return GuardedAnswer{wanted.address, std::move(*answer)};
    if (hop >= web.redirects) return fail(Errc::limit, "more than " + std::to_string(web.redirects) + " redirects");
    auto next = wanted.address.resolved(location);
    if (!next) return fail(Errc::malformed, "a redirect to an address that is none");
    if (wanted.address.secure() && !next->secure()) return fail(Errc::denied, "a redirect from https to http");
    const bool keeps_method = answer->status == 307 || answer->status == 308;
    if (!keeps_method && wanted.method != "GET") {
      wanted.method = "GET";
      wanted.body.clear();
    }
    if (next->origin() != wanted.address.origin()) {
      if (wanted.method != "GET") return fail(Errc::denied, "a redirect of the " + wanted.method + " to another host, " + next->origin());
      wanted.headers.clear();  // they were meant for the first host
    }
    wanted.address = *next;
  }
}

Result<std::shared_ptr<Web>> read_web(const std::string& group, const Json& settings, const BuiltinContext& context) {
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
  web->egress = context.egress;
  return web;
}

}  // namespace kontor::tools
