#pragma once
// The start of another program: of MCP servers and of the host processes of plugins.

#include "base/error.hpp"

#include <spawn.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace kontor::tools {

/// What a program gets, then its start. It has a process group of its own (Ctrl-C is for Kontor to handle, and the group can be
/// ended with everything it started), default signal handlers and no blocked signals. Nothing of this process is copied
/// for it, however many gigabytes of weights it holds: posix_spawn borrows its memory until the program is loaded.
/// For one start. Not thread-safe.
class Spawn {
 public:
  Spawn();
  ~Spawn();
  Spawn(const Spawn&) = delete;
  Spawn& operator=(const Spawn&) = delete;

  /// `descriptor` of this process, which stays open here, under the number `as`. A later one must not be among the numbers given before.
  void give(int descriptor, int as);
  /// /dev/null under the number `as`. `flags`: O_RDONLY or O_WRONLY.
  void give_nothing(int as, int flags);
  /// The program has no descriptors from this number on.
  void close_from(int first);
  /// Where it begins to work; where this is not called, in the folder of this process.
  void enter(const std::string& folder);
  /// The program and all that it starts can make no sockets but Unix ones, and gain no privileges.
  void without_network() { without_network_ = true; }

  /// `program`: a path, or a name that PATH finds. `arguments` begin with the name. `environment`: all of it, NAME=VALUE. The
  /// process is the caller's to wait for. Errors: memory; io with the reason of the system; unsupported
  /// where this system cannot keep a program from the network.
  Result<pid_t> start(const std::string& program, std::vector<std::string> arguments, std::vector<std::string> environment);

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
  int failed_ = 0;
  bool without_network_ = false;
};

}  // namespace kontor::tools
