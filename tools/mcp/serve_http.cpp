#include "tools/mcp/serve_http.hpp"

#include "tools/base64.hpp"
#include "tools/mcp/client.hpp"
#include "tools/mcp/event_log.hpp"
#include "tools/mcp/headers.hpp"
#include "tools/mcp/http_client.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <thread>
#include <utility>

namespace kontor::tools::mcp {
namespace {

namespace http = boost::beast::http;
using SteadyClock = std::chrono::steady_clock;

constexpr int kPollMs = 100;
constexpr int kKeepAliveSeconds = 15;
constexpr int kClosingMs = 5'000;
constexpr int kStreamAfterMs = 1'000;  // A request at work for longer is answered by a stream, which can be taken up again.
constexpr int kRetryMs = 1'000;        // When to come back.
constexpr const char* kStreamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\nConnection: close\r\n";

using Request = ServedRequest;
using Line = HttpConnection;

std::string event_of(const std::string& message, const std::string& id = {}) {
  return "event: message\n" + (id.empty() ? std::string() : "id: " + id + "\n") + "data: " + message + "\n\n";
}

/// The session of a client, with the streams that it may take up again.
struct HttpSession final : Session {
  using Session::Session;
  StreamShelf streams;
};

/// The answer to one request, as JSON or, once there is something to say before its end, as a stream.
class AnswerLine {
 public:
  /// `shelf`: where the stream is kept; null where it cannot be taken up again.
  AnswerLine(Line& line, std::string more, StreamShelf* shelf, int resume_ms) : line_(line), more_(std::move(more)), shelf_(shelf), resume_ms_(resume_ms) {}

  void send(const std::string& message) {
    start();
    const std::size_t number = log_ ? log_->append(message) : 0;
    write(event_of(message, log_ ? log_->id_of(number) : std::string()));
  }

  /// Nobody waits for the answer any more. A broken stream is waited for, as long as it can be taken up.
  bool gone() {
    if (shelf_ != nullptr && !streams_ && SteadyClock::now() - began_ > std::chrono::milliseconds(kStreamAfterMs)) start();
    if (open_ && !line_.gone()) return false;
    leave();
    return !log_ || !log_->whole() || log_->unread(left_) > std::chrono::milliseconds(resume_ms_);
  }

  /// False when the connection is used up.
  bool finish(const Outcome& outcome) {
    if (!streams_) return line_.send(outcome.message.empty() ? http_answer(202, {}, more_) : http_answer(outcome.status, outcome.message, more_));
    if (!outcome.message.empty()) send(outcome.message);
    if (log_) log_->end();
    return false;
  }

 private:
  void start() {
    if (std::exchange(streams_, true)) return;
    std::string head = kStreamHead + more_ + "\r\n";
    if (shelf_ != nullptr) {
      log_ = shelf_->open();
      head += "id: " + log_->id_of(0) + "\nretry: " + std::to_string(kRetryMs) + "\ndata:\n\n";
    }
    write(head);
  }

  void write(const std::string& bytes) {
    if (open_ && !line_.send(bytes)) leave();
  }

  void leave() {
    if (std::exchange(open_, false)) left_ = SteadyClock::now();
  }

  Line& line_;
  const std::string more_;
  StreamShelf* const shelf_;
  const int resume_ms_;
  const SteadyClock::time_point began_ = SteadyClock::now();
  SteadyClock::time_point left_{};
  std::shared_ptr<EventLog> log_;
  bool streams_ = false, open_ = true;
};

/// The host of a Host or Origin header without its port.
std::string host_of(std::string_view authority) {
  if (authority.starts_with('[')) return std::string(authority.substr(1, authority.find(']') - 1));
  return std::string(authority.substr(0, authority.find(':')));
}

}  // namespace

struct HttpServer::Shared {
  Dispatcher& dispatcher;
  const ListenSetup setup;
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<HttpSession>> sessions;
  std::deque<std::string> order;         ///< The oldest session makes room.

  Shared(Dispatcher& dispatcher, ListenSetup setup) : dispatcher(dispatcher), setup(std::move(setup)) {}

  std::shared_ptr<HttpSession> new_session() {
    auto session = std::make_shared<HttpSession>(random_text(24));
    const std::lock_guard lock(mutex);
    sessions[session->id()] = session;
    order.push_back(session->id());
    while (order.size() > setup.sessions_max) {
      if (const auto oldest = sessions.find(order.front()); oldest != sessions.end()) {
        oldest->second->cancel_all();
        sessions.erase(oldest);
      }
      order.pop_front();
    }
    return session;
  }

  std::shared_ptr<HttpSession> find_session(const std::string& id) {
    const std::lock_guard lock(mutex);
    const auto found = sessions.find(id);
    return found == sessions.end() ? nullptr : found->second;
  }

  void end_session(const std::string& id) {
    const std::lock_guard lock(mutex);
    if (const auto found = sessions.find(id); found != sessions.end()) found->second->cancel_all();
    sessions.erase(id);
  }

