#pragma once
// A server as a child process: its standard streams are ours, its environment is what its configuration says.

#include "base/error.hpp"

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace kontor::tools::mcp {

struct ChildSetup {
  std::vector<std::string> command;                ///< Program (looked up in PATH when it has no slash) and arguments.
  std::map<std::string, std::string> environment;  ///< Added to PATH, HOME, USER, SHELL, TERM, the locale and TMPDIR.
  std::string folder;                              ///< Where it starts; "" for ours.
  bool network = true;                             ///< False: it can make no sockets but Unix ones.
};

/// Owns the process group and the three pipe ends, which do not block. Not thread-safe but for `signal`.
class Child {
 public:
  /// Errors: not_found (no such program), io, unsupported (kind confinement: the network cannot be taken from it here).
  static Result<Child> start(const ChildSetup& setup);
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  /// Ends what is left at once.
  ~Child();

  int input() const { return input_; }
  int output() const { return output_; }
  int errors() const { return errors_; }
  void close_input();
  /// To the whole group.
  void signal(int number) const;
  /// Waits up to `wait_ms` for the end; true when it has come. `status` as of waitpid.
  bool wait(std::int64_t wait_ms, int& status);

 private:
  Child(pid_t pid, int input, int output, int errors) : pid_(pid), input_(input), output_(output), errors_(errors) {}
  pid_t pid_ = 0;
  int input_ = -1, output_ = -1, errors_ = -1;
  bool reaped_ = false;
  int status_ = 0;
};

/// "it exited with status 1", "it was ended by signal 9 (Killed)"
std::string describe_end(int status);

}  // namespace kontor::tools::mcp
