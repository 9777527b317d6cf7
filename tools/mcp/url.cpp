#include "tools/mcp/http_client.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace kontor::tools::mcp {
namespace {

constexpr std::size_t kUrlBytesMax = 8192;

bool same_name(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [&](char x, char y) { return lower(x) == lower(y); });
}

Error wrong_url(std::string_view text, const std::string& why) {
  return fail(Errc::usage, "'" + std::string(text.substr(0, 200)) + "' is not an address of http or https: " + why, "url");
}

}  // namespace

std::string Url::origin() const {
  const bool usual = port == (tls ? 443 : 80);
  const std::string shown = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return (tls ? "https://" : "http://") + shown + (usual ? "" : ":" + std::to_string(port));
}

std::string Url::path() const { return target.substr(0, target.find('?')); }

Result<Url> parse_url(std::string_view text) {
  if (text.size() > kUrlBytesMax) return wrong_url(text, "it is too long");
  const bool control = std::any_of(text.begin(), text.end(), [](unsigned char c) { return c <= 0x20 || c >= 0x7f; });
  if (control) return wrong_url(text, "it has blanks, control or non-ASCII characters");
  Url url;
  std::string_view rest = text;
  const auto colon = rest.find("://");
  const auto scheme = colon == std::string_view::npos ? std::string_view() : rest.substr(0, colon);
  if (same_name(scheme, "https")) url.tls = true;
  else if (!same_name(scheme, "http")) return wrong_url(text, "it does not begin with http:// or https://");
  rest.remove_prefix(scheme.size() + 3);
  if (rest.find('#') != std::string_view::npos) return wrong_url(text, "it has a fragment");
  const auto end = rest.find_first_of("/?");
  std::string_view authority = rest.substr(0, end);
  url.target = end == std::string_view::npos ? "/" : std::string(rest.substr(end));
  if (url.target.front() == '?') url.target.insert(0, "/");
  if (authority.find('@') != std::string_view::npos) return wrong_url(text, "it has a user");
  std::string_view port;
  if (authority.starts_with('[')) {
    const auto close = authority.find(']');
    if (close == std::string_view::npos) return wrong_url(text, "its host is cut off");
    url.host = authority.substr(1, close - 1);
    port = authority.substr(close + 1);
  } else {
    url.host = authority.substr(0, authority.find(':'));
    port = authority.substr(url.host.size());
  }
  if (url.host.empty()) return wrong_url(text, "it has no host");
  if (url.host.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:") != std::string::npos) return wrong_url(text, "its host has strange characters");
  std::transform(url.host.begin(), url.host.end(), url.host.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  url.port = url.tls ? 443 : 80;
  if (port.size() > 1) {
    const auto [stop, code] = std::from_chars(port.data() + 1, port.data() + port.size(), url.port);
    if (port.front() != ':' || code != std::errc() || stop != port.data() + port.size() || url.port == 0) return wrong_url(text, "its port is not a number up to 65535");
  } else if (!port.empty() && port != ":") {
    return wrong_url(text, "its port is not a number");
  }
  return url;
}

Result<Url> resolve_url(const Url& base, std::string_view location) {
  location = location.substr(0, location.find('#'));
  const auto scheme = location.find("://");
  if (scheme != std::string_view::npos && scheme < location.find_first_of("/?")) return parse_url(location);
  if (location.starts_with("//")) return parse_url((base.tls ? "https:" : "http:") + std::string(location));
  if (location.empty()) return wrong_url(location, "it is empty");
  if (location.starts_with('/')) return parse_url(base.origin() + std::string(location));
  const std::string path = base.path();
  return parse_url(base.origin() + path.substr(0, path.rfind('/') + 1) + std::string(location));
}

bool is_loopback_host(std::string_view host) {
  if (host == "localhost" || host == "::1") return true;
  return host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string_view::npos;
}

std::string url_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
      continue;
    }
    char escape[4];
    std::snprintf(escape, sizeof escape, "%%%02X", static_cast<unsigned char>(c));
    out += escape;
  }
  return out;
}

std::string form_encoded(const std::vector<std::pair<std::string, std::string>>& fields) {
  std::string out;
  for (const auto& [name, value] : fields) out += (out.empty() ? "" : "&") + url_encoded(name) + "=" + url_encoded(value);
  return out;
}

std::string HttpHead::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (same_name(key, name)) return value;
  }
  return {};
}

std::vector<std::string> HttpHead::all(std::string_view name) const {
  std::vector<std::string> values;
  for (const auto& [key, value] : headers) {
    if (same_name(key, name)) values.push_back(value);
  }
  return values;
}

}  // namespace kontor::tools::mcp