  void serve(Line& line);
  bool serve_one(Line& line, const Request& request);
  bool post(Line& line, const Request& request);
  bool listen(Line& line, const std::string& session_id);
  bool take_up(Line& line, const std::shared_ptr<HttpSession>& session, const std::string& event_id);
  bool answer(Line& line, const Message& message, const std::shared_ptr<HttpSession>& session, const std::string& more);
  std::string refusal(const Request& request) const;
  std::optional<RpcError> header_problem(const Request& request, const Message& message) const;
};

/// "" when the sender may talk to us: pages of other places may not (DNS rebinding).
std::string HttpServer::Shared::refusal(const Request& request) const {
  const std::string host = host_of(header_of(request, "Host"));
  const bool local = is_loopback_host(setup.host);
  if (local ? !is_loopback_host(host) : host.empty()) return http_answer(403, write_error(nullptr, {kInvalidRequest, "this Host is not served"}));
  if (const std::string origin = header_of(request, "Origin"); !origin.empty()) {
    const auto url = parse_url(origin);
    if (!url || (!is_loopback_host(url->host) && url->host != host)) return http_answer(403, write_error(nullptr, {kInvalidRequest, "this Origin is not served"}));
    if (!local && url->host != host) return http_answer(403, write_error(nullptr, {kInvalidRequest, "this Origin is not served"}));
  }
  if (!setup.token.empty()) {
    const std::string given = header_of(request, "Authorization"), wanted = "Bearer " + setup.token;
    const bool same = given.size() == wanted.size() && CRYPTO_memcmp(given.data(), wanted.data(), wanted.size()) == 0;
    if (!same) return http_answer(401, write_error(nullptr, {kInvalidRequest, "a bearer token is needed"}), "WWW-Authenticate: Bearer\r\n");
  }
  if (std::string(request.target()).substr(0, request.target().find('?')) != setup.path) return http_answer(404, {});
  return {};
}

/// Headers repeat what the body says, and have to say the same.
std::optional<RpcError> HttpServer::Shared::header_problem(const Request& request, const Message& message) const {
  const auto differs = [](const std::string& name) { return RpcError{kHeaderMismatch, "header " + name + " is missing, or is not what the body says"}; };
  const std::string version = text_at(object_at(message.body, "_meta"), kMetaVersion);
  if (header_of(request, "MCP-Protocol-Version") != version) return differs("MCP-Protocol-Version");
  if (version != kStateless || message.kind != Message::Kind::request) return std::nullopt;
  if (header_of(request, "Mcp-Method") != message.method) return differs("Mcp-Method");
  const bool by_uri = message.method == "resources/read";
  if (by_uri || message.method == "tools/call" || message.method == "prompts/get") {
    const auto name = from_header_value(header_of(request, "Mcp-Name"));
    if (!request.count("Mcp-Name") || !name || *name != text_at(message.body, by_uri ? "uri" : "name")) return differs("Mcp-Name");
  }
  if (message.method != "tools/call") return std::nullopt;
  for (const auto& tool : dispatcher.offer().tools()) {
    if (text_at(tool, "name") != text_at(message.body, "name")) continue;
    const auto wanted = argument_headers(object_at(tool, "inputSchema"), object_at(message.body, "arguments"));
    if (!wanted) continue;
    for (const auto& [name, value] : *wanted) {
      if (!request.count(name) || from_header_value(header_of(request, name.c_str())) != from_header_value(value)) return differs(name);
    }
  }
  return std::nullopt;
}

void HttpServer::Shared::serve(Line& line) {
  for (;;) {
    auto request = line.read();
    if (!request) {
      if (request.error().code == Errc::limit) line.refuse(http_answer(request.error().kind == "head" ? 431 : 413, {}, "Connection: close\r\n"));
      if (request.error().code == Errc::timeout) line.refuse(http_answer(408, {}, "Connection: close\r\n"));
      if (request.error().code == Errc::malformed) line.refuse(http_answer(400, {}, "Connection: close\r\n"));
      return;
    }
    if (!serve_one(line, *request) || !request->keep_alive()) return;
  }
}

/// False when the connection is used up.
bool HttpServer::Shared::serve_one(Line& line, const Request& request) {
  if (const std::string refused = refusal(request); !refused.empty()) return line.send(refused);
  const auto session = find_session(header_of(request, "Mcp-Session-Id"));
  switch (request.method()) {
    case http::verb::post: return post(line, request);
    case http::verb::delete_:
      if (!session) return line.send(http_answer(404, {}));
      end_session(session->id());
      return line.send(http_answer(200, {}));
    case http::verb::get: {
      if (header_of(request, "Accept").find("text/event-stream") == std::string::npos || !session) return line.send(http_answer(405, {}, "Allow: POST, DELETE\r\n"));
      const std::string event_id = header_of(request, "Last-Event-ID");
      return event_id.empty() ? listen(line, session->id()) : take_up(line, session, event_id);
    }
    default: return line.send(http_answer(405, {}, "Allow: POST, GET, DELETE\r\n"));
  }
}

/// For what we would say unasked; nothing so far, so it is only kept open.
bool HttpServer::Shared::listen(Line& line, const std::string& session_id) {
  line.send(std::string(kStreamHead) + "\r\n: open\n\n");
  auto spoken = SteadyClock::now();
  while (!line.gone() && find_session(session_id)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
    if (SteadyClock::now() - spoken < std::chrono::seconds(kKeepAliveSeconds)) continue;
    if (!line.send(":\n\n")) return false;
    spoken = SteadyClock::now();
  }
  return false;
}

/// The rest of a stream that broke off.
bool HttpServer::Shared::take_up(Line& line, const std::shared_ptr<HttpSession>& session, const std::string& event_id) {
  auto [log, number] = session->streams.find(event_id);
  if (!log || !log->whole()) return line.send(http_answer(400, write_error(nullptr, {kInvalidRequest, "no stream of this session goes on behind that event"})));
  const EventLog::Reader reader(*log);
  if (!line.send(std::string(kStreamHead) + "\r\n: open\n\n")) return false;
  auto spoken = SteadyClock::now();
  while (!line.gone() && find_session(session->id())) {
    const auto piece = log->after(number, kPollMs);
    for (const auto& message : piece.messages) {
      if (!line.send(event_of(message, log->id_of(++number)))) return false;
      spoken = SteadyClock::now();
    }
    if (!piece.whole || piece.ended) return false;
    if (SteadyClock::now() - spoken < std::chrono::seconds(kKeepAliveSeconds)) continue;
    if (!line.send(":\n\n")) return false;
    spoken = SteadyClock::now();
  }
  return false;
}

bool HttpServer::Shared::post(Line& line, const Request& request) {
  auto message = parse_message(request.body());
  if (!message) {
    const bool syntax = message.error().kind != "not_a_message";
    return line.send(http_answer(400, write_error(nullptr, {syntax ? kParseError : kInvalidRequest, message.error().describe()})));
  }
  const std::string version = header_of(request, "MCP-Protocol-Version"), id = header_of(request, "Mcp-Session-Id");
  const bool older = is_handshake_revision(version) || (version.empty() && !Dispatcher::is_stateless(*message));
  if (!older) {
    // Everything but a revision with handshake is held to the rules of the stateless one.
    if (message->kind == Message::Kind::request) {
      const Json& meta = object_at(message->body, "_meta");
      if (!meta.contains(kMetaVersion)) return line.send(http_answer(400, write_error(message->id, {kInvalidParams, std::string("'_meta' has no ") + kMetaVersion})));
      if (const auto problem = header_problem(request, *message)) return line.send(http_answer(400, write_error(message->id, *problem)));
    }
    return answer(line, *message, std::make_shared<HttpSession>(""), {});
  }
  if (message->kind == Message::Kind::request && message->method == "initialize") {
    auto session = new_session();
    return answer(line, *message, session, "Mcp-Session-Id: " + session->id() + "\r\n");
  }
  const auto session = find_session(id);
  if (!session) {
    const int status = id.empty() ? 400 : 404;
    return line.send(http_answer(status, write_error(message->id, {kInvalidRequest, id.empty() ? "the header Mcp-Session-Id is missing" : "there is no such session"})));
  }
  return answer(line, *message, session, {});
}

bool HttpServer::Shared::answer(Line& line, const Message& message, const std::shared_ptr<HttpSession>& session, const std::string& more) {
  // Older clients do not expect the event without data that opens such a stream; later ones send the request again.
  const bool resumable = message.kind == Message::Kind::request && session->is_open() && session->revision() == kHandshake;
  AnswerLine answer(line, more, resumable ? &session->streams : nullptr, setup.resume_ms);
  return answer.finish(dispatcher.handle(message, *session, [&](const std::string& text) { answer.send(text); }, [&] { return answer.gone(); }));
}

Result<std::unique_ptr<HttpServer>> HttpServer::open(Dispatcher& dispatcher, ListenSetup setup) {
  if (!is_loopback_host(setup.host) && setup.token.empty()) {
    return fail(Errc::denied, "listening on " + setup.host + ", which others can reach, needs a token", "token_missing");
  }
  auto listener = HttpListener::open(setup.host, setup.port);
  if (!listener) return listener.error();
  return std::unique_ptr<HttpServer>(new HttpServer(std::make_shared<Shared>(dispatcher, std::move(setup)), std::move(*listener)));
}

HttpServer::~HttpServer() = default;

void HttpServer::run(const std::stop_token& stop) {
  ServeLimits limits;
  limits.body_bytes_max = kMessageBytesMax;
  limits.connections_max = shared_->setup.connections_max;
  listener_->run(stop, limits, [shared = shared_](Line& line) { shared->serve(line); });
  {
    const std::lock_guard lock(shared_->mutex);
    for (const auto& [id, session] : shared_->sessions) session->cancel_all();
  }
  listener_->wait_closed(kClosingMs);
}

}  // namespace kontor::tools::mcp
