#pragma once
// A server behind an address: streamable HTTP, both revisions, one endpoint.

#include "tools/http/connection.hpp"
#include "tools/mcp/dispatcher.hpp"

#include <cstdint>
#include <string>

namespace kontor::tools::mcp {

struct ListenSetup {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;                ///< 0 takes a free one.
  std::string path = "/mcp";
  std::string token;                     ///< Demanded as a bearer token where it is set; a must off this machine.
  int connections_max = 128;
  std::size_t sessions_max = 256;
  int resume_ms = 60'000;                ///< A request whose stream broke off works on for so long without a reader.
};

class HttpServer {
 public:
  /// Errors: io, denied (an address that others can reach, without a token), usage.
  static Result<std::unique_ptr<HttpServer>> open(Dispatcher& dispatcher, ListenSetup setup);
  ~HttpServer();
  std::uint16_t port() const { return listener_->port(); }
  /// Serves until asked to stop.
  void run(const std::stop_token& stop);

 private:
  struct Shared;
  HttpServer(std::shared_ptr<Shared> shared, std::unique_ptr<HttpListener> listener) : shared_(std::move(shared)), listener_(std::move(listener)) {}
  std::shared_ptr<Shared> shared_;
  std::unique_ptr<HttpListener> listener_;
};

}  // namespace kontor::tools::mcp
