#include "tools/spawn.hpp"

#include <fcntl.h>
#include <signal.h>

#include <cerrno>

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
  pid_t pid = 0;
  errno = ::posix_spawnp(&pid, program.c_str(), &actions_, &attributes_, pointers(arguments).data(), pointers(environment).data());
  if (errno != 0) return fail_errno("start", program);
  return pid;
}

}  // namespace kontor::tools
