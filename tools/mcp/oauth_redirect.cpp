#include "tools/mcp/oauth.hpp"

#include "tools/uri.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace kontor::tools::mcp {
namespace {

constexpr std::size_t kRequestBytesMax = 16u << 10;
constexpr int kPollMs = 100;

std::string decoded(std::string text) {
  std::replace(text.begin(), text.end(), '+', ' ');
  return percent_decoded(text);
}

std::vector<std::pair<std::string, std::string>> parameters_of(std::string_view query) {
  std::vector<std::pair<std::string, std::string>> list;
  while (!query.empty()) {
    const auto part = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(part.size() + 1, query.size()));
    const auto equals = part.find('=');
    list.emplace_back(decoded(std::string(part.substr(0, equals))), equals == std::string_view::npos ? std::string() : decoded(std::string(part.substr(equals + 1))));
  }
  return list;
}

bool readable(int socket, const HttpLimits& limits) {
  while (!limits.stop.stop_requested() && std::chrono::steady_clock::now() < limits.deadline) {
    pollfd from{socket, POLLIN, 0};
    if (::poll(&from, 1, kPollMs) > 0) return true;
  }
  return false;
}

/// The first line of a request, or "". A browser that says nothing for 2 s is left alone.
std::string request_line(int socket, const HttpLimits& limits) {
  HttpLimits patience = limits;
  patience.deadline = std::min(limits.deadline, std::chrono::steady_clock::now() + std::chrono::seconds(2));
  std::string text;
  char piece[2048];
  while (text.find("\r\n\r\n") == std::string::npos && text.size() < kRequestBytesMax) {
    if (!readable(socket, patience)) return {};
    const ssize_t count = ::recv(socket, piece, sizeof piece, 0);
    if (count <= 0) return {};
    text.append(piece, static_cast<std::size_t>(count));
  }
  return text.substr(0, text.find("\r\n"));
}

void answer(int socket, const char* status, const std::string& text) {
  const std::string message = std::string("HTTP/1.1 ") + status + "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: " +
                              std::to_string(text.size()) + "\r\n\r\n" + text;
  if (::send(socket, message.data(), message.size(), MSG_NOSIGNAL) < 0) return;
}

}  // namespace

Result<RedirectListener> RedirectListener::open(std::uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return fail_errno("make a socket for", "the redirect");
  const int yes = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* general = reinterpret_cast<sockaddr*>(&address);
  if (::bind(socket, general, size) != 0 || ::listen(socket, 4) != 0 || ::getsockname(socket, general, &size) != 0) {
    const Error error = fail_errno("listen on", "127.0.0.1:" + std::to_string(port));
    ::close(socket);
    return error;
  }
  return RedirectListener(socket, ntohs(address.sin_port));
}

RedirectListener::RedirectListener(RedirectListener&& other) noexcept : socket_(std::exchange(other.socket_, -1)), port_(other.port_) {}

RedirectListener::~RedirectListener() {
  if (socket_ >= 0) ::close(socket_);
}

std::string RedirectListener::uri() const { return "http://127.0.0.1:" + std::to_string(port_) + "/callback"; }

Result<std::vector<std::pair<std::string, std::string>>> RedirectListener::wait(const HttpLimits& limits) {
  while (readable(socket_, limits)) {
    const int visitor = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (visitor < 0) continue;
    const std::string line = request_line(visitor, limits);
    constexpr std::string_view kPath = "GET /callback?";
    const bool ours = line.starts_with(kPath);
    answer(visitor, ours ? "200 OK" : "404 Not Found", ours ? "Done. You can close this page and go back to Kontor.\n" : "There is nothing here.\n");
    ::close(visitor);
    if (!ours) continue;  // A browser that looks for an icon.
    const std::string_view rest = std::string_view(line).substr(kPath.size());
    return parameters_of(rest.substr(0, rest.find(' ')));
  }
  if (limits.stop.stop_requested()) return fail(Errc::cancelled, "the authorization was cancelled", "cancelled");
  return fail(Errc::timeout, "nobody came back from the page of the authorization server in time", "timeout");
}

}  // namespace kontor::tools::mcp
