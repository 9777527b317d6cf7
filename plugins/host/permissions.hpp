#pragma once
// What a plugin's process may touch: its declared permissions, resolved against the user's configuration.

#include "base/error.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace kontor::plugins {

enum class SandboxMode {
  required,  ///< A kernel that cannot confine the process is an error (default).
  partial,   ///< What the kernel lacks is left out. Only on the user's word: KONTOR_PLUGIN_SANDBOX=partial.
  off,       ///< Resource limits only; for tests that compare.
};

/// What a plugin's process has for itself: mounts, network, IPC and names of the machine; with `all` also process numbers.
enum class Namespaces { none, shared_processes, all };

struct SandboxRules {
  SandboxMode mode = SandboxMode::required;
  Namespaces namespaces = Namespaces::none;
  std::vector<std::string> read;         ///< Absolute paths of files or folders (with all below).
  std::vector<std::string> write;        ///< The same, also for making and removing files below.
  std::string append;                    ///< A file that is there and may be written to: the plugin's log.
  std::vector<std::string> hosts;        ///< HOST or HOST:PORT that Kontor connects the plugin to.
  std::vector<std::string> environment;  ///< Names of variables that the process gets.
};

/// "read:PATH" and "write:PATH" are paths below base_dir unless absolute; "config.KEY" is the configured value, a string
/// or a list of strings, and grants nothing when it is not set. Writing a file means writing in its folder, so that it can be
/// replaced as a whole. `config` is a JSON object as text. data_dir, when set, may be read and written. Makes no folder and opens nothing.
/// Errors: malformed (kind permission) for a configured value that is neither; as parse_json.
Result<SandboxRules> resolve_permissions(const std::vector<std::string>& permissions, std::string_view config, const std::string& base_dir,
                                         const std::string& data_dir);

/// KONTOR_PLUGIN_SANDBOX: "partial", else required. Errors: usage for other words.
Result<SandboxMode> sandbox_mode_of_environment();

/// What this machine has to confine plugins with.
struct SandboxOffer {
  int landlock = 0;                      ///< Version; 0: none.
  bool seccomp = false;
  Namespaces namespaces = Namespaces::none;
  std::string missing;                   ///< Why not all namespaces.
};

/// For the way to the host process, and back. Errors: malformed.
std::string write_offer(const SandboxOffer& offer);
Result<SandboxOffer> parse_offer(std::string_view text);
std::string write_rules(const SandboxRules& rules);
Result<SandboxRules> parse_rules(std::string_view text);

}  // namespace kontor::plugins
