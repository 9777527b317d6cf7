#include "agent/run_context.hpp"

namespace kontor::agent {

bool waits(const Error& error) { return error.kind == kParked || error.kind == kUnknown; }

bool ends_run(const Error& error) {
  for (const char* kind : {kParked, kUnknown, kInterrupted, kBudget, kModelFailed, kJournalFailed, kDiverged, kEndOfLog}) {
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
  if (sink) sink(RunEvent{type, step, std::move(data)});
}

Result<void> RunContext::record(const std::string& type, const std::string& step, const Json& data) {
  if (!log) return fail(Errc::not_found, "the journal ends here", kEndOfLog, step);
  auto written = log->append(type, step, data);
  if (!written) return fail(Errc::io, written.error().message + "; the run stopped", kJournalFailed);
  return {};
}

Ledger RunContext::book() {
  Ledger spent;
  const std::int64_t now = clock->steady_ns();
  spent.seconds = static_cast<double>(now - booked_ns) / 1e9;
  booked_ns = now;
  if (energy) {
    const double joules = energy->joules();
    spent.joules = joules - energy_seen;
    spent.joules_estimated = energy->is_estimate();
    energy_seen = joules;
  }
  ledger.add(spent);
  return spent;
}

}  // namespace kontor::agent
