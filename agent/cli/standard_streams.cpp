#include "agent/cli/standard_streams.hpp"

#include "agent/cli/command.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>

namespace kontor::agent::cli {
namespace {

bool reader_went_away() {
  pollfd output{STDOUT_FILENO, POLLOUT, 0};
  return ::poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

}  // namespace

void hold_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is this one. Opened the wrong way round: what uses it shall fail, not seem to work.
    if (::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY) != stream) return;
  }
}

int finish_output(int exit_code) {
  std::cout.flush();
  errno = 0;
  const bool lost = std::fflush(stdout) != 0;
  const int why = lost ? errno : 0;
  if ((!lost && std::ferror(stdout) == 0 && std::cout.good()) || reader_went_away()) return exit_code;
  print_error(std::string("standard output could not be written completely") + (why != 0 ? std::string(": ") + std::strerror(why) : ""));
  return exit_code == kDone ? static_cast<int>(kFailed) : exit_code;
}

}  // namespace kontor::agent::cli
