// A plugin that needs the network: reads pages of one server, and of no other. Plain HTTP, for services inside a house.

#include "plugins/sdk/kontor_plugin.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace {

using namespace kontor::plugin;

constexpr std::size_t kAnswerBytesMax = 1u << 20;

struct Socket {
  int number;
  explicit Socket(int number) : number(number) {}
  Socket(const Socket&) = delete;
  ~Socket() { ::close(number); }
};

struct HttpGet {
  explicit HttpGet(const Setup& setup)
      : network(setup.network), host(setup.config.at("host").get<std::string>()), port(setup.config.value("port", std::uint16_t{80})) {}

  Json get(const Json& arguments, Call& call) {
    const auto path = arguments.at("path").get<std::string>();
    const Socket socket(network.connect(host, port, call.timeout_ms()));
    const timeval patience{static_cast<time_t>(call.timeout_ms() / 1000 + 1), 0};
    ::setsockopt(socket.number, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    const std::string request = "GET " + path + " HTTP/1.0\r\nHost: " + host + "\r\nConnection: close\r\n\r\n";
    if (::send(socket.number, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) throw ToolError("network", "the request could not be sent");
    std::string answer;
    char piece[16384];
    for (ssize_t count = 0; (count = ::recv(socket.number, piece, sizeof piece, 0)) > 0;) {
      answer.append(piece, static_cast<std::size_t>(count));
      if (answer.size() > kAnswerBytesMax) throw ToolError("too_large", "the page is larger than 1 MiB");
      if (call.cancelled()) throw ToolError("cancelled", "stopped while reading");
    }
    const auto body = answer.find("\r\n\r\n");
    if (answer.compare(0, 5, "HTTP/") != 0 || body == std::string::npos || answer.size() < 12) throw ToolError("network", "the server did not answer with a page");
    return Json{{"status", std::atoi(answer.c_str() + 9)}, {"body", answer.substr(body + 4)}};
  }

  Network network;
  std::string host;
  std::uint16_t port;
};

}  // namespace

KONTOR_PLUGIN(HttpGet, "http_get", "1.0.0", "Reads pages of one server.", KONTOR_PERMISSIONS("network:config.host"),
              {.name = "get",
               .description = "Read a page.",
               .parameters = R"({"type": "object", "properties": {"path": {"type": "string", "pattern": "^/[!-~]*$"}}, "required": ["path"], "additionalProperties": false})",
               .call = call<&HttpGet::get>,
               .timeout_ms = 15000,
               .untrusted_output = true});
