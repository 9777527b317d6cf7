#pragma once
// A plugin in a host process: spawned at load, talked to over a socket, started again after a crash.

#include "base/error.hpp"
#include "plugins/host/instance.hpp"
#include "plugins/host/library.hpp"
#include "plugins/host/permissions.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace kontor::plugins {

struct ProcessOptions {
  SandboxMode sandbox = SandboxMode::required;
  std::string program;                        ///< kontor-plugin-host; "" finds it beside this program.
  std::uint64_t memory_bytes = 4ull << 30;    ///< Address space of the process; 0: unlimited.
  std::int64_t start_timeout_ms = 10'000;
  std::int64_t grace_ms = 500;                ///< From cancelling a call to killing the process.
  int restarts_max = 5;                       ///< Within restart_window_ms; after that calls fail at once.
  std::int64_t restart_window_ms = 60'000;
};

/// Calls at work in one host process at the same time; further ones wait.
constexpr int kParallelCallsMax = 8;

/// Where the host program is: beside this program, in its parent folder, or in ../libexec/kontor. Errors: not_found.
Result<std::string> find_host_program();

/// What this machine has to confine plugins with: tried out in a host process, once. Errors: as start_process.
Result<SandboxOffer> sandbox_offer(const ProcessOptions& options = {});

/// Starts a host process with the image and waits until the plugin is ready. A first process, which may touch nothing, only
/// says what the plugin declares; the one that stays is confined to that (see resolve_permissions). Folders it
/// may write to are made. The instance keeps the image for restarts. A crash, a hang or nonsense from the process is an
/// error answer (kinds crashed, timeout, cancelled) and the next call gets a fresh process.
/// Errors: not_found, io, timeout, denied (kind sandbox), malformed (kind permission), and what create_instance reports.
Result<std::unique_ptr<Instance>> start_process(LibraryImage image, const InstanceSetup& setup, const ProcessOptions& options);

}  // namespace kontor::plugins
