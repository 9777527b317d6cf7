#pragma once
// The network of plugins. A plugin's process has no sockets; it asks Kontor for a connection to a host that it declared,
// and is handed the connected socket.

#include "base/error.hpp"
#include "tools/egress.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace kontor::plugins {

constexpr int kNetworkDescriptor = 5;  ///< In the host process: where it asks.

/// Is the host among the declared ones ("erp.example", or "erp.example:8443" for one port)? Case does not count.
bool is_declared_host(const std::vector<std::string>& hosts, std::string_view name, std::uint16_t port);

/// A connected TCP socket (close-on-exec), or a negative errno: -EACCES for hosts that are not declared or refused by
/// `egress`, -ETIMEDOUT,
/// -ECONNREFUSED, -EHOSTUNREACH (no address), ... Blocks.
int connect_declared(const std::vector<std::string>& hosts, const tools::Egress& egress, const std::string& name, std::uint16_t port, std::int64_t timeout_ms);

/// The asking side: one question over the socket at kNetworkDescriptor. Not thread-safe.
int ask_for_connection(int socket, const std::string& name, std::uint16_t port, std::int64_t timeout_ms);

/// The answering side: a thread that serves one host process until its end of the socket is closed.
class NetworkProxy {
 public:
  /// Owns the socket.
  NetworkProxy(int socket, std::vector<std::string> hosts, tools::Egress egress);
  ~NetworkProxy();

 private:
  void serve() const;
  const int socket_;
  const std::vector<std::string> hosts_;
  const tools::Egress egress_;
  std::thread thread_;
};

}  // namespace kontor::plugins
