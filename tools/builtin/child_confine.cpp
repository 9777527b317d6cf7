#include "tools/builtin/child_confine.hpp"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace kontor::tools {
namespace {

// Landlock, as include/uapi/linux/landlock.h numbers it (headers of older distributions end earlier).
constexpr long kCreateRuleset = 444, kAddRule = 445, kRestrictSelf = 446;
constexpr std::uint64_t kExecute = 1, kWriteFile = 2, kReadFile = 4, kReadFolder = 8, kTruncate = 1 << 14;
constexpr std::uint64_t kAllOfFirst = (1 << 13) - 1, kRefer = 1 << 13;
struct [[gnu::packed]] PathRule {
  std::uint64_t allowed;
  std::int32_t parent;
};

constexpr const char* kSystem[] = {"/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"};

void allow(int rules, const char* path, std::uint64_t rights) {
  const int place = open(path, O_PATH | O_CLOEXEC);
  if (place < 0) return;
  struct stat info{};
  if (fstat(place, &info) == 0 && !S_ISDIR(info.st_mode)) rights &= kExecute | kWriteFile | kReadFile | kTruncate;
  const PathRule rule{rights, place};
  (void)syscall(kAddRule, rules, 1, &rule, 0);
  close(place);
}

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t kArchitecture = 0;
#endif

/// Returns the rules, or -1 with errno.
int make_file_rules(const char* const* readable, const char* const* writable) {
  const long version = syscall(kCreateRuleset, nullptr, 0, 1);
  if (version < 1) return -1;
  std::uint64_t rights = kAllOfFirst | (version >= 2 ? kRefer : 0) | (version >= 3 ? kTruncate : 0);
  const int rules = static_cast<int>(syscall(kCreateRuleset, &rights, sizeof rights, 0));
  if (rules < 0) return -1;
  for (const char* path : kSystem) allow(rules, path, kExecute | kReadFile | kReadFolder);
  allow(rules, "/dev/null", kReadFile | kWriteFile);
  for (; *readable != nullptr; ++readable) allow(rules, *readable, kExecute | kReadFile | kReadFolder);
  for (; *writable != nullptr; ++writable) allow(rules, *writable, rights);
  return rules;
}

}  // namespace

/// socket() of anything but AF_UNIX fails, and io_uring, which could make sockets unseen, does not exist.
int forbid_network() {
  constexpr std::uint32_t kNumber = offsetof(seccomp_data, nr), kDomain = offsetof(seccomp_data, args), kArch = offsetof(seccomp_data, arch);
  constexpr std::uint32_t kDenied = SECCOMP_RET_ERRNO | EACCES, kMissing = SECCOMP_RET_ERRNO | ENOSYS;
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kArch),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
#if defined(__x86_64__)
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),  // the x32 numbers
      BPF_STMT(BPF_RET | BPF_K, kMissing),
#endif
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 425, 0, 1),  // io_uring_setup, the same number everywhere
      BPF_STMT(BPF_RET | BPF_K, kMissing),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kDomain),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, kDenied),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof filter / sizeof filter[0], filter};
  if (kArchitecture == 0) return ENOSYS;
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ? 0 : errno;
}

int confine_self(const char* const* readable, const char* const* writable, bool network) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  const int rules = make_file_rules(readable, writable);
  if (rules < 0 || syscall(kRestrictSelf, rules, 0) != 0) return errno;
  close(rules);
  return network ? 0 : forbid_network();
}

}  // namespace kontor::tools
