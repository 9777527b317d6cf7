#include "plugins/host/spawn.hpp"

#include "plugins/host/frame.hpp"
#include "plugins/host/network.hpp"

#include <signal.h>
#include <spawn.h>

#include <cerrno>
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

struct SpawnSettings {
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
};

}  // namespace

Result<pid_t> spawn_host(const std::string& program, const SpawnDescriptors& given, const std::vector<std::string>& permitted) {
  const auto [socket, library, network, log] = given;
  auto environment = clean_environment(permitted);
  SpawnSettings settings;
  auto* actions = &settings.actions;
  int status = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
  // Whatever the plugin prints goes to its log, never to Kontor's own output.
  for (const int output : {1, 2}) {
    status |= log >= 0 ? posix_spawn_file_actions_adddup2(actions, log, output)
                       : posix_spawn_file_actions_addopen(actions, output, "/dev/null", O_WRONLY, 0);
  }
  status |= posix_spawn_file_actions_adddup2(actions, socket, kSocketDescriptor);
  status |= posix_spawn_file_actions_adddup2(actions, library, kLibraryDescriptor);
  if (network >= 0) status |= posix_spawn_file_actions_adddup2(actions, network, kNetworkDescriptor);
  status |= posix_spawn_file_actions_addclosefrom_np(actions, network >= 0 ? kNetworkDescriptor + 1 : kNetworkDescriptor);
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  status |= posix_spawnattr_setsigdefault(&settings.attributes, &all);
  status |= posix_spawnattr_setsigmask(&settings.attributes, &none);
  // A group of its own: Ctrl-C is for Kontor to handle, and the group can be ended with everything it started.
  status |= posix_spawnattr_setpgroup(&settings.attributes, 0);
  status |= posix_spawnattr_setflags(&settings.attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  if (status != 0) return fail(Errc::memory, "not enough memory to start " + program);
  std::vector<char*> environment_pointers;
  for (auto& entry : environment) environment_pointers.push_back(entry.data());
  environment_pointers.push_back(nullptr);
  std::string name = "kontor-plugin-host";
  char* arguments[] = {name.data(), nullptr};
  pid_t pid = 0;
  errno = ::posix_spawn(&pid, program.c_str(), actions, &settings.attributes, arguments, environment_pointers.data());
  if (errno != 0) return fail_errno("start", program);
  return pid;
}

}  // namespace kontor::plugins
