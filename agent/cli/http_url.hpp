#pragma once
// The parts of an http or https address.

#include <optional>
#include <string>
#include <string_view>

namespace kontor::agent::cli {

struct HttpUrl {
  bool secure = false;
  std::string host;    ///< Without the brackets of an IPv6 address.
  std::string port;    ///< "443" or "80" where none is given.
  std::string target;  ///< Path and query, at least "/".
};

/// Nothing where the text is no such address: other schemes, a user name, control characters or blanks.
std::optional<HttpUrl> parse_http_url(std::string_view text);

/// The address that a redirect names, seen from `base`.
std::optional<HttpUrl> resolve_redirect(const HttpUrl& base, std::string_view location);

/// The last part of the path, fit for a file name; empty where there is none.
std::string file_name_of(const HttpUrl& url);

/// Value of the Host header.
std::string host_header(const HttpUrl& url);

}  // namespace kontor::agent::cli
