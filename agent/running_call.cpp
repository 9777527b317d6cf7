#include "agent/running_call.hpp"

namespace kontor::agent {
namespace {

using tools::ToolResult;

constexpr auto kGraceAfterStop = std::chrono::milliseconds(3000);
constexpr auto kSlow = std::chrono::milliseconds(1000);  // Not what a busy machine makes of a quick call.
constexpr std::int64_t kLookNs = 25'000;  // Longer looks cost more processor time than the sleep they save.

ToolResult too_late(const std::string& tool, std::int64_t timeout_ms) {
  return ToolResult::error("timeout", tool + " took longer than " + std::to_string(timeout_ms) + " ms");
}

}  // namespace

RunningCall::RunningCall(std::string tool, Json arguments)
    : tool_(std::move(tool)), arguments_(std::move(arguments)), began_(std::chrono::steady_clock::now()) {}

std::shared_ptr<RunningCall> RunningCall::start(RunContext& run, const std::string& tool, const Json& arguments, tools::CallContext context) {
  auto call = std::make_shared<RunningCall>(tool, arguments);
  context.stop = call->stop_.get_token();
  context.partial = [self = std::weak_ptr(call)](std::string_view text) {
    if (const auto still = self.lock()) still->told(text);
  };
  run.calls.start([call, registry = run.registry, context] {
    ToolResult result = registry->call(call->tool_, call->arguments_, context);
    {
      std::lock_guard guard(call->mutex_);
      call->result_ = std::move(result);
      call->done_ = true;
      call->changed_.notify_all();
    }
    call->left_ = true;
  });
  return call;
}

void RunningCall::told(std::string_view text) {
  const std::lock_guard lock(partial_mutex_);
  partial_ = text;
  if (listener_) listener_(partial_);
}

void RunningCall::on_partial(std::function<void(std::string_view)> listener) {
  const std::lock_guard lock(partial_mutex_);
  listener_ = std::move(listener);
  if (listener_ && !partial_.empty()) listener_(partial_);
}

ToolResult RunningCall::wait(RunContext& run, std::int64_t timeout_ms) {
  // While another call of the tool has it, this one learns for itself.
  auto brief = run.brief.extract(run.brief.try_emplace(tool_, kLookNs).first);
  ToolResult result = wait_without_baton(run, timeout_ms, brief.mapped());
  run.brief.insert(std::move(brief));
  return result;
}

ToolResult RunningCall::wait_without_baton(RunContext& run, std::int64_t timeout_ms, tools::BriefWait& brief) {
  Pause others_may_work(run);
  const std::stop_callback on_stop(run.stop, [self = shared_from_this()] {
    self->stop_.request_stop();
    std::lock_guard guard(self->mutex_);  // The waiter is either before its check or asleep, never between.
    self->changed_.notify_all();
  });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  brief.look([this] { return left_.load(); });
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline, [&] { return done_ || stop_.stop_requested(); });
  if (done_) return result_;
  const bool stopped = stop_.stop_requested();
  lock.unlock();
  stop_.request_stop();
  lock.lock();
  changed_.wait_for(lock, kGraceAfterStop, [&] { return done_; });
  // Finished in spite of the stop: that is an outcome worth keeping.
  if (done_ && (!result_.is_error || stopped)) return result_;
  if (stopped) return ToolResult::error("cancelled", "the run was stopped while " + tool_ + " was working");
  return too_late(tool_, timeout_ms);
}

ToolResult call_here(RunContext& run, const std::string& tool, const Json& arguments, tools::CallContext context, std::int64_t timeout_ms) {
  const auto registry = run.registry;
  const auto began = DeadlineWatch::Clock::now();
  ToolResult result;
  bool in_time = true;
  {
    Pause others_may_work(run);
    std::stop_source stop;
    context.stop = stop.get_token();
    const std::stop_callback on_stop(run.stop, [&stop] { stop.request_stop(); });
    const auto watched = run.limits.begin(stop, began + std::chrono::milliseconds(timeout_ms));
    result = registry->call(tool, arguments, context);
    in_time = run.limits.end(watched);
  }
  if (DeadlineWatch::Clock::now() - began > kSlow) run.slow_tools.insert(tool);
  return in_time || !result.is_error || run.stop.stop_requested() ? result : too_late(tool, timeout_ms);
}

}  // namespace kontor::agent
