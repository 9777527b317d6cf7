#include "agent/run_context.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

namespace kontor::agent {

bool waits(const Error& error) { return error.kind == kParked || error.kind == kUnknown; }

bool ends_run(const Error& error) {
  for (const char* kind : {kParked, kUnknown, kInterrupted, kBudget, kModelFailed, kJournalFailed, kDiverged, kEndOfLog, kExpired}) {
    if (error.kind == kind) return true;
  }
  return false;
}

Result<inference::TextModel*> ModelPool::get(const std::string& name) {
  if (auto* model = opened(name)) return model;
  auto model = open_(name);
  if (!model) return model.error();
  return (models_[name] = std::move(*model)).get();
}

inference::TextModel* ModelPool::opened(const std::string& name) const {
  const auto found = models_.find(name);
  return found == models_.end() ? nullptr : found->second.get();
}

void RunContext::emit(const std::string& type, const std::string& step, Json data) const {
  if (!sink) return;
  std::lock_guard guard(sink_mutex_);
  sink(RunEvent{type, step, redactor ? redactor->mask(data) : std::move(data)});
}

Result<void> RunContext::record(const std::string& type, const std::string& step, const Json& data, Durable durable) {
  if (!log) return fail(Errc::not_found, "the journal ends here", kEndOfLog, step);
  if (auto told = record_egress(step); !told) return told;
  Pause others_may_work(*this);
  auto written = log->append(type, step, redactor ? redactor->seal(data) : data, {}, {}, durable);
  if (!written) return fail(Errc::io, written.error().message + "; the run stopped", kJournalFailed);
  return {};
}

Result<void> RunContext::record_egress(const std::string& step) {
  for (const auto& decision : egress_book->take()) {
    auto written = log->append("egress", step, redactor ? redactor->seal(decision) : decision, {}, {}, Durable::later);
    if (!written) return fail(Errc::io, written.error().message + "; the run stopped", kJournalFailed);
  }
  return {};
}

Result<void> RunContext::sleep_until(std::int64_t until_ms) {
  constexpr std::int64_t kSliceMs = 20;
  const std::int64_t began = clock->steady_ns();
  {
    Pause others_may_work(*this);
    for (std::int64_t left = until_ms - clock->unix_ms(); left > 0 && !stop.stop_requested(); left = until_ms - clock->unix_ms()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(std::min(left, kSliceMs)));
    }
  }
  if (loop_threads == 0) booked_ns += clock->steady_ns() - began;  // Waiting is not the run's work.
  if (stop.stop_requested()) return fail(Errc::cancelled, "interrupted", kInterrupted);
  return {};
}

Ledger RunContext::book() {
  Ledger spent;
  const std::int64_t now = clock->steady_ns();
  spent.seconds = static_cast<double>(now - booked_ns) / 1e9;
  booked_ns = now;
  spent.embedded = budget.take_embedded();
  if (energy) {
    const auto now_used = energy->read();
    spent.joules = now_used.joules - energy_seen.joules;
    spent.joules_gpu = now_used.gpu_joules - energy_seen.gpu_joules;
    spent.gpu_busy_seconds = now_used.gpu_busy_seconds - energy_seen.gpu_busy_seconds;
    spent.joules_estimated = energy->is_estimate();
    energy_seen = now_used;
  }
  ledger.add(spent);
  budget.booked(ledger);
  return spent;
}

}  // namespace kontor::agent
