#include "tools/http/connection.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/rfc7230.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

namespace kontor::tools {
namespace {

namespace http = boost::beast::http;

constexpr int kPollMs = 100;
constexpr int kBacklog = 64;

std::int64_t now_ms() { return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

const char* reason_of(int status) {
  switch (status) {
    case 200: return "OK";
    case 202: return "Accepted";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 431: return "Request Header Fields Too Large";
    case 429: return "Too Many Requests";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    default: return "Error";
  }
}

/// What the parser lets through and would read as another request than a proxy in front of us: two hosts, and a body in
/// a coding that is not known, which would stay behind as the next request.
bool is_ambiguous(const http::request<http::string_body>& request) {
  if (request.version() >= 11 && request.count(http::field::host) != 1) return true;
  const auto codings = request.count(http::field::transfer_encoding);
  if (codings == 0) return false;
  return codings > 1 || request.version() < 11 || !boost::beast::iequals(request[http::field::transfer_encoding], "chunked");
}

}  // namespace

std::string header_of(const ServedRequest& request, const char* name) {
  const auto found = request.find(name);
  return found == request.end() ? std::string() : std::string(found->value());
}

std::string http_answer(int status, const std::string& body, const std::string& more) {
  std::string text = "HTTP/1.1 " + std::to_string(status) + " " + reason_of(status) + "\r\n" + more;
  if (!body.empty()) text += "Content-Type: application/json\r\n";
  text += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
  return text + body;
}

HttpConnection::~HttpConnection() { ::close(socket_); }

Result<ServedRequest> HttpConnection::read() {
  http::request_parser<http::string_body> parser;
  parser.eager(true);
  parser.header_limit(static_cast<std::uint32_t>(limits_.head_bytes_max));
  parser.body_limit(limits_.body_bytes_max);
  std::int64_t deadline = now_ms() + limits_.idle_ms;
  bool begun = false, continued = false;
  for (;;) {
    while (!buffer_.empty()) {
      if (!std::exchange(begun, true)) deadline = now_ms() + limits_.request_ms;
      boost::system::error_code code;
      const std::size_t used = parser.put(boost::asio::buffer(buffer_), code);
      buffer_.erase(0, used);
      if (code == http::error::need_more) break;
      if (code == http::error::header_limit) return fail(Errc::limit, "the head of the request is too long", "head");
      if (code == http::error::body_limit) return fail(Errc::limit, "the request is too long");
      if (code) return fail(Errc::malformed, "not a request of HTTP/1.1");
      if (parser.is_header_done() && is_ambiguous(parser.get())) return fail(Errc::malformed, "a request has one Host, and no Transfer-Encoding but chunked");
      if (parser.is_done()) return parser.release();
      if (used == 0) break;
    }
    // The parser keeps what it could not use yet in our buffer: a head without an end must not grow.
    if (!parser.is_header_done() && buffer_.size() > limits_.head_bytes_max) return fail(Errc::limit, "the head of the request is too long", "head");
    if (parser.is_header_done() && http::token_list(parser.get()[http::field::expect]).exists("100-continue") && buffer_.empty() && !std::exchange(continued, true)) {
      send("HTTP/1.1 100 Continue\r\n\r\n");
    }
    if (auto more = receive(deadline); !more) {
      if (more.error().code == Errc::timeout && !begun) return fail(Errc::io, "the connection was idle");
      return more.error();
    }
  }
}

bool HttpConnection::send(std::string_view bytes) {
  const std::int64_t deadline = now_ms() + limits_.send_ms;
  while (!bytes.empty()) {
    const ssize_t count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(count));
      continue;
    }
    if (count < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (now_ms() >= deadline) return false;
    pollfd writable{socket_, POLLOUT, 0};
    ::poll(&writable, 1, kPollMs);
  }
  return true;
}

void HttpConnection::refuse(std::string_view bytes) {
  constexpr int kLingerMs = 500;
  constexpr std::size_t kLingerBytes = 4u << 20;
  if (!send(bytes)) return;
  ::shutdown(socket_, SHUT_WR);
  const std::int64_t deadline = now_ms() + kLingerMs;
  for (std::size_t dropped = 0; dropped < kLingerBytes && receive(deadline); buffer_.clear()) dropped += buffer_.size();
}

bool HttpConnection::gone() const {
  if (stop_.stop_requested()) return true;
  char byte = 0;
  const ssize_t count = ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR);
}

