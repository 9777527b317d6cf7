#include "tools/mcp/serve_http.hpp"

#include "tools/base64.hpp"
#include "tools/mcp/client.hpp"
#include "tools/mcp/headers.hpp"
#include "tools/mcp/http_client.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>

#include <openssl/crypto.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <deque>
#include <thread>
#include <utility>

namespace kontor::tools::mcp {
namespace {

namespace http = boost::beast::http;
using SteadyClock = std::chrono::steady_clock;

constexpr int kPollMs = 100;
constexpr int kIdleSeconds = 60;         // A connection without a request.
constexpr int kRequestSeconds = 30;      // From the first byte of a request to its last.
constexpr int kSendSeconds = 30;
constexpr std::size_t kHeadBytesMax = 64u << 10;
constexpr int kKeepAliveSeconds = 15;

using Request = http::request<http::string_body>;

std::string header(const Request& request, const char* name) {
  const auto found = request.find(name);
  return found == request.end() ? std::string() : std::string(found->value());
}

/// One connection of a client.
class Line {
 public:
  Line(int socket, const std::stop_token& stop) : socket_(socket), stop_(stop) {}
  ~Line() { ::close(socket_); }

  /// Errors: io (closed, too slow), malformed, limit.
  Result<Request> read() {
    http::request_parser<http::string_body> parser;
    parser.eager(true);
    parser.header_limit(kHeadBytesMax);
    parser.body_limit(kMessageBytesMax);
    auto deadline = SteadyClock::now() + std::chrono::seconds(kIdleSeconds);
    bool begun = false;
    for (;;) {
      while (!buffer_.empty()) {
        if (!std::exchange(begun, true)) deadline = SteadyClock::now() + std::chrono::seconds(kRequestSeconds);
        boost::system::error_code code;
        const std::size_t used = parser.put(boost::asio::buffer(buffer_), code);
        buffer_.erase(0, used);
        if (code == http::error::need_more) break;
        if (code == http::error::body_limit || code == http::error::header_limit) return fail(Errc::limit, "the request is too long");
        if (code) return fail(Errc::malformed, "not a request of HTTP/1.1");
        if (parser.is_done()) return parser.release();
        if (used == 0) break;
      }
      if (parser.is_header_done() && http::token_list(parser.get()[http::field::expect]).exists("100-continue") && buffer_.empty() && !std::exchange(continued_, true)) {
        send("HTTP/1.1 100 Continue\r\n\r\n");
      }
      if (!receive(deadline)) return fail(Errc::io, "the connection ended");
    }
  }

  bool send(std::string_view bytes) {
    const auto deadline = SteadyClock::now() + std::chrono::seconds(kSendSeconds);
    while (!bytes.empty()) {
      const ssize_t count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count > 0) {
        bytes.remove_prefix(static_cast<std::size_t>(count));
        continue;
      }
      if (count < 0 && errno != EAGAIN && errno != EINTR) return false;
      if (SteadyClock::now() >= deadline) return false;
      pollfd writable{socket_, POLLOUT, 0};
      ::poll(&writable, 1, kPollMs);
    }
    return true;
  }

  /// Has the other side closed it?
  bool gone() const {
    if (stop_.stop_requested()) return true;
    char byte = 0;
    const ssize_t count = ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR);
  }

 private:
  bool receive(SteadyClock::time_point deadline) {
    char piece[16384];
    while (!stop_.stop_requested() && SteadyClock::now() < deadline) {
      pollfd from{socket_, POLLIN, 0};
      if (::poll(&from, 1, kPollMs) <= 0) continue;
      const ssize_t count = ::recv(socket_, piece, sizeof piece, MSG_DONTWAIT);
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (count <= 0) return false;
      buffer_.append(piece, static_cast<std::size_t>(count));
      return true;
    }
    return false;
  }

  const int socket_;
  const std::stop_token& stop_;
  std::string buffer_;
  bool continued_ = false;
};

const char* reason_of(int status) {
  switch (status) {
    case 200: return "OK";
    case 202: return "Accepted";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Content Too Large";
    case 503: return "Service Unavailable";
    default: return "Error";
  }
}

std::string plain_answer(int status, const std::string& body, const std::string& more = {}) {
  std::string text = "HTTP/1.1 " + std::to_string(status) + " " + reason_of(status) + "\r\n" + more;
  if (!body.empty()) text += "Content-Type: application/json\r\n";
  text += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
  return text + body;
}

