#include "plugins/host/spawn.hpp"

#include "plugins/host/frame.hpp"
#include "plugins/host/network.hpp"
#include "tools/spawn.hpp"

#include <cstdlib>

namespace kontor::plugins {
namespace {

/// Only what a program needs to find its libraries and speak its language: no tokens, no keys.
std::vector<std::string> clean_environment(const std::vector<std::string>& permitted) {
  std::vector<std::string> kept;
  for (const char* name : {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"}) {
    if (const char* value = std::getenv(name)) kept.push_back(std::string(name) + "=" + value);
  }
  for (const auto& name : permitted) {
    if (const char* value = std::getenv(name.c_str())) kept.push_back(name + "=" + value);
  }
  return kept;
}

}  // namespace

Result<pid_t> spawn_host(const std::string& program, const SpawnDescriptors& given, const std::vector<std::string>& permitted) {
  const auto [socket, library, network, log] = given;
  tools::Spawn start;
  start.give_nothing(0, O_RDONLY);
  // Whatever the plugin prints goes to its log, never to Kontor's own output.
  for (const int output : {1, 2}) {
    if (log >= 0) start.give(log, output);
    else start.give_nothing(output, O_WRONLY);
  }
  start.give(socket, kSocketDescriptor);
  start.give(library, kLibraryDescriptor);
  if (network >= 0) start.give(network, kNetworkDescriptor);
  start.close_from(network >= 0 ? kNetworkDescriptor + 1 : kNetworkDescriptor);
  return start.start(program, {"kontor-plugin-host"}, clean_environment(permitted));
}

}  // namespace kontor::plugins
