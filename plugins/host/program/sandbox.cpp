#include "plugins/host/program/sandbox.hpp"

#include "plugins/host/program/namespaces.hpp"

#include <fcntl.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <sched.h>
#include <string>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KONTOR_SANITIZED 1
#endif

namespace kontor::plugins {
namespace {

// The kernel's interface, up to Landlock 6; headers of Debian 12 end at 2. Numbers from include/uapi/linux/landlock.h.
struct LandlockRuleset {
  std::uint64_t files = 0, network = 0, scopes = 0;
};
struct [[gnu::packed]] LandlockPath {
  std::uint64_t allowed;
  std::int32_t parent;
};
constexpr long kCreateRuleset = 444, kAddRule = 445, kRestrictSelf = 446;
constexpr std::uint64_t kExecute = 1 << 0, kWriteFile = 1 << 1, kReadFile = 1 << 2, kReadFolder = 1 << 3, kRemoveFolder = 1 << 4,
                        kRemoveFile = 1 << 5, kMakeCharacter = 1 << 6, kMakeFolder = 1 << 7, kMakeFile = 1 << 8, kMakeSocket = 1 << 9,
                        kMakeFifo = 1 << 10, kMakeBlock = 1 << 11, kMakeSymlink = 1 << 12, kRefer = 1 << 13, kTruncate = 1 << 14,
                        kDeviceControl = 1 << 15;
constexpr std::uint64_t kBindTcp = 1 << 0, kConnectTcp = 1 << 1;
constexpr std::uint64_t kScopeAbstractSocket = 1 << 0, kScopeSignal = 1 << 1;
constexpr std::uint64_t kRead = kReadFile | kReadFolder;
constexpr std::uint64_t kWrite = kRead | kWriteFile | kRemoveFolder | kRemoveFile | kMakeFolder | kMakeFile | kRefer | kTruncate;
constexpr std::uint64_t kOfFiles = kExecute | kWriteFile | kReadFile | kTruncate | kDeviceControl;  // what a rule for a file may say

// What libraries read to find each other, time zones, certificates, random numbers and the number of processors.
constexpr const char* kSystemPaths[] = {"/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/localtime", "/etc/timezone",
                                        "/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/locale.alias", "/dev/urandom", "/dev/random",
                                        "/dev/zero", "/sys/devices/system/cpu", "/proc/self", "/proc/cpuinfo", "/proc/meminfo"};

struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

/// False only when the kernel refuses a rule for a path that is there.
bool allow_path(int ruleset, const std::string& path, std::uint64_t rights) {
  const Descriptor place{::open(path.c_str(), O_PATH | O_CLOEXEC)};
  if (place.number < 0) return errno == ENOENT || errno == EACCES || errno == ENOTDIR;
  struct stat status {};
  if (::fstat(place.number, &status) != 0) return false;
  if (!S_ISDIR(status.st_mode)) rights &= kOfFiles;
  const LandlockPath rule{rights, place.number};
  return ::syscall(kAddRule, ruleset, 1, &rule, 0) == 0;
}

Result<void> confine_files(const SandboxRules& rules) {
  const auto lacking = [](const std::string& what) { return fail(Errc::denied, what, "sandbox"); };
  const long version = ::syscall(kCreateRuleset, nullptr, 0, 1);
  if (version < 1) {
    if (rules.mode == SandboxMode::partial) return {};
    return lacking("this kernel has no Landlock (Linux 5.13 or later with \"landlock\" among its lsm= modules), so the plugin could read "
                   "your files; set KONTOR_PLUGIN_SANDBOX=partial to run plugins all the same");
  }
  std::uint64_t known = kExecute | kWriteFile | kReadFile | kReadFolder | kRemoveFolder | kRemoveFile | kMakeCharacter | kMakeFolder |
                        kMakeFile | kMakeSocket | kMakeFifo | kMakeBlock | kMakeSymlink;
  if (version >= 2) known |= kRefer;
  if (version >= 3) known |= kTruncate;
  if (version >= 5) known |= kDeviceControl;
  LandlockRuleset asked{known, 0, 0};
  std::size_t size = sizeof asked.files;
  if (version >= 4) {
    size = sizeof asked.files + sizeof asked.network;
    // Connections come from Kontor, which knows the declared hosts.
    asked.network = kBindTcp | kConnectTcp;
  }
  if (version >= 6) size = sizeof asked, asked.scopes = kScopeAbstractSocket | kScopeSignal;
  const Descriptor ruleset{static_cast<int>(::syscall(kCreateRuleset, &asked, size, 0))};
  if (ruleset.number < 0) return lacking(std::string("Landlock refuses its rules: ") + std::strerror(errno));
  bool ok = allow_path(ruleset.number, "/dev/null", (kReadFile | kWriteFile) & known);
  for (const char* path : kSystemPaths) ok = allow_path(ruleset.number, path, kRead & known) && ok;
  for (const auto& path : rules.read) ok = allow_path(ruleset.number, path, kRead & known) && ok;
  for (const auto& path : rules.write) ok = allow_path(ruleset.number, path, kWrite & known) && ok;
  if (!rules.append.empty()) ok = allow_path(ruleset.number, rules.append, kWriteFile & known) && ok;
#ifdef KONTOR_SANITIZED
  ok = allow_path(ruleset.number, "/proc", kRead & known) && ok;  // the leak check looks at its threads
#endif
  if (!ok || ::syscall(kRestrictSelf, ruleset.number, 0) != 0) return lacking(std::string("Landlock refuses its rules: ") + std::strerror(errno));
  return {};
}

/// Collects rules for seccomp; a call this machine's libseccomp or kernel does not know needs none.
class CallFilter {
 public:
  CallFilter() : filter_(seccomp_init(SCMP_ACT_ALLOW)) {}

