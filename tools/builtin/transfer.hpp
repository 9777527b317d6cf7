#pragma once
// One exchange with a server through libcurl, with a deadline, a stop token, bounds on what comes back, and a say about
// every address before it is connected to.

#include "base/error.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kontor::tools {

/// A URL as libcurl understands it: what is judged here is what will be connected to.
class WebAddress {
 public:
  /// http and https without a user part. Errors: usage.
  static Result<WebAddress> parse(const std::string& text);
  /// Where `location` leads from here. Errors: usage.
  Result<WebAddress> resolved(const std::string& location) const;

  bool secure() const { return scheme_ == "https"; }
  const std::string& host() const { return host_; }  ///< Lower case, without brackets and final dot.
  std::uint16_t port() const { return port_; }
  /// "https://host:port"
  std::string origin() const;
  const std::string& text() const { return text_; }

 private:
  static Result<WebAddress> read(void* handle);
  std::string scheme_, host_, text_;
  std::uint16_t port_ = 0;
};

using WebHeaders = std::vector<std::pair<std::string, std::string>>;

struct WebRequest {
  std::string method = "GET";
  WebAddress address;
  WebHeaders headers;
  std::string body;
  std::int64_t timeout_ms = 30'000;
  std::size_t body_bytes = 4u << 20;
  std::string ca_file;                       ///< Beside nothing: replaces the system's certificates. Empty: the system's.
  std::function<Result<void>(const std::string& address)> permit;  ///< Numeric address; an error refuses it.
};

struct WebAnswer {
  int status = 0;
  WebHeaders headers;
  std::string body;
  /// The first header of that name (lower case), or "".
  std::string header(std::string_view name) const;
};

/// Can it stand in a request? No line breaks, no control characters, a name without ':', ';' and blanks.
bool is_header(std::string_view name, std::string_view value);

/// Redirects are answers like others; proxies of the environment are not used. Errors: denied, timeout, cancelled,
/// limit, io (kind tls: the certificate or handshake).
Result<WebAnswer> transfer(const WebRequest& request, std::stop_token stop);

}  // namespace kontor::tools
