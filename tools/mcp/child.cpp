#include "tools/mcp/child.hpp"

#include "tools/spawn.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

namespace kontor::tools::mcp {
namespace {

/// Both ends of a pipe; what is not handed on is closed.
struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) == 0) read = ends[0], write = ends[1];
  }
  Pipe(const Pipe&) = delete;
  ~Pipe() {
    if (read >= 0) ::close(read);
    if (write >= 0) ::close(write);
  }
};

int take(int& descriptor) {
  ::fcntl(descriptor, F_SETFL, ::fcntl(descriptor, F_GETFL) | O_NONBLOCK);
  return std::exchange(descriptor, -1);
}

/// No tokens and keys of ours: a server gets what its configuration names.
std::vector<std::string> environment_of(const ChildSetup& setup) {
  std::vector<std::string> entries;
  for (const char* name : {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"}) {
    const char* value = std::getenv(name);
    if (value && !setup.environment.contains(name)) entries.push_back(std::string(name) + "=" + value);
  }
  for (const auto& [name, value] : setup.environment) entries.push_back(name + "=" + value);
  return entries;
}

}  // namespace

Result<Child> Child::start(const ChildSetup& setup) {
  if (setup.command.empty()) return fail(Errc::usage, "the command of the server is empty");
  Pipe in, out, err;
  if (in.read < 0 || out.read < 0 || err.read < 0) return fail_errno("make pipes for", setup.command.front());
  Spawn start;
  start.give(in.read, 0);
  start.give(out.write, 1);
  start.give(err.write, 2);
  start.close_from(3);
  if (!setup.folder.empty()) start.enter(setup.folder);
  if (!setup.network) start.without_network();
  const auto pid = start.start(setup.command.front(), setup.command, environment_of(setup));
  if (!pid) return pid.error();
  return Child(*pid, take(in.write), take(out.read), take(err.read));
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), input_(std::exchange(other.input_, -1)), output_(std::exchange(other.output_, -1)),
      errors_(std::exchange(other.errors_, -1)), reaped_(other.reaped_), status_(other.status_) {}

Child::~Child() {
  close_input();
  if (output_ >= 0) ::close(output_);
  if (errors_ >= 0) ::close(errors_);
  if (pid_ == 0) return;
  int status = 0;
  if (!reaped_) {
    signal(SIGKILL);
    wait(1000, status);
  }
}

void Child::close_input() {
  if (input_ >= 0) ::close(std::exchange(input_, -1));
}

void Child::signal(int number) const {
  // The group outlives its first process while others are in it.
  if (pid_ > 0) ::kill(-pid_, number);
}

bool Child::wait(std::int64_t wait_ms, int& status) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
  while (!reaped_) {
    const pid_t waited = ::waitpid(pid_, &status_, WNOHANG);
    if (waited == pid_ || (waited < 0 && errno != EINTR)) reaped_ = true;
    else if (std::chrono::steady_clock::now() >= deadline) return false;
    else std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  status = status_;
  return true;
}

std::string describe_end(int status) {
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    return "it was ended by signal " + std::to_string(number) + " (" + ::strsignal(number) + ")";
  }
  return "it exited with status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace kontor::tools::mcp
