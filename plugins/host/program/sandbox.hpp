#pragma once
// The walls around a plugin's process: no new privileges, Landlock for files and sockets, seccomp for the rest.
//
// Landlock says which files exist for the process (see landlock(7)); seccomp takes away system calls that Landlock does
// not cover: starting programs, other processes, sockets, changing owners and modes, mounting, tracing, keys, io_uring.
// Both are inherited and can only be tightened, so a plugin cannot leave. Namespaces stand behind them (namespaces.hpp).

#include "base/error.hpp"
#include "plugins/host/permissions.hpp"

namespace kontor::plugins {

/// What this machine has for it.
SandboxOffer offered_here();

/// Confines the calling thread and all it starts; call it before there are others. May go on in a child process. Paths that do not exist grant nothing.
/// Errors: denied (kind sandbox) naming what the kernel lacks; nothing of the plugin may run then.
Result<void> enter_sandbox(const SandboxRules& rules);

}  // namespace kontor::plugins
