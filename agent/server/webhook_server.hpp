#pragma once
// Webhooks over HTTP: POST to the path of a trigger starts a run. GET /health says that the server lives.
//
// 202 {"run": ID} comes after the run is durable. Everything else is {"error": {"kind", "message"}}: 400 body or inputs,
// 401 signature, 404 path, 405 method, 408 too slow, 409 the last run still works (overlap: skip), 413 too long, 429 too
// many wait (overlap: queue), 500 and 503. A message that was refused after its signature was good may be sent again.

#include "agent/triggers/webhook.hpp"
#include "base/json.hpp"
#include "tools/http/connection.hpp"

#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

namespace kontor::agent {

/// What stands behind one path.
struct Webhook {
  std::string secret;
  /// Starts a run for a body whose signature (the header's value) is good; returns its id when it is durable.
  /// Errors: usage, malformed, limit (the message), conflict (the last run still works), budget (too many wait),
  /// cancelled (we stop), denied (an earlier process had the message), others.
  std::function<Result<std::string>(std::string_view body, const std::string& signature)> start;
};

struct WebhookSetup {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;                   ///< 0 takes a free one.
  bool airgap = false;                      ///< Refuses addresses that others can reach.
  tools::ServeLimits limits;
  const Clock* clock = &system_clock();     ///< Age of signatures.
};

/// Splits ADDRESS:PORT, [ADDRESS]:PORT or PORT. Errors: usage.
Result<void> read_listen(const std::string& text, WebhookSetup& setup);

class WebhookServer {
 public:
  /// `hooks` by path. Errors: usage (a path that the server itself has, a missing secret), denied (airgap), io.
  static Result<std::unique_ptr<WebhookServer>> open(std::map<std::string, Webhook> hooks, WebhookSetup setup);
  ~WebhookServer();
  std::uint16_t port() const { return listener_->port(); }
  /// Serves until asked to stop, and returns when no connection is left.
  void run(const std::stop_token& stop);

 private:
  struct Shared;
  WebhookServer(std::shared_ptr<Shared> shared, std::unique_ptr<tools::HttpListener> listener);
  std::shared_ptr<Shared> shared_;
  std::unique_ptr<tools::HttpListener> listener_;
};

}  // namespace kontor::agent
