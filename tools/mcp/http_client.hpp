#pragma once
// One HTTP/1.1 request over TCP or TLS (verified), with a deadline, a stop token and bounds on everything that comes
// back. Redirects are answers like others.

#include "base/error.hpp"
#include "tools/egress.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kontor::tools::mcp {

struct Url {
  bool tls = false;
  std::string host;        ///< Without brackets.
  std::uint16_t port = 0;
  std::string target;      ///< Path and query, at least "/".

  /// "https://host:port" without the port when it is the usual one.
  std::string origin() const;
  std::string path() const;
  std::string text() const { return origin() + target; }
};
/// http and https alone; no user part, no fragment. Errors: usage (kind url).
Result<Url> parse_url(std::string_view text);
/// The address that a redirect names, seen from `base`; a fragment is dropped. Errors: as parse_url.
Result<Url> resolve_url(const Url& base, std::string_view location);
/// 127.0.0.0/8, ::1 and localhost.
bool is_loopback_host(std::string_view host);
/// Percent-encodes everything but letters, digits and -._~
std::string url_encoded(std::string_view text);
/// "a=1&b=2"
std::string form_encoded(const std::vector<std::pair<std::string, std::string>>& fields);

struct HttpRequest {
  std::string method = "GET";
  Url url;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

struct HttpHead {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  ///< As they came.
  /// The first header of that name, whatever its case, or "".
  std::string header(std::string_view name) const;
  /// All of them.
  std::vector<std::string> all(std::string_view name) const;
};

struct HttpLimits {
  std::chrono::steady_clock::time_point deadline;
  std::stop_token stop;
  std::uint64_t body_bytes = 16u << 20;
  Egress egress;                       ///< Asked before a name is looked up and before each connection.
  std::chrono::milliseconds idle{0};   ///< Longest wait for a step or a piece of the body; 0: only the deadline.
};

/// Sends the request; `head` sees the status and may return false to end there; `body` gets what follows, piece by
/// piece, and returns false when it has seen enough.
/// Errors: timeout, cancelled, denied (kind airgap, egress), not_found (kind host), io (kind refused: nothing was sent; kind
/// closed: the answer did not come whole), malformed, limit.
Result<HttpHead> http_stream(const HttpRequest& request, const HttpLimits& limits, const std::function<bool(const HttpHead&)>& head,
                             const std::function<bool(std::string_view)>& body);

struct HttpAnswer {
  HttpHead head;
  std::string body;
};
/// The whole answer.
Result<HttpAnswer> http_fetch(const HttpRequest& request, const HttpLimits& limits);

}  // namespace kontor::tools::mcp
