#include "agent/cli/http_url.hpp"

#include <algorithm>

namespace kontor::agent::cli {
namespace {

bool clean(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c > 0x20 && c < 0x7f; });
}

bool valid_port(const std::string& port) {
  return !port.empty() && port.size() <= 5 && std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
         std::stoi(port) >= 1 && std::stoi(port) <= 65535;
}

}  // namespace

std::optional<HttpUrl> parse_http_url(std::string_view text) {
  HttpUrl url;
  if (text.size() > 8192 || !clean(text)) return std::nullopt;
  if (text.starts_with("https://")) url.secure = true, text.remove_prefix(8);
  else if (text.starts_with("http://")) text.remove_prefix(7);
  else return std::nullopt;
  const std::size_t end = std::min(text.find_first_of("/?#"), text.size());
  std::string_view authority = text.substr(0, end);
  std::string_view rest = text.substr(end);
  rest = rest.substr(0, rest.find('#'));
  if (authority.find('@') != std::string_view::npos) return std::nullopt;
  if (authority.starts_with('[')) {
    const std::size_t close = authority.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    url.host = authority.substr(1, close - 1);
    authority.remove_prefix(close + 1);
  } else {
    const std::size_t colon = std::min(authority.find(':'), authority.size());
    url.host = authority.substr(0, colon);
    authority.remove_prefix(colon);
  }
  url.port = url.secure ? "443" : "80";
  if (!authority.empty()) {
    if (authority.front() != ':') return std::nullopt;
    url.port = authority.substr(1);
  }
  if (url.host.empty() || !valid_port(url.port)) return std::nullopt;
  url.target = rest.starts_with('/') ? std::string(rest) : "/" + std::string(rest);
  return url;
}

std::optional<HttpUrl> resolve_redirect(const HttpUrl& base, std::string_view location) {
  if (location.find("://") != std::string_view::npos && location.find("://") < location.find_first_of("/?#")) return parse_http_url(location);
  if (location.starts_with("//")) return parse_http_url((base.secure ? "https:" : "http:") + std::string(location));
  if (location.empty() || !clean(location)) return std::nullopt;
  HttpUrl url = base;
  location = location.substr(0, location.find('#'));
  if (location.starts_with('/')) url.target = location;
  else url.target = base.target.substr(0, base.target.substr(0, base.target.find('?')).rfind('/') + 1) + std::string(location);
  return url;
}

std::string file_name_of(const HttpUrl& url) {
  std::string path = url.target.substr(0, url.target.find('?'));
  std::string name = path.substr(path.rfind('/') + 1);
  if (name == "." || name == ".." || name.find('%') != std::string::npos) return "";
  return name;
}

std::string host_header(const HttpUrl& url) {
  const std::string host = url.host.find(':') != std::string::npos ? "[" + url.host + "]" : url.host;
  return url.port == (url.secure ? "443" : "80") ? host : host + ":" + url.port;
}

}  // namespace kontor::agent::cli
