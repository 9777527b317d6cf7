#pragma once
// A program run with an argument list (never through a shell), bounded and confined: it sees the file system read-only
// but for the folders it is given, has no sockets of the internet, gains no privileges, and is ended with everything it
// started when its time is over.

#include "base/error.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

struct ChildLimits {
  std::int64_t timeout_ms = 30'000;
  std::size_t output_bytes = 1u << 20;       ///< Of each stream; what is above is thrown away.
  std::size_t memory_bytes = 2ull << 30;     ///< Address space.
  std::size_t file_bytes = 256u << 20;       ///< Of each file it writes.
  int processes = 0;                         ///< Of the user, as RLIMIT_NPROC counts them; 0 sets no bound.
};

struct ChildSetup {
  std::string program;                       ///< Absolute path.
  std::vector<std::string> arguments;        ///< Behind the name of the program.
  std::string folder;                        ///< Absolute: where it starts.
  std::map<std::string, std::string> environment;
  std::vector<std::string> readable;         ///< Absolute: beside the system's own folders.
  std::vector<std::string> writable;         ///< Absolute; empty: nothing is.
  bool network = false;
  int input = -1;                            ///< Descriptor that becomes its standard input; -1: `input_text`.
  std::string input_text;
  ChildLimits limits;
  std::function<void(std::string_view out)> on_output;  ///< Told its whole standard output so far whenever that grew; may be empty.
};

struct ChildResult {
  int exit_code = 0;                         ///< 128 + the signal that ended it.
  std::string out, err;
  bool cut = false;                          ///< Output went over its bound.
};

/// Blocks. Errors: not_found (no such program), denied (the machine cannot confine programs), timeout, cancelled, io.
Result<ChildResult> run_child(const ChildSetup& setup, std::stop_token stop);

/// Absolute path of a program on the usual path (not the caller's PATH), or "".
std::string find_program(std::string_view name);

}  // namespace kontor::tools
