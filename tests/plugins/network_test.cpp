// The network of plugins: connected by Kontor to declared hosts, and to no others.

#include "plugins/host/loader.hpp"
#include "plugins/host/network.hpp"
#include "tests/support/catch.hpp"
#include "tools/registry.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

using namespace kontor;
using namespace kontor::plugins;

namespace {

/// A server that answers every visit with one page.
struct Page {
  int socket = -1, port = 0;
  std::jthread thread;
  Page() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(socket, 8) == 0);
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port = ntohs(address.sin_port);
    thread = std::jthread([this] {
      for (int visitor = 0; (visitor = ::accept(socket, nullptr, nullptr)) >= 0;) {
        char request[1024];
        const std::string answer = "HTTP/1.0 200 OK\r\n\r\nhello from here";
        if (::recv(visitor, request, sizeof request, 0) > 0) ::send(visitor, answer.data(), answer.size(), MSG_NOSIGNAL);
        ::close(visitor);
      }
    });
  }
  ~Page() {
    ::shutdown(socket, SHUT_RDWR);
    thread.join();
    ::close(socket);
  }
};

tools::ToolResult get(const Json& config) {
  PluginOptions options;
  options.path = std::string(KONTOR_BINARY_DIR) + "/plugins/libhttp_get.so";
  options.config = config;
  const auto plugin = load_plugin(options).value();
  return plugin.tools[0]->call(Json{{"path", "/"}}, {});
}

}  // namespace

TEST_CASE("a plugin reaches the host it declares", "[network]") {
  Page page;
  const auto result = get(Json{{"host", "127.0.0.1"}, {"port", page.port}});
  CHECK(result.value == Json{{"status", 200}, {"body", "hello from here"}});
}

TEST_CASE("hosts are compared by name and, where one is declared, by port", "[network]") {
  const std::vector<std::string> hosts = {"erp.example", "Crm.Example:8443"};
  CHECK(is_declared_host(hosts, "ERP.example", 80));
  CHECK(is_declared_host(hosts, "crm.example", 8443));
  CHECK_FALSE(is_declared_host(hosts, "crm.example", 443));
  for (const char* other : {"", "erp.example.evil", "xerp.example", "127.0.0.1", "erp.example:80"}) CHECK_FALSE(is_declared_host(hosts, other, 80));
}

TEST_CASE("a declared host that the agent file or --airgap refuses is not connected to", "[network]") {
  Page page;
  const auto port = static_cast<std::uint16_t>(page.port);
  const auto connect = [&](tools::EgressRules rules, const std::string& host) {
    const int socket = connect_declared({"127.0.0.1", "localhost", "192.0.2.1", "erp.example"}, tools::Egress(std::move(rules)), host, port, 2000);
    if (socket >= 0) ::close(socket);
    return socket < 0 ? socket : 0;
  };
  const auto pattern = [](const std::string& text) { return std::vector<tools::HostPattern>{tools::HostPattern::parse(text).value()}; };
  CHECK(connect({}, "127.0.0.1") == 0);
  CHECK(connect({{}, pattern("127.0.0.1:" + std::to_string(port)), false}, "127.0.0.1") == 0);
  CHECK(connect({{}, pattern("127.0.0.1:1"), false}, "127.0.0.1") == -EACCES);
  // The name is not denied, the address that it leads to is.
  CHECK(connect({pattern("127.0.0.0/8"), {}, false}, "localhost") != 0);
  CHECK(connect({{}, {}, true}, "127.0.0.1") == 0);
  for (const char* away : {"192.0.2.1", "erp.example"}) CHECK(connect({{}, {}, true}, away) == -EACCES);

  PluginOptions options;
  options.path = std::string(KONTOR_BINARY_DIR) + "/plugins/libhttp_get.so";
  options.config = Json{{"host", "127.0.0.1"}, {"port", page.port}};
  options.egress = tools::Egress({pattern("127.0.0.1"), {}, false});
  const auto plugin = load_plugin(options).value();
  CHECK(plugin.tools[0]->call(Json{{"path", "/"}}, {}).is_error);
}

TEST_CASE("the proxy connects to what is declared and refuses the rest", "[network]") {
  Page page;
  int pair[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
  {
    NetworkProxy proxy(pair[0], {"127.0.0.1"}, {});
    const int socket = ask_for_connection(pair[1], "127.0.0.1", static_cast<std::uint16_t>(page.port), 2000);
    CHECK(socket >= 0);
    ::close(socket);
    CHECK(ask_for_connection(pair[1], "localhost", static_cast<std::uint16_t>(page.port), 2000) == -EACCES);
    CHECK(ask_for_connection(pair[1], "127.0.0.1", 1, 2000) == -ECONNREFUSED);
    // Nonsense is refused and ends nothing.
    REQUIRE(::send(pair[1], "?", 1, 0) == 1);
    int status = 0;
    CHECK(::recv(pair[1], &status, sizeof status, 0) == sizeof status);
    CHECK(status == -EINVAL);
    CHECK(ask_for_connection(pair[1], "localhost", 80, 2000) == -EACCES);
  }
  ::close(pair[1]);
}
