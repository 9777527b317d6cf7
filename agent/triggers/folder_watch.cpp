#include "agent/triggers/folder_watch.hpp"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace kontor::agent {

Result<FolderWatch> FolderWatch::open(const std::string& folder) {
  const int descriptor = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (descriptor < 0) return fail_errno("watch", folder);
  FolderWatch watch(descriptor);
  if (::inotify_add_watch(descriptor, folder.c_str(), IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR) < 0) return fail_errno("watch", folder);
  return watch;
}

FolderWatch& FolderWatch::operator=(FolderWatch&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FolderWatch::~FolderWatch() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<bool> FolderWatch::read_events(int timeout_ms, std::vector<std::string>& names) {
  pollfd input{descriptor_, POLLIN, 0};
  const int ready = ::poll(&input, 1, timeout_ms);
  if (ready < 0 && errno != EINTR) return fail_errno("wait for", "the folder");
  if (ready <= 0) return false;
  alignas(inotify_event) char buffer[16'384];
  const ssize_t size = ::read(descriptor_, buffer, sizeof buffer);
  if (size < 0) {
    if (errno == EAGAIN || errno == EINTR) return false;
    return fail_errno("read", "events of the folder");
  }
  for (ssize_t at = 0; at < size;) {
    const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
    at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    if ((event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) != 0) return fail(Errc::not_found, "the watched folder is gone", "watch");
    const std::string name = event->len > 0 ? event->name : "";
    if ((event->mask & IN_Q_OVERFLOW) == 0 && (name.empty() || name[0] == '.')) continue;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return true;
}

Result<std::vector<std::string>> FolderWatch::wait(int timeout_ms, int quiet_ms) {
  std::vector<std::string> names;
  auto got = read_events(timeout_ms, names);
  while (got && *got) got = read_events(quiet_ms, names);
  if (!got) return got.error();
  return names;
}

}  // namespace kontor::agent
