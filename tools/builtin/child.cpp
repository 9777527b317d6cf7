#include "tools/builtin/child.hpp"

#include "tools/builtin/child_confine.hpp"
#include "tools/builtin/public_places.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>

namespace kontor::tools {
namespace {

using SteadyClock = std::chrono::steady_clock;

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { reset(); }
  void reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

struct Pipe {
  Descriptor read, write;
  bool open() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    read.reset(ends[0]);
    write.reset(ends[1]);
    return true;
  }
};

/// Everything the child needs, laid out before it begins: until exec no memory may be taken.
struct Plan {
  const ChildSetup& setup;
  std::vector<std::string> variables;
  std::vector<char*> argv, envp;
  std::vector<std::string> configuration;
  std::vector<const char*> readable, writable;

  explicit Plan(const ChildSetup& wanted) : setup(wanted) {
    argv.push_back(const_cast<char*>(setup.program.c_str()));
    for (const auto& argument : setup.arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    for (const auto& [name, value] : setup.environment) variables.push_back(name + "=" + value);
    for (auto& variable : variables) envp.push_back(variable.data());
    envp.push_back(nullptr);
    for (const auto& path : setup.readable) readable.push_back(path.c_str());
    // Root could read the secrets there; for others the kernel refuses them anyway.
    configuration = geteuid() == 0 ? public_places("/etc") : std::vector<std::string>{"/etc"};
    for (const auto& path : configuration) readable.push_back(path.c_str());
    readable.push_back(nullptr);
    for (const auto& path : setup.writable) writable.push_back(path.c_str());
    writable.push_back(nullptr);
  }
};

void bound(int what, std::size_t value) {
  const rlimit limit{value, value};
  (void)setrlimit(static_cast<__rlimit_resource>(what), &limit);
}

/// In the child. Never returns; reports through `failure` why the program did not start.
[[noreturn]] void become(const Plan& plan, int input, int out, int err, int failure) {
  const auto give_up = [failure](int step) {
    const int report[2] = {step, errno};
    (void)!write(failure, report, sizeof report);
    _exit(127);
  };
  const ChildLimits& limits = plan.setup.limits;
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Every signal is blocked so far: handlers of ours must not run here, where our memory is still lent.
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (dup2(input, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) give_up(1);
  bound(RLIMIT_CORE, 0);
  bound(RLIMIT_FSIZE, limits.file_bytes);
  bound(RLIMIT_NOFILE, 256);
  bound(RLIMIT_CPU, static_cast<std::size_t>(limits.timeout_ms / 1000 + 2));
  if (limits.processes > 0) bound(RLIMIT_NPROC, static_cast<std::size_t>(limits.processes));
  if (chdir(plan.setup.folder.c_str()) != 0) give_up(2);
  if (const int error = confine_self(plan.readable.data(), plan.writable.data(), plan.setup.network); error != 0) {
    errno = error;
    give_up(3);
  }
  // Last: an instrumented Kontor (sanitizers) has more address space than this and needs some of it until here.
  bound(RLIMIT_AS, limits.memory_bytes);
  execve(plan.argv[0], plan.argv.data(), plan.envp.data());
  give_up(4);
  _exit(127);
}

/// Reads both streams, feeds the input, and ends the child when its time is over.
class Watch {
 public:
  Watch(pid_t child, const ChildSetup& setup, std::stop_token stop) : child_(child), setup_(setup), stop_(std::move(stop)), deadline_(SteadyClock::now() + std::chrono::milliseconds(setup.limits.timeout_ms)) {}

  Result<ChildResult> run(Descriptor& out, Descriptor& err, Descriptor& input) {
    for (const int fd : {out.get(), err.get(), input.get()})
      if (fd >= 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    std::optional<Error> failed;
    while (out.get() >= 0 || err.get() >= 0) {
      if (failed = late(); failed) break;
      pollfd polls[3] = {{out.get(), POLLIN, 0}, {err.get(), POLLIN, 0}, {input.get(), POLLOUT, 0}};
      poll(polls, 3, 20);
      if (polls[0].revents != 0) {
        const std::size_t before = result_.out.size();
        drain(out, result_.out);
        if (setup_.on_output && result_.out.size() > before) setup_.on_output(result_.out);
      }
      if (polls[1].revents != 0) drain(err, result_.err);
      if (polls[2].revents != 0) feed(input);
    }
    // A child may have closed both streams and still run.
    while (!failed && !reaped()) {
      failed = late();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    kill(-child_, SIGKILL);  // what it started, too
    if (failed) {
      kill(child_, SIGKILL);
      while (!reaped() && errno != ECHILD) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      return *failed;
    }
    result_.exit_code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
    return std::move(result_);
  }

 private:
  bool reaped() {
    if (!done_) done_ = waitpid(child_, &status_, WNOHANG) == child_;
    return done_;
  }
  std::optional<Error> late() const {
    if (stop_.stop_requested()) return fail(Errc::cancelled, "stopped while '" + setup_.program + "' ran", "cancelled");
    if (SteadyClock::now() < deadline_) return std::nullopt;
    return fail(Errc::timeout, "'" + setup_.program + "' did not end within " + std::to_string(setup_.limits.timeout_ms) + " ms", "timeout");
  }
  void drain(Descriptor& from, std::string& into) {
    std::array<char, 65536> buffer;
    const ssize_t count = read(from.get(), buffer.data(), buffer.size());
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) return from.reset();
    if (count < 0) return;
    const std::size_t room = setup_.limits.output_bytes - std::min(setup_.limits.output_bytes, into.size());
    into.append(buffer.data(), std::min(room, static_cast<std::size_t>(count)));
    result_.cut = result_.cut || static_cast<std::size_t>(count) > room;
  }
  void feed(Descriptor& input) {
    const std::string& text = setup_.input_text;
    const ssize_t count = write(input.get(), text.data() + fed_, text.size() - fed_);
    if (count > 0) fed_ += static_cast<std::size_t>(count);
    if (fed_ == text.size() || (count < 0 && errno != EAGAIN && errno != EINTR)) input.reset();
  }

  pid_t child_;
  const ChildSetup& setup_;
  std::stop_token stop_;
  SteadyClock::time_point deadline_;
  ChildResult result_;
  std::size_t fed_ = 0;
  int status_ = 0;
  bool done_ = false;
};

/// Writing to a child that no longer reads must not end this process.
void ignore_broken_pipes() {
  static const bool once = [] {
    struct sigaction now{};
    if (sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);
    return true;
  }();
  (void)once;
}

struct ChildStreams {
  int input, out, err, failure;
};

/// As fork, with errno. Not fork: that copies the page tables of all weights, or fails for want of memory that would never be used.
/// Until the child is another program it shares this one's memory, and no signal handler of ours may run in it.
pid_t start_child(const Plan& plan, const ChildStreams& streams) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t child = vfork();
  if (child == 0) become(plan, streams.input, streams.out, streams.err, streams.failure);
  const int started = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = started;
  return child;
}

}  // namespace

Result<ChildResult> run_child(const ChildSetup& setup, std::stop_token stop) {
  if (access(setup.program.c_str(), X_OK) != 0) return fail(Errc::not_found, "there is no program '" + setup.program + "'", "not_found");
  ignore_broken_pipes();
  const Plan plan(setup);
  Pipe input, out, err, failure;
  if (!out.open() || !err.open() || !failure.open() || (setup.input < 0 && !input.open())) return fail_errno("make a pipe for", setup.program);
  const pid_t child = start_child(plan, {setup.input >= 0 ? setup.input : input.read.get(), out.write.get(), err.write.get(), failure.write.get()});
  if (child < 0) return fail_errno("start", setup.program);
  setpgid(child, child);
  for (Pipe* each : {&out, &err, &failure}) each->write.reset();
  input.read.reset();
  int report[2] = {0, 0};
  ssize_t count = 0;
  while ((count = read(failure.read.get(), report, sizeof report)) < 0 && errno == EINTR) {}
  if (count == static_cast<ssize_t>(sizeof report)) {
    while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {}
    const char* const steps[] = {"", "connect the streams of", "enter the folder for", "confine", "start"};
    const auto step = static_cast<std::size_t>(std::clamp(report[0], 0, 4));
    if (step == 3 && (report[1] == ENOSYS || report[1] == EOPNOTSUPP)) return fail(Errc::denied, "this machine cannot confine programs: its kernel has no Landlock", "sandbox");
    return fail(report[0] == 3 ? Errc::denied : Errc::io, std::string("cannot ") + steps[step] + " '" + setup.program + "': " + std::strerror(report[1]), report[0] == 3 ? "sandbox" : "io");
  }
  return Watch(child, setup, std::move(stop)).run(out.read, err.read, input.write);
}

std::string find_program(std::string_view name) {
  if (name.empty() || name.find('/') != std::string_view::npos) return {};
  for (const char* folder : {"/usr/local/bin/", "/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"}) {
    std::string path = folder + std::string(name);
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

}  // namespace kontor::tools
