#pragma once
// The start of a host process.

#include "base/error.hpp"

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

namespace kontor::plugins {

constexpr int kFirstFreeDescriptor = 16;  ///< Above the numbers that the child's descriptors are moved to.

/// A descriptor above the ones the child uses, so that moving one does not overwrite another.
struct Descriptor {
  int number = -1;
  explicit Descriptor(int from) {
    if (from < 0) return;
    number = ::fcntl(from, F_DUPFD_CLOEXEC, kFirstFreeDescriptor);
    ::close(from);
  }
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  int release() { return std::exchange(number, -1); }
};

/// What the process is given; -1 for what it does without.
struct SpawnDescriptors {
  int socket = -1, library = -1, network = -1, log = -1;
};

/// Starts the host program (tools::Spawn), a path, with these descriptors and no others, and an environment without tokens and
/// keys (`permitted` names the variables that the plugin declared). Errors: memory; io with the reason of the system.
Result<pid_t> spawn_host(const std::string& program, const SpawnDescriptors& given, const std::vector<std::string>& permitted);

}  // namespace kontor::plugins
