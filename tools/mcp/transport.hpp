#pragma once
// How requests get to a server and answers back. The client above knows the protocol, the transports below know pipes
// and HTTP.

#include "tools/mcp/message.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace kontor::tools::mcp {

/// What a server sends unasked. Called on threads of the transport; requests one after the other.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual void notified(const std::string& method, const Json& params) = 0;
  virtual Reply asked(const std::string& method, const Json& params) = 0;
  /// Notifications may have been missed: their stream broke off and was opened again.
  virtual void interrupted() = 0;
  /// A line for the log of this server: what it did wrong, what it wrote to stderr.
  virtual void noted(const std::string& line) = 0;
};

/// How long, and how, a request is waited for.
struct Patience {
  std::chrono::steady_clock::time_point deadline;
  std::stop_token stop;
  std::function<void(const Json& params)> progress;  ///< notifications/progress of this request; may be empty.

  static Patience of_ms(std::int64_t timeout_ms, std::stop_token stop = {}) {
    return {std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms), std::move(stop), {}};
  }
};

using Headers = std::vector<std::pair<std::string, std::string>>;

/// Thread-safe: several requests may be at work at once.
class Transport {
 public:
  virtual ~Transport() = default;

  /// Before the first request. `peer` outlives the transport.
  virtual Result<void> start(Peer& peer) = 0;
  /// Sends a request and waits for its answer: a result or an error message. Gives the request up at the deadline and
  /// when asked to stop, and tells the server so.
  /// Errors: timeout, cancelled; io (kind closed) when the server is gone: the request may have been worked on;
  /// io (kind refused) when it certainly was not; limit, malformed; denied (kind unauthorized).
  virtual Result<Message> exchange(const std::string& method, const Json& params, const Headers& headers, const Patience& patience) = 0;
  virtual Result<void> notify(const std::string& method, const Json& params) = 0;
  /// Sends a request that is answered by notifications alone, and keeps their stream open as long as the server bears it.
  /// Once, after `agreed`. Does not wait: what becomes of it is noted.
  virtual void subscribe(const std::string& method, const Json& params) = 0;
  /// The revision that both sides agreed on; until then requests are sent as `kStateless`.
  virtual void agreed(const std::string& revision) = 0;
  /// False when every further request would fail.
  virtual bool alive() const = 0;
  /// Are headers of any use here?
  virtual bool has_headers() const { return false; }
};

}  // namespace kontor::tools::mcp
