#pragma once
// One HTTP/1.1 request over TCP or TLS, with time limits, from a thread that may block.

#include "agent/cli/http_url.hpp"
#include "base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace kontor::agent::cli {

/// Used by one thread. A connection serves one request.
class HttpConnection {
 public:
  HttpConnection();
  ~HttpConnection();

  /// Connects and, for https, verifies the certificate for the host. With `loopback_only` nothing but this machine is
  /// ever contacted, not even a name server. Errors: denied (airgap), io, timeout.
  Result<void> open(const HttpUrl& url, bool loopback_only);

  /// Sends GET with the given extra headers and reads the head of the answer. Errors: io, timeout, malformed.
  Result<void> get(const HttpUrl& url, const std::vector<std::pair<std::string, std::string>>& headers);
  int status() const;
  /// "" where the answer has no such header.
  std::string header(const std::string& name) const;

  /// Reads a piece of the body; 0 at its end. Errors: io (also where the connection ends before the body), timeout.
  Result<std::size_t> read(std::span<char> into);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kontor::agent::cli
