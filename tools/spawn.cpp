#include "tools/spawn.hpp"

#include "tools/builtin/child_confine.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cerrno>
#include <cstring>
#include <thread>

namespace kontor::tools {
namespace {

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (auto& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

}  // namespace

Spawn::Spawn() {
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  failed_ |= posix_spawn_file_actions_init(&actions_);
  failed_ |= posix_spawnattr_init(&attributes_);
  failed_ |= posix_spawnattr_setsigdefault(&attributes_, &all);
  failed_ |= posix_spawnattr_setsigmask(&attributes_, &none);
  failed_ |= posix_spawnattr_setpgroup(&attributes_, 0);
  failed_ |= posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
}

Spawn::~Spawn() {
  posix_spawn_file_actions_destroy(&actions_);
  posix_spawnattr_destroy(&attributes_);
}

void Spawn::give(int descriptor, int as) { failed_ |= posix_spawn_file_actions_adddup2(&actions_, descriptor, as); }
void Spawn::give_nothing(int as, int flags) { failed_ |= posix_spawn_file_actions_addopen(&actions_, as, "/dev/null", flags, 0); }
void Spawn::close_from(int first) { failed_ |= posix_spawn_file_actions_addclosefrom_np(&actions_, first); }
void Spawn::enter(const std::string& folder) { failed_ |= posix_spawn_file_actions_addchdir_np(&actions_, folder.c_str()); }

Result<pid_t> Spawn::start(const std::string& program, std::vector<std::string> arguments, std::vector<std::string> environment) {
  if (failed_ != 0) return fail(Errc::memory, "not enough memory to start " + program);
  const auto argument_list = pointers(arguments), environment_list = pointers(environment);
  pid_t pid = 0;
  int confined = 0, started = 0;
  const auto spawn = [&] { started = ::posix_spawnp(&pid, program.c_str(), &actions_, &attributes_, argument_list.data(), environment_list.data()); };
  if (without_network_) {
    // What a thread may do no more, its children may not either: one that ends at once leaves the rest of this process free.
    std::thread([&] {
      confined = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? forbid_network() : errno;
      if (confined == 0) spawn();
    }).join();
  } else {
    spawn();
  }
  if (confined != 0) return fail(Errc::unsupported, program + " cannot be kept from the network on this system (seccomp: " + std::strerror(confined) + ")", "confinement");
  errno = started;
  if (errno != 0) return fail_errno("start", program);
  return pid;
}

}  // namespace kontor::tools