Result<void> HttpConnection::receive(std::int64_t deadline) {
  char piece[16384];
  while (!stop_.stop_requested()) {
    const std::int64_t left = deadline - now_ms();
    if (left <= 0) return fail(Errc::timeout, "the request took too long");
    pollfd from{socket_, POLLIN, 0};
    if (::poll(&from, 1, static_cast<int>(std::min<std::int64_t>(left, kPollMs))) <= 0) continue;
    const ssize_t count = ::recv(socket_, piece, sizeof piece, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (count <= 0) return fail(Errc::io, "the connection ended");
    buffer_.append(piece, static_cast<std::size_t>(count));
    return {};
  }
  return fail(Errc::io, "the server stops");
}

Result<std::unique_ptr<HttpListener>> HttpListener::open(const std::string& host, std::uint16_t wanted) {
  const std::string shown = host + ":" + std::to_string(wanted);
  sockaddr_in four{};
  sockaddr_in6 six{};
  const std::string number = host == "localhost" ? "127.0.0.1" : host;
  const bool is_six = ::inet_pton(AF_INET6, number.c_str(), &six.sin6_addr) == 1;
  if (!is_six && ::inet_pton(AF_INET, number.c_str(), &four.sin_addr) != 1) return fail(Errc::usage, "'" + host + "' is not an address to listen on", "url");
  four.sin_family = AF_INET, four.sin_port = htons(wanted);
  six.sin6_family = AF_INET6, six.sin6_port = htons(wanted);
  auto* address = is_six ? reinterpret_cast<sockaddr*>(&six) : reinterpret_cast<sockaddr*>(&four);
  socklen_t size = is_six ? sizeof six : sizeof four;
  const int socket = ::socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket < 0) return fail_errno("make a socket for", shown);
  const int yes = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(socket, address, size) != 0 || ::listen(socket, kBacklog) != 0 || ::getsockname(socket, address, &size) != 0) {
    const Error error = fail_errno("listen on", shown);
    ::close(socket);
    return error;
  }
  return std::unique_ptr<HttpListener>(new HttpListener(socket, ntohs(is_six ? six.sin6_port : four.sin_port)));
}

HttpListener::~HttpListener() { ::close(socket_); }

void HttpListener::run(const std::stop_token& stop, const ServeLimits& limits, std::function<void(HttpConnection&)> serve) {
  while (!stop.stop_requested()) {
    pollfd from{socket_, POLLIN, 0};
    if (::poll(&from, 1, kPollMs) <= 0) continue;
    const int client = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) {
      // Out of descriptors: the connection stays where it is, so do not spin.
      if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
      continue;
    }
    if (*connections_ >= limits.connections_max) {
      const std::string full = http_answer(503, {}, "Retry-After: 1\r\nConnection: close\r\n");
      ::send(client, full.data(), full.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      ::close(client);
      continue;
    }
    const int yes = 1;
    ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    ++*connections_;
    std::thread([count = connections_, client, stop, limits, serve] {
      {
        HttpConnection connection(client, limits, stop);
        serve(connection);
      }
      --*count;
    }).detach();
  }
}

bool HttpListener::wait_closed(int timeout_ms) const {
  constexpr int kStepMs = 10;
  for (int waited = 0; *connections_ > 0; waited += kStepMs) {
    if (waited >= timeout_ms) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(kStepMs));
  }
  return true;
}

}  // namespace kontor::tools