std::string event_of(const std::string& message) { return "event: message\ndata: " + message + "\n\n"; }

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
  std::map<std::string, std::shared_ptr<Session>> sessions;
  std::deque<std::string> order;         ///< The oldest session makes room.
  std::atomic<int> connections{0};

  Shared(Dispatcher& dispatcher, ListenSetup setup) : dispatcher(dispatcher), setup(std::move(setup)) {}

  std::shared_ptr<Session> new_session() {
    auto session = std::make_shared<Session>(random_text(24));
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

  std::shared_ptr<Session> find_session(const std::string& id) {
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
  bool answer(Line& line, const Message& message, const std::shared_ptr<Session>& session, const std::string& more);
  std::string refusal(const Request& request) const;
  std::optional<RpcError> header_problem(const Request& request, const Message& message) const;
};

/// "" when the sender may talk to us: pages of other places may not (DNS rebinding).
std::string HttpServer::Shared::refusal(const Request& request) const {
  const std::string host = host_of(header(request, "Host"));
  const bool local = is_loopback_host(setup.host);
  if (local ? !is_loopback_host(host) : host.empty()) return plain_answer(403, write_error(nullptr, {kInvalidRequest, "this Host is not served"}));
  if (const std::string origin = header(request, "Origin"); !origin.empty()) {
    const auto url = parse_url(origin);
    if (!url || (!is_loopback_host(url->host) && url->host != host)) return plain_answer(403, write_error(nullptr, {kInvalidRequest, "this Origin is not served"}));
    if (!local && url->host != host) return plain_answer(403, write_error(nullptr, {kInvalidRequest, "this Origin is not served"}));
  }
  if (!setup.token.empty()) {
    const std::string given = header(request, "Authorization"), wanted = "Bearer " + setup.token;
    const bool same = given.size() == wanted.size() && CRYPTO_memcmp(given.data(), wanted.data(), wanted.size()) == 0;
    if (!same) return plain_answer(401, write_error(nullptr, {kInvalidRequest, "a bearer token is needed"}), "WWW-Authenticate: Bearer\r\n");
  }
  if (std::string(request.target()).substr(0, request.target().find('?')) != setup.path) return plain_answer(404, {});
  return {};
}

/// Headers repeat what the body says, and have to say the same.
std::optional<RpcError> HttpServer::Shared::header_problem(const Request& request, const Message& message) const {
  const auto differs = [](const std::string& name) { return RpcError{kHeaderMismatch, "header " + name + " is missing, or is not what the body says"}; };
  const std::string version = text_at(object_at(message.body, "_meta"), kMetaVersion);
  if (header(request, "MCP-Protocol-Version") != version) return differs("MCP-Protocol-Version");
  if (version != kStateless || message.kind != Message::Kind::request) return std::nullopt;
  if (header(request, "Mcp-Method") != message.method) return differs("Mcp-Method");
  const bool by_uri = message.method == "resources/read";
  if (by_uri || message.method == "tools/call" || message.method == "prompts/get") {
    const auto name = from_header_value(header(request, "Mcp-Name"));
    if (!request.count("Mcp-Name") || !name || *name != text_at(message.body, by_uri ? "uri" : "name")) return differs("Mcp-Name");
  }
  if (message.method != "tools/call") return std::nullopt;
  for (const auto& tool : dispatcher.offer().tools()) {
    if (text_at(tool, "name") != text_at(message.body, "name")) continue;
    const auto wanted = argument_headers(object_at(tool, "inputSchema"), object_at(message.body, "arguments"));
    if (!wanted) continue;
    for (const auto& [name, value] : *wanted) {
      if (!request.count(name) || from_header_value(header(request, name.c_str())) != from_header_value(value)) return differs(name);
    }
  }
  return std::nullopt;
}

void HttpServer::Shared::serve(Line& line) {
  for (;;) {
    auto request = line.read();
    if (!request) {
      if (request.error().code == Errc::limit) line.send(plain_answer(413, {}, "Connection: close\r\n"));
      if (request.error().code == Errc::malformed) line.send(plain_answer(400, {}, "Connection: close\r\n"));
      return;
    }
    if (!serve_one(line, *request) || !request->keep_alive()) return;
  }
}

/// False when the connection is used up.
bool HttpServer::Shared::serve_one(Line& line, const Request& request) {
  if (const std::string refused = refusal(request); !refused.empty()) return line.send(refused);
  const auto session = find_session(header(request, "Mcp-Session-Id"));
  switch (request.method()) {
    case http::verb::post: return post(line, request);
    case http::verb::delete_:
      if (!session) return line.send(plain_answer(404, {}));
      end_session(session->id());
      return line.send(plain_answer(200, {}));
    case http::verb::get: {
      if (header(request, "Accept").find("text/event-stream") == std::string::npos || !session) return line.send(plain_answer(405, {}, "Allow: POST, DELETE\r\n"));
      // For what we would say unasked; nothing so far, so it is only kept open.
      line.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\n: open\n\n");
      auto spoken = SteadyClock::now();
      while (!line.gone() && find_session(session->id())) {
        std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
        if (SteadyClock::now() - spoken < std::chrono::seconds(kKeepAliveSeconds)) continue;
        if (!line.send(":\n\n")) return false;
        spoken = SteadyClock::now();
      }
      return false;
    }
    default: return line.send(plain_answer(405, {}, "Allow: POST, GET, DELETE\r\n"));
  }
}

bool HttpServer::Shared::post(Line& line, const Request& request) {
  auto message = parse_message(request.body());
  if (!message) {
    const bool syntax = message.error().kind != "not_a_message";
    return line.send(plain_answer(400, write_error(nullptr, {syntax ? kParseError : kInvalidRequest, message.error().describe()})));
  }
  const std::string version = header(request, "MCP-Protocol-Version"), id = header(request, "Mcp-Session-Id");
  const bool older = is_handshake_revision(version) || (version.empty() && !Dispatcher::is_stateless(*message));
  if (!older) {
    // Everything but a revision with handshake is held to the rules of the stateless one.
    if (message->kind == Message::Kind::request) {
      const Json& meta = object_at(message->body, "_meta");
      if (!meta.contains(kMetaVersion)) return line.send(plain_answer(400, write_error(message->id, {kInvalidParams, std::string("'_meta' has no ") + kMetaVersion})));
      if (const auto problem = header_problem(request, *message)) return line.send(plain_answer(400, write_error(message->id, *problem)));
    }
    return answer(line, *message, std::make_shared<Session>(""), {});
  }
  if (message->kind == Message::Kind::request && message->method == "initialize") {
    auto session = new_session();
    return answer(line, *message, session, "Mcp-Session-Id: " + session->id() + "\r\n");
  }
  const auto session = find_session(id);
  if (!session) {
    const int status = id.empty() ? 400 : 404;
    return line.send(plain_answer(status, write_error(message->id, {kInvalidRequest, id.empty() ? "the header Mcp-Session-Id is missing" : "there is no such session"})));
  }
  return answer(line, *message, session, {});
}

bool HttpServer::Shared::answer(Line& line, const Message& message, const std::shared_ptr<Session>& session, const std::string& more) {
  bool streams = false, open = true;
  const auto send = [&](const std::string& text) {
    if (!std::exchange(streams, true)) {
      open = line.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\nConnection: close\r\n" + more + "\r\n");
    }
    open = open && line.send(event_of(text));
  };
  const auto outcome = dispatcher.handle(message, *session, send, [&] { return !open || line.gone(); });
  if (streams) {
    if (!outcome.message.empty() && open) line.send(event_of(outcome.message));
    return false;
  }
  if (outcome.message.empty()) return line.send(plain_answer(202, {}, more));
  return line.send(plain_answer(outcome.status, outcome.message, more));
}

Result<std::unique_ptr<HttpServer>> HttpServer::open(Dispatcher& dispatcher, ListenSetup setup) {
  if (!is_loopback_host(setup.host) && setup.token.empty()) {
    return fail(Errc::denied, "listening on " + setup.host + ", which others can reach, needs a token", "token_missing");
  }
  const std::string shown = setup.host + ":" + std::to_string(setup.port);
  sockaddr_in four{};
  sockaddr_in6 six{};
  const std::string host = setup.host == "localhost" ? "127.0.0.1" : setup.host;
  const bool is_six = ::inet_pton(AF_INET6, host.c_str(), &six.sin6_addr) == 1;
  if (!is_six && ::inet_pton(AF_INET, host.c_str(), &four.sin_addr) != 1) return fail(Errc::usage, "'" + setup.host + "' is not an address to listen on", "url");
  four.sin_family = AF_INET, four.sin_port = htons(setup.port);
  six.sin6_family = AF_INET6, six.sin6_port = htons(setup.port);
  auto* address = is_six ? reinterpret_cast<sockaddr*>(&six) : reinterpret_cast<sockaddr*>(&four);
  socklen_t size = is_six ? sizeof six : sizeof four;
  const int socket = ::socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return fail_errno("make a socket for", shown);
  const int yes = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(socket, address, size) != 0 || ::listen(socket, 64) != 0 || ::getsockname(socket, address, &size) != 0) {
    const Error error = fail_errno("listen on", shown);
    ::close(socket);
    return error;
  }
  const std::uint16_t port = ntohs(is_six ? six.sin6_port : four.sin_port);
  return std::unique_ptr<HttpServer>(new HttpServer(std::make_shared<Shared>(dispatcher, std::move(setup)), socket, port));
}

HttpServer::~HttpServer() { ::close(socket_); }

void HttpServer::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    pollfd from{socket_, POLLIN, 0};
    if (::poll(&from, 1, kPollMs) <= 0) continue;
    const int client = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    if (shared_->connections >= shared_->setup.connections_max) {
      ::close(client);
      continue;
    }
    const int yes = 1;
    ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    ++shared_->connections;
    std::thread([shared = shared_, client, stop] {
      {
        Line line(client, stop);
        shared->serve(line);
      }
      --shared->connections;
    }).detach();
  }
  {
    const std::lock_guard lock(shared_->mutex);
    for (const auto& [id, session] : shared_->sessions) session->cancel_all();
  }
  for (int i = 0; i < 500 && shared_->connections > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

}  // namespace kontor::tools::mcp
