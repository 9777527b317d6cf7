#pragma once
// One call of a tool: on a thread of its own, which its caller can leave behind, or on the caller's, where the tool answers
// at once or ends when it is asked to.

#include "agent/run_context.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace kontor::agent {

/// Owned by the caller and by the thread that executes it, so a tool that ignores its stop token leaves no dangling
/// pointer.
class RunningCall : public std::enable_shared_from_this<RunningCall> {
 public:
  /// `context.stop` and `context.partial` are replaced by the call's own.
  static std::shared_ptr<RunningCall> start(RunContext& run, const std::string& tool, const Json& arguments, tools::CallContext context);

  /// Waits for the end, at most this long from now and as long as the run is not stopped. Gives the baton
  /// away meanwhile. A call without an answer is an error result of kind timeout or cancelled. Where the tool is often
  /// quick, it looks for the answer before it sleeps, so that its thread needs not be woken.
  tools::ToolResult wait(RunContext& run, std::int64_t timeout_ms);

  /// Who is told with what its result begins, as far as the tool says so: of what it told last at once, then of more.
  void on_partial(std::function<void(std::string_view)> listener);

  /// Since it began.
  std::int64_t age_ms() const { return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began_).count(); }

  /// Asks it to stop; what it still returns is not used.
  void stop() { stop_.request_stop(); }

  const std::string& tool() const { return tool_; }
  const Json& arguments() const { return arguments_; }

  RunningCall(std::string tool, Json arguments);

 private:
  tools::ToolResult wait_without_baton(RunContext& run, std::int64_t timeout_ms, tools::BriefWait& brief);

  const std::string tool_;
  const Json arguments_;
  const std::chrono::steady_clock::time_point began_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::atomic<bool> left_{false};            ///< Set when the mutex is free again after `done_`.
  tools::ToolResult result_;
  std::stop_source stop_;
  void told(std::string_view text);
  std::mutex partial_mutex_;                 ///< Of the two below: a listener may take its time.
  std::string partial_;
  std::function<void(std::string_view)> listener_;
};

/// Calls a tool on this thread; for those whose `at_once` or `ends_on_stop` says that it needs not be left behind. Gives the baton away meanwhile. Waking
/// two threads for a call costs more than many a call. After `timeout_ms`, and when the run is stopped, the tool is asked to
/// stop, and its answer counts as in RunningCall::wait. One that was slow is noted in `run.slow_tools`.
tools::ToolResult call_here(RunContext& run, const std::string& tool, const Json& arguments, tools::CallContext context, std::int64_t timeout_ms);

}  // namespace kontor::agent
