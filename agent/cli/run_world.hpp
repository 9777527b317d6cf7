#pragma once
// Wires a run to the world: built-in tools, plugins, model files, signals, people.

#include "agent/run.hpp"
#include "plugins/host/loader.hpp"

#include <atomic>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace kontor::agent::cli {

/// Built-in groups, plugins, MCP servers. Errors: unsupported for what this build has no runtime for.
Result<std::vector<std::shared_ptr<tools::Tool>>> make_tools(const ToolRequest& request);

/// The plugin of a `use: plugin` entry. Errors: as load_plugin.
Result<plugins::LoadedPlugin> load_plugin_of(const ToolRequest& request);

/// Model files, tapes and endpoints; runs that are given the same opener share engines. Errors: those of the engine and
/// of open_endpoint_model().
ModelOpener make_model_opener();

/// Turns SIGINT and SIGTERM into a stop request; the second one ends the process with code 130. Create before other
/// threads, one at a time.
class Interrupts {
 public:
  explicit Interrupts(std::string hint);
  ~Interrupts();
  std::stop_token token() const { return stop_.get_token(); }

 private:
  std::stop_source stop_;
  std::string hint_;
  std::jthread watcher_;
};

/// "ask", "park", or "TOOL=yes" (globs allowed), as given with --approve.
struct ApproveFlags {
  bool park = false;
  std::vector<std::string> yes;
};
/// Errors: usage.
Result<ApproveFlags> parse_approve(const std::vector<std::string>& words);

/// Answers from the flags, else asks on the terminal, else leaves the call pending.
std::function<ApprovalAnswer(const PendingItem&)> make_approver(ApproveFlags flags, std::stop_token stop, std::function<void()> before_prompt);

/// The name a decision is recorded under: the login name.
std::string person();

}  // namespace kontor::agent::cli
