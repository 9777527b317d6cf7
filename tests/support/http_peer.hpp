#pragma once
// The other end of an HTTP server in tests: sends exactly what it is told, well-formed or not.

#include "tests/support/catch.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace kontor::test {

class HttpPeer {
 public:
  explicit HttpPeer(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET, address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  HttpPeer(const HttpPeer&) = delete;
  HttpPeer& operator=(const HttpPeer&) = delete;
  ~HttpPeer() { ::close(socket_); }

  /// False when the server has closed.
  bool send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
  }
  /// Until the answer is complete, the connection ends, or nothing came for so long.
  std::string receive(int timeout_ms = 20'000) const {
    std::string text;
    while (!complete(text)) {
      pollfd from{socket_, POLLIN, 0};
      char piece[4096];
      if (::poll(&from, 1, timeout_ms) <= 0) break;
      const ssize_t count = ::recv(socket_, piece, sizeof piece, 0);
      if (count <= 0) break;
      text.append(piece, static_cast<std::size_t>(count));
    }
    return text;
  }
  std::string ask(std::string_view request) const {
    send(request);
    return receive();
  }

  static int status(const std::string& answer) { return answer.starts_with("HTTP/1.1 ") ? std::atoi(answer.c_str() + 9) : 0; }
  static std::string body(const std::string& answer) {
    const auto end = answer.find("\r\n\r\n");
    return end == std::string::npos ? std::string() : answer.substr(end + 4);
  }

 private:
  static bool complete(const std::string& text) {
    const auto end = text.find("\r\n\r\n"), length = text.find("Content-Length: ");
    return end != std::string::npos && length < end && text.size() >= end + 4 + static_cast<std::size_t>(std::atoi(text.c_str() + length + 16));
  }

  int socket_;
};

}  // namespace kontor::test
