#include "plugins/host/program/namespaces.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace kontor::plugins {
namespace {

Error lacking(const char* what) {
  return fail(Errc::denied, std::string("the plugin's process gets no namespaces of its own: ") + what + ": " + std::strerror(errno), "sandbox");
}

bool write_file(const char* path, const std::string& text) {
  const int file = ::open(path, O_WRONLY | O_CLOEXEC);
  if (file < 0) return false;
  const bool whole = ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  ::close(file);
  errno = error;
  return whole;
}

/// Who may not make namespaces makes one for users first, in which it is still itself and nobody else.
bool unshare_as_anybody(int flags, bool& own_users) {
  if (::unshare(flags) == 0) return true;
  const auto user = std::to_string(::geteuid()), group = std::to_string(::getegid());
  if (errno != EPERM || ::unshare(flags | CLONE_NEWUSER) != 0) return false;
  own_users = true;
  return write_file("/proc/self/setgroups", "deny") && write_file("/proc/self/uid_map", user + " " + user + " 1") &&
         write_file("/proc/self/gid_map", group + " " + group + " 1");
}

bool keep_capabilities(std::uint32_t kept) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return false;
  data[0] = {data[0].effective & kept, data[0].permitted & kept, 0};
  data[1] = {};
  return ::syscall(SYS_capset, &header, data) == 0;
}

/// A child that ends with this process.
pid_t fork_bound() {
  const pid_t parent = ::getpid(), child = ::fork();
  if (child != 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Of a parent outside of the namespace the number is 0; otherwise it has to be the one that forked.
  if (const pid_t now = ::getppid(); now != 0 && now != parent) ::_exit(1);
  return 0;
}

void close_all() { ::syscall(SYS_close_range, 0u, ~0u, 0u); }

/// Holds nothing open, waits for the child, and ends as it did; `first` with it.
[[noreturn]] void end_like(pid_t child, pid_t first) {
  close_all();
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  ::kill(first, SIGKILL);
  if (WIFEXITED(status)) ::_exit(WEXITSTATUS(status));
  const int number = WTERMSIG(status);
  ::signal(number, SIG_DFL);
  ::kill(::getpid(), number);
  ::_exit(128 + number);
}

/// Goes on as process 2 of the namespace. Process 1 does nothing: the kernel spares it signals that it sends itself, so a
/// plugin that ends itself would not; and all of the namespace ends with it.
Result<void> go_on_as_second() {
  const pid_t first = fork_bound();
  if (first < 0) return lacking("fork");
  if (first == 0) {
    close_all();
    for (;;) ::pause();
  }
  const pid_t second = fork_bound();
  if (second < 0) return lacking("fork");
  if (second > 0) end_like(second, first);
  if (::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) return lacking("mount /proc");
  return {};
}

}  // namespace

Result<void> enter_namespaces(Namespaces which) {
  if (which == Namespaces::none) return {};
  bool own_users = false;
  const int flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | (which == Namespaces::all ? CLONE_NEWPID : 0);
  if (!unshare_as_anybody(flags, own_users)) return lacking("unshare");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return lacking("keep mounts private");
  if (which == Namespaces::all) {
    if (auto moved = go_on_as_second(); !moved) return moved;
  }
  const std::uint32_t files = CAP_TO_MASK(CAP_DAC_OVERRIDE) | CAP_TO_MASK(CAP_DAC_READ_SEARCH) | CAP_TO_MASK(CAP_FOWNER);
  if (!keep_capabilities(own_users ? 0 : files)) return lacking("give up capabilities");
  return {};
}

Namespaces usable_namespaces(std::string& why) {
  for (const auto which : {Namespaces::all, Namespaces::shared_processes}) {
    int report[2];
    if (::pipe2(report, O_CLOEXEC) != 0) break;
    const pid_t child = ::fork();
    if (child == 0) {
      const auto entered = enter_namespaces(which);
      const std::string text = entered ? std::string() : entered.error().message;
      (void)!::write(report[1], text.data(), text.size());
      ::_exit(entered ? 0 : 1);
    }
    ::close(report[1]);
    char text[256];
    const ssize_t count = child > 0 ? ::read(report[0], text, sizeof text) : 0;
    ::close(report[0]);
    int status = -1;
    if (child > 0) {
      while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    }
    if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) return which;
    if (count > 0 && why.empty()) why.assign(text, static_cast<std::size_t>(count));
  }
  return Namespaces::none;
}

}  // namespace kontor::plugins
