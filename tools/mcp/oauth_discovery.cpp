#include "tools/mcp/oauth.hpp"

#include <algorithm>

namespace kontor::tools::mcp {
namespace {

constexpr std::size_t kDocumentBytesMax = 256u << 10;

Error wrong(const std::string& what) { return fail(Errc::denied, "authorization: " + what, "oauth"); }

/// Addresses named by a stranger: https, or this machine when the server itself is on it.
Result<Url> trusted_url(const std::string& text, const Url& server) {
  auto url = parse_url(text);
  if (!url) return url.error();
  if (!url->tls && !(is_loopback_host(url->host) && is_loopback_host(server.host))) return wrong("the server names " + text.substr(0, 200) + ", which is not https");
  return url;
}

/// Nothing when the address has no such document (4xx). Errors: others.
Result<Json> document(const Url& url, const HttpLimits& limits) {
  HttpLimits bounded = limits;
  bounded.body_bytes = kDocumentBytesMax;
  HttpRequest request{"GET", url, {{"Accept", "application/json"}, {"MCP-Protocol-Version", std::string(kStateless)}}, {}};
  auto answer = http_fetch(request, bounded);
  if (!answer) return answer.error();
  if (answer->head.status != 200) return fail(Errc::not_found, url.text() + " answers " + std::to_string(answer->head.status), "no_document");
  auto value = parse_json(answer->body, JsonLimits{32, kDocumentBytesMax, true});
  if (!value || !value->is_object()) return wrong(url.text() + " is not a JSON object");
  return value;
}

std::vector<std::string> texts_of(const Json& object, const char* key) {
  std::vector<std::string> texts;
  if (const auto list = object.find(key); list != object.end() && list->is_array()) {
    for (const auto& item : *list) {
      if (item.is_string()) texts.push_back(item.get<std::string>());
    }
  }
  return texts;
}

std::string without_slash(std::string text) {
  while (text.ends_with('/')) text.pop_back();
  return text;
}

/// Is the named resource the server, or a path that the server lies below?
bool covers(const std::string& resource, const Url& server) {
  const auto url = parse_url(resource);
  if (!url || url->origin() != server.origin()) return false;
  const std::string outer = without_slash(url->path()), inner = without_slash(server.path());
  return inner == outer || inner.starts_with(outer + "/");
}

Result<Json> resource_metadata(const Url& server, const Challenge& challenge, const HttpLimits& limits) {
  if (!challenge.resource_metadata.empty()) {
    auto url = trusted_url(challenge.resource_metadata, server);
    if (!url) return url.error();
    return document(*url, limits);
  }
  const std::string path = without_slash(server.path());
  std::vector<std::string> targets;
  if (!path.empty()) targets.push_back("/.well-known/oauth-protected-resource" + path);
  targets.push_back("/.well-known/oauth-protected-resource");
  for (const auto& target : targets) {
    Url url = server;
    url.target = target;
    auto found = document(url, limits);
    if (found || found.error().kind != "no_document") return found;
  }
  return fail(Errc::not_found, server.text() + " has no metadata about its authorization", "no_document");
}

/// The order that the protocol prescribes. Errors: not_found (kind no_document).
Result<Json> server_metadata(const Url& issuer, const HttpLimits& limits) {
  const std::string path = without_slash(issuer.path());
  std::vector<std::string> targets = {"/.well-known/oauth-authorization-server" + path, "/.well-known/openid-configuration" + path};
  if (!path.empty()) targets.push_back(path + "/.well-known/openid-configuration");
  for (const auto& target : targets) {
    Url url = issuer;
    url.target = target;
    auto found = document(url, limits);
    if (found || found.error().kind != "no_document") return found;
  }
  return fail(Errc::not_found, "the authorization server " + issuer.text() + " has no metadata", "no_document");
}

/// `name=value` or `name="value"` pairs of one challenge.
void read_parameters(std::string_view text, Challenge& challenge) {
  while (!text.empty()) {
    const auto begin = text.find_first_not_of(" ,\t");
    if (begin == std::string_view::npos) return;
    text.remove_prefix(begin);
    const auto equals = text.find_first_of("=, ");
    if (equals == std::string_view::npos) return;
    if (text[equals] != '=') {  // The name of another scheme.
      text.remove_prefix(equals);
      continue;
    }
    std::string name(text.substr(0, equals)), value;
    std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    text.remove_prefix(equals + 1);
    if (text.starts_with('"')) {
      std::size_t i = 1;
      for (; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] == '\\' && i + 1 < text.size()) ++i;
        value += text[i];
      }
      text.remove_prefix(std::min(i + 1, text.size()));
    } else {
      value = text.substr(0, text.find_first_of(", "));
      text.remove_prefix(value.size());
    }
    if (name == "resource_metadata" && challenge.resource_metadata.empty()) challenge.resource_metadata = value;
    if (name == "scope" && challenge.scope.empty()) challenge.scope = value;
    if (name == "error" && challenge.error.empty()) challenge.error = value;
  }
}

}  // namespace

