#pragma once
// The listening side of HTTP/1.1: an address, connections with a thread each, and requests of bounded size and time. What
// a request means is up to who serves it.

#include "base/error.hpp"

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

namespace kontor::tools {

struct ServeLimits {
  std::size_t head_bytes_max = 64u << 10, body_bytes_max = 1u << 20;
  int idle_ms = 60'000;         ///< A connection without a request.
  int request_ms = 30'000;      ///< From the first byte of a request to its last.
  int send_ms = 30'000;         ///< Until an answer has left.
  int connections_max = 128;    ///< One more is told so and closed.
};

using ServedRequest = boost::beast::http::request<boost::beast::http::string_body>;

/// "" without such a header.
std::string header_of(const ServedRequest& request, const char* name);
/// A whole answer with a JSON body (none where it is empty). `more`: further header lines, each with its end.
std::string http_answer(int status, const std::string& body, const std::string& more = {});

/// One connection of a client.
class HttpConnection {
 public:
  HttpConnection(int socket, const ServeLimits& limits, const std::stop_token& stop) : socket_(socket), limits_(limits), stop_(stop) {}
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;
  ~HttpConnection();

  /// The next request. Errors: io (closed, or we stop), timeout (began and did not end in time), malformed, limit.
  Result<ServedRequest> read();
  /// False when it did not leave.
  bool send(std::string_view bytes);
  /// The last answer, to a request that was not read to its end: what still comes is thrown away for a moment, because
  /// closing on unread bytes would take the answer from the sender.
  void refuse(std::string_view bytes);
  /// Has the other side closed it, or do we stop?
  bool gone() const;

 private:
  Result<void> receive(std::int64_t deadline_ms);

  const int socket_;
  const ServeLimits& limits_;
  const std::stop_token& stop_;
  std::string buffer_;
};

class HttpListener {
 public:
  /// Port 0 takes a free one. Errors: usage (not an address), io.
  static Result<std::unique_ptr<HttpListener>> open(const std::string& host, std::uint16_t port);
  ~HttpListener();
  HttpListener(const HttpListener&) = delete;
  HttpListener& operator=(const HttpListener&) = delete;
  std::uint16_t port() const { return port_; }

  /// Accepts until asked to stop; `serve` has each connection on a thread of its own and ends soon after `stop`.
  void run(const std::stop_token& stop, const ServeLimits& limits, std::function<void(HttpConnection&)> serve);
  /// Waits until the connections of `run` have ended; false when they did not within the time.
  bool wait_closed(int timeout_ms) const;

 private:
  HttpListener(int socket, std::uint16_t port) : socket_(socket), port_(port) {}
  int socket_ = -1;
  std::uint16_t port_ = 0;
  std::shared_ptr<std::atomic<int>> connections_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace kontor::tools