  void deny(std::initializer_list<const char*> names, int error = EPERM) {
    for (const char* name : names) deny_when(name, error, {});
  }
  void deny_when(const char* name, int error, std::initializer_list<scmp_arg_cmp> tests) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR || filter_ == nullptr) return;
    const int status = seccomp_rule_add_array(filter_.get(), SCMP_ACT_ERRNO(static_cast<std::uint32_t>(error)), number,
                                              static_cast<unsigned>(tests.size()), tests.begin());
    if (status != 0 && status != -EDOM && status != -EEXIST) ok_ = false;
  }
  bool load() { return filter_ != nullptr && ok_ && seccomp_load(filter_.get()) == 0; }

 private:
  struct Release {
    void operator()(void* filter) const { seccomp_release(filter); }
  };
  std::unique_ptr<void, Release> filter_;
  bool ok_ = true;
};

Result<void> confine_calls() {
  CallFilter filter;
  const auto self = static_cast<scmp_datum_t>(::getpid());
  filter.deny({"execve", "execveat"});
#ifndef KONTOR_SANITIZED
  // Threads yes, processes no. The flags of clone3 lie in memory, where a filter cannot see them: its callers fall back to clone.
  filter.deny({"fork", "vfork"});
  filter.deny({"clone3"}, ENOSYS);
  filter.deny_when("clone", EPERM, {SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0)});
  filter.deny({"ptrace"});
#endif
  filter.deny({"process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "pidfd_open", "pidfd_getfd",
               "pidfd_send_signal", "move_pages", "migrate_pages", "get_robust_list"});
  for (const char* name : {"kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"}) filter.deny_when(name, EPERM, {SCMP_A0(SCMP_CMP_NE, self)});
  filter.deny_when("prlimit64", EPERM, {SCMP_A0(SCMP_CMP_NE, 0)});
  filter.deny_when("setpriority", EPERM, {SCMP_A1(SCMP_CMP_NE, 0)});
  filter.deny({"sched_setscheduler", "sched_setparam", "sched_setattr", "ioprio_set"});
  // Landlock knows neither modes, owners, attributes and times of files, nor watching them.
  filter.deny({"chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchown", "fchownat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat",
               "removexattr", "lremovexattr", "fremovexattr", "removexattrat", "utime", "utimes", "futimesat", "inotify_add_watch",
               "fanotify_init", "name_to_handle_at", "open_by_handle_at", "quotactl", "quotactl_fd"});
  filter.deny_when("utimensat", EPERM, {SCMP_A1(SCMP_CMP_NE, 0)});  // by descriptor is fine
  filter.deny({"mount", "umount2", "umount", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick",
               "mount_setattr", "unshare", "setns", "swapon", "swapoff", "mknod", "mknodat"});
  filter.deny({"bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"}, ENOSYS);
  filter.deny({"keyctl", "add_key", "request_key", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
               "acct", "syslog", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "iopl", "ioperm",
               "modify_ldt", "vhangup", "lookup_dcookie", "personality", "seccomp_unotify"});
  filter.deny({"shmget", "shmat", "shmctl", "semget", "semop", "semctl", "semtimedop", "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink"});
  for (const unsigned long request : {static_cast<unsigned long>(TIOCSTI), static_cast<unsigned long>(TIOCLINUX)}) {
    filter.deny_when("ioctl", EPERM, {SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, request)});
  }
  // Also of a plugin with network: it is handed connected sockets, and cannot connect them to somewhere else.
  filter.deny({"socket", "bind", "listen", "connect"}, EACCES);
  if (!filter.load()) return fail(Errc::denied, "this kernel takes no seccomp filter, so the plugin cannot be confined", "sandbox");
  return {};
}

}  // namespace

SandboxOffer offered_here() {
  SandboxOffer offer;
  offer.landlock = static_cast<int>(std::max(::syscall(kCreateRuleset, nullptr, 0, 1), 0L));
  offer.seccomp = ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
  offer.namespaces = usable_namespaces(offer.missing);
  return offer;
}

Result<void> enter_sandbox(const SandboxRules& rules) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("give up new privileges of", "the plugin's process");
  if (rules.mode == SandboxMode::off) return {};
  // They were found to be offered when Kontor asked; that they are not now is no reason to go without.
  if (auto apart = enter_namespaces(rules.namespaces); !apart) return apart;
  if (auto files = confine_files(rules); !files) return files;
  return confine_calls();
}

}  // namespace kontor::plugins