Challenge read_challenge(const std::vector<std::string>& headers) {
  Challenge challenge;
  for (const auto& header : headers) read_parameters(std::string_view(header).substr(0, 8192), challenge);
  return challenge;
}

Result<Discovered> discover_authorization(const Url& server, const Challenge& challenge, const HttpLimits& limits) {
  Discovered found;
  found.resource = server.text();
  found.issuer = server.origin();
  auto resource = resource_metadata(server, challenge, limits);
  if (!resource && resource.error().kind != "no_document") return resource.error();
  if (resource) {
    found.has_resource_metadata = true;
    const std::string named = text_at(*resource, "resource");
    if (!named.empty() && !covers(named, server)) {
      return wrong("the metadata of " + server.text() + " are those of another resource, " + named.substr(0, 200));
    }
    if (!named.empty()) found.resource = named;
    found.resource_scopes = texts_of(*resource, "scopes_supported");
    const auto issuers = texts_of(*resource, "authorization_servers");
    if (issuers.empty()) return wrong(server.text() + " names no authorization server");
    found.issuer = issuers.front();
  }
  const auto issuer = trusted_url(found.issuer, server);
  if (!issuer) return issuer.error();
  auto metadata = server_metadata(*issuer, limits);
  if (!metadata && (metadata.error().kind != "no_document" || found.has_resource_metadata)) return metadata.error();
  if (!metadata) {
    // Servers of 2025-03-26 without metadata: paths that everybody knows.
    found.server = Json{{"issuer", found.issuer}, {"authorization_endpoint", found.issuer + "/authorize"}, {"token_endpoint", found.issuer + "/token"},
                        {"registration_endpoint", found.issuer + "/register"}, {"code_challenge_methods_supported", Json::array({"S256"})}};
    return found;
  }
  // Compared as text: whoever answers for an issuer says exactly its name (RFC 8414, section 3.3).
  if (const std::string named = text_at(*metadata, "issuer"); named != found.issuer) {
    return wrong("the metadata of " + found.issuer + " are those of another issuer, " + named.substr(0, 200));
  }
  for (const char* endpoint : {"authorization_endpoint", "token_endpoint", "registration_endpoint"}) {
    const std::string address = text_at(*metadata, endpoint);
    if (address.empty() && std::string_view(endpoint) == "registration_endpoint") continue;
    if (const auto url = trusted_url(address, server); !url) return url.error();
  }
  const auto methods = texts_of(*metadata, "code_challenge_methods_supported");
  if (std::find(methods.begin(), methods.end(), "S256") == methods.end()) return wrong(found.issuer + " does not offer PKCE with S256, without which codes can be stolen");
  found.server = std::move(*metadata);
  return found;
}

}  // namespace kontor::tools::mcp
