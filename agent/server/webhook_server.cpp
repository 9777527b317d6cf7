#include "agent/server/webhook_server.hpp"

#include <boost/beast/http/verb.hpp>
#include <nlohmann/json.hpp>

#include <arpa/inet.h>

#include <limits>
#include <utility>

namespace kontor::agent {
namespace {

using boost::beast::http::verb;
using tools::HttpConnection;
using tools::ServedRequest;

constexpr const char* kHealth = "/health";
constexpr int kClosingMs = 1'000;
constexpr const char* kSignatures[] = {"Kontor-Signature", "X-Hub-Signature-256"};

bool is_loopback_address(const std::string& host) {
  in_addr four{};
  if (::inet_pton(AF_INET, host.c_str(), &four) == 1) return (ntohl(four.s_addr) >> 24) == 127;
  return host == "localhost" || host == "::1";
}

std::string refusal(int status, const std::string& kind, const std::string& message, const std::string& more = {}) {
  return tools::http_answer(status, Json{{"error", {{"kind", kind}, {"message", message}}}}.dump(-1, ' ', false, Json::error_handler_t::replace), more);
}

std::string refusal_of(const Error& error) {
  const auto said = [&](int status, const char* kind, const std::string& more = {}) { return refusal(status, error.kind.empty() ? kind : error.kind, error.message, more); };
  switch (error.code) {
    case Errc::usage: case Errc::malformed: case Errc::limit: return said(400, "input");
    case Errc::conflict: return said(409, "conflict", "Retry-After: 10\r\n");
    case Errc::budget: return said(429, "queue_full", "Retry-After: 10\r\n");
    case Errc::cancelled: return said(503, "stopping", "Retry-After: 10\r\n");
    // What is wrong with this machine is said here, not to whoever sent the message.
    default: return refusal(500, "internal", "the run could not be started; the log of the server says why");
  }
}

}  // namespace

struct WebhookServer::Shared {
  struct Hook {
    Webhook webhook;
    std::unique_ptr<WebhookGuard> guard;
  };
  std::map<std::string, Hook, std::less<>> hooks;
  WebhookSetup setup;

  void serve(HttpConnection& connection) {
    for (;;) {
      const auto request = connection.read();
      if (!request) {
        const std::string closing = "Connection: close\r\n";
        if (request.error().code == Errc::limit) connection.refuse(refusal(request.error().kind == "head" ? 431 : 413, "limit", request.error().message, closing));
        if (request.error().code == Errc::timeout) connection.refuse(refusal(408, "timeout", request.error().message, closing));
        if (request.error().code == Errc::malformed) connection.refuse(refusal(400, "http", request.error().message, closing));
        return;
      }
      if (!connection.send(answer(*request)) || !request->keep_alive()) return;
    }
  }

  std::string answer(const ServedRequest& request) {
    const std::string_view target(request.target().data(), request.target().size());
    const std::string_view path = target.substr(0, target.find('?'));
    if (path == kHealth) {
      if (request.method() == verb::get) return tools::http_answer(200, R"({"status":"ok"})");
      return refusal(405, "method", "use GET", "Allow: GET\r\n");
    }
    const auto hook = hooks.find(path);
    if (hook == hooks.end()) return refusal(404, "not_found", "nothing is served here");
    if (request.method() != verb::post) return refusal(405, "method", "use POST", "Allow: POST\r\n");
    return posted(hook->second, request);
  }

  static std::string posted(const Hook& hook, const ServedRequest& request) {
    // One signature: of two nobody could say which was meant.
    std::string name, value;
    std::size_t count = 0;
    for (const char* known : kSignatures) {
      count += request.count(known);
      if (request.count(known) > 0) name = known, value = tools::header_of(request, known);
    }
    if (count > 1) return refusal(400, "signature", "there is more than one signature");
    const auto not_believed = [](const Error& error) { return refusal(401, "signature", error.message, "WWW-Authenticate: Kontor-Signature\r\n"); };
    if (auto good = hook.guard->check(name, value, request.body()); !good) return not_believed(good.error());
    const auto run = hook.webhook.start(request.body(), value);
    if (run) return tools::http_answer(202, Json{{"run", *run}}.dump());
    if (run.error().code == Errc::denied) return not_believed(run.error());
    hook.guard->forget(value);
    return refusal_of(run.error());
  }
};

Result<void> read_listen(const std::string& text, WebhookSetup& setup) {
  const auto wrong = [&] { return fail(Errc::usage, "--listen takes ADDRESS:PORT, such as 127.0.0.1:8787, not '" + text + "'", "listen"); };
  const auto colon = text.rfind(':');
  std::string host = colon == std::string::npos ? std::string() : text.substr(0, colon);
  const std::string digits = colon == std::string::npos ? text : text.substr(colon + 1);
  if (digits.empty() || digits.size() > 5 || digits.find_first_not_of("0123456789") != std::string::npos) return wrong();
  const int port = std::stoi(digits);
  if (port > std::numeric_limits<std::uint16_t>::max()) return wrong();
  if (colon != std::string::npos) {
    const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (brackets) host = host.substr(1, host.size() - 2);
    if (host.empty() || (!brackets && host.find(':') != std::string::npos)) return wrong();
    setup.host = host;
  }
  setup.port = static_cast<std::uint16_t>(port);
  return {};
}

Result<std::unique_ptr<WebhookServer>> WebhookServer::open(std::map<std::string, Webhook> hooks, WebhookSetup setup) {
  if (setup.airgap && !is_loopback_address(setup.host)) return fail(Errc::denied, "--airgap listens on this machine only (127.0.0.1), not on " + setup.host, "airgap");
  auto shared = std::make_shared<Shared>();
  shared->setup = setup;
  for (auto& [path, webhook] : hooks) {
    if (path == kHealth) return fail(Errc::usage, "the webhook " + path + " is a path of the server itself", "webhook");
    if (webhook.secret.empty()) return fail(Errc::usage, "the secret of the webhook " + path + " has no value", "secret");
    auto guard = std::make_unique<WebhookGuard>(webhook.secret, *setup.clock);
    shared->hooks.emplace(path, Shared::Hook{std::move(webhook), std::move(guard)});
  }
  auto listener = tools::HttpListener::open(setup.host, setup.port);
  if (!listener) return listener.error();
  return std::unique_ptr<WebhookServer>(new WebhookServer(std::move(shared), std::move(*listener)));
}

WebhookServer::WebhookServer(std::shared_ptr<Shared> shared, std::unique_ptr<tools::HttpListener> listener) : shared_(std::move(shared)), listener_(std::move(listener)) {}
WebhookServer::~WebhookServer() = default;

void WebhookServer::run(const std::stop_token& stop) {
  listener_->run(stop, shared_->setup.limits, [shared = shared_](HttpConnection& connection) { shared->serve(connection); });
  // What the hooks start lives as long as their owner, so nobody may be left here.
  while (!listener_->wait_closed(kClosingMs)) {}
}

}  // namespace kontor::agent
