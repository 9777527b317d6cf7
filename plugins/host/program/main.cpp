// kontor-plugin-host: one plugin in a process of its own. Started by Kontor, not by people.

#include "plugins/host/frame.hpp"
#include "plugins/host/program/serve.hpp"

#include <sys/socket.h>

#include <cstdio>
#include <exception>

int main() {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(kontor::plugins::kSocketDescriptor, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
    std::fputs("kontor-plugin-host: started by Kontor for isolated plugins; it does nothing alone\n", stderr);
    return 2;
  }
  try {
    return kontor::plugins::serve_plugin();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kontor-plugin-host: internal error: %s\n", error.what());
    return 1;
  }
}
