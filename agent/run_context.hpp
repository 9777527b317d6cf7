#pragma once
// Everything a run carries: its specification, inputs, tools, models, journal, clock and cost. One per run. Several
// threads may work on a run; the baton says whose turn it is.

#include "agent/budget.hpp"
#include "agent/call_threads.hpp"
#include "agent/deadline_watch.hpp"
#include "agent/egress_book.hpp"
#include "agent/energy_meter.hpp"
#include "agent/events.hpp"
#include "agent/history.hpp"
#include "agent/journal.hpp"
#include "agent/ledger.hpp"
#include "agent/redaction.hpp"
#include "agent/spec/spec.hpp"
#include "base/clock.hpp"
#include "inference/text_model.hpp"
#include "memory/store.hpp"
#include "tools/brief_wait.hpp"
#include "tools/labels.hpp"
#include "tools/policy.hpp"
#include "tools/registry.hpp"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

namespace kontor::agent {

/// Error kinds that end the run (or park it) instead of failing a step; nothing retries or collects them.
inline constexpr const char* kParked = "parked";
inline constexpr const char* kUnknown = "unknown_outcome";
inline constexpr const char* kInterrupted = "interrupted";
inline constexpr const char* kBudget = "budget";
inline constexpr const char* kModelFailed = "model";
inline constexpr const char* kJournalFailed = "journal";
inline constexpr const char* kDiverged = "diverged";
inline constexpr const char* kEndOfLog = "end_of_log";
inline constexpr const char* kExpired = "expired";  ///< Nobody answered in time, and the rule says stop.

bool ends_run(const Error& error);
/// Waiting for a person: the rest of a loop may go on.
bool waits(const Error& error);

/// Gives the models of a run; opens each at its first use.
class ModelPool {
 public:
  using Open = std::function<Result<std::unique_ptr<inference::TextModel>>(const std::string& name)>;
  explicit ModelPool(Open open) : open_(std::move(open)) {}
  Result<inference::TextModel*> get(const std::string& name);
  /// The model if it was opened.
  inference::TextModel* opened(const std::string& name) const;
  /// Held while a model generates: one timeline at a time.
  std::mutex& turn_of(const std::string& name) { return turns_[name]; }
  /// All that were opened, by name.
  const std::map<std::string, std::unique_ptr<inference::TextModel>>& all() const { return models_; }

 private:
  Open open_;
  std::map<std::string, std::unique_ptr<inference::TextModel>> models_;
  std::map<std::string, std::mutex> turns_;
};

class OutputGrammars;

/// The embedder of a model of the file, opened at its first use; it lives as long as the run.
using EmbedderSource = std::function<Result<memory::Embedder*>(const std::string& model)>;

/// Answer of a person (or of the command line) to an approval.
struct ApprovalAnswer {
  enum class Kind { approved, rejected, later } kind = Kind::later;
  std::string by;                                ///< All who approved, with commas.
  std::string choice;
  std::string reason;
  bool escalated = false;                        ///< Answered by whom the question went on to.
};

/// What failed without ending the run: `on_error: {collect: NAME}`.
struct CollectedFailure {
  std::string step, kind, error;
  Json item = nullptr;                           ///< Of the loop, if it was one.
};

struct Turn;

struct RunContext {
  const Spec* spec = nullptr;
  Json inputs = Json::object();
  tools::Labels input_labels;
  std::shared_ptr<tools::Registry> registry;
  tools::Policy policy;
  ModelPool* models = nullptr;
  std::string model_override;                    ///< Name in `models`; empty: what the agents say.
  std::function<Result<memory::Store*>()> memory;
  EmbedderSource embedder;                       ///< By the name of a model.
  std::set<std::string> models_checked;           ///< Whose agents are known to fit their notation.
  std::shared_ptr<OutputGrammars> grammars;      ///< What local models may write, compiled once for each agent.
  std::map<std::string, std::string> secrets;    ///< Values by name; only the tool gate looks inside, and who opens a model with a key.
  std::uint64_t seed = 0;

  /// Everything below is touched only by the thread that has it. Given away while a thread waits for a tool, a model,
  /// the disk or a time (Pause).
  std::mutex baton;
  CallThreads calls;
  std::map<std::string, tools::BriefWait> brief; ///< Of calls on other threads, by tool; who waits takes it out.
  DeadlineWatch limits;                          ///< Of calls on the run's own threads.
  std::vector<CollectedFailure> collected;       ///< In the order of the walk.
  std::set<std::string> slow_tools;              ///< Say that they answer at once, and did not.
  Budget budget;
  /// A pending timer parks the run instead of being waited for: whoever drives the run wakes it.
  bool timers_park = false;
  std::set<std::string> secret_groups;           ///< Groups of tools that were given a secret.
  bool recalled_secret = false;                  ///< A fact that an agent of this run recalled was secret.
  tools::Egress egress;                          ///< What may be reached.
  std::shared_ptr<EgressBook> egress_book = std::make_shared<EgressBook>();  ///< What was, for the journal.
  std::string policy_hash;                       ///< Part of what an approval is bound to.
  Redactor* redactor = nullptr;                  ///< Null where nothing is redacted.
  int loop_threads = 0;                          ///< Threads of parallel loops that exist now.

  RunLog* log = nullptr;                         ///< Null while replaying: then nothing new may happen.
  History history;
  /// Not empty: recorded turns are generated once more, and both are shown to it.
  std::function<void(const std::string& place, const Turn& recorded, const Turn& again, const inference::TextModel& model)> verifier;
  EventSink sink;
  const Clock* clock = nullptr;
  std::stop_token stop;
  /// Asked for each approval that has no decision yet.
  std::function<ApprovalAnswer(const PendingItem&)> approver;

  Ledger ledger;                                 ///< Of the whole run, earlier processes included.
  std::int64_t started_ns = 0;
  EnergyMeter* energy = nullptr;
  EnergyMeter::Reading energy_seen;              ///< Already booked.
  std::int64_t booked_ns = 0;                    ///< Wall time already booked.
  /// Places of calls with effect `once` that took effect: what contains one is not tried again.
  std::set<std::string> effects_done;
  /// Confidence of the arguments of the call that policy looks at now, by dotted path.
  std::shared_ptr<std::map<std::string, double>> confidence = std::make_shared<std::map<std::string, double>>();

  void emit(const std::string& type, const std::string& step, Json data = Json::object()) const;
  /// Appends to the journal; an error of kind "journal" (or "end_of_log" while replaying) ends the run. Gives the baton
  /// away meanwhile.
  Result<void> record(const std::string& type, const std::string& step, const Json& data, Durable durable = Durable::now);
  /// What was reached since the last time goes to the journal, at `step`; record() does it by itself.
  Result<void> record_egress(const std::string& step);
  /// Waits until `until_ms` of the clock, as long as the run is not stopped. Errors: interrupted.
  Result<void> sleep_until(std::int64_t until_ms);
  /// Time and energy since the last booking, as a ledger to put into an event ("spent"); already added to `ledger`.
  Ledger book();
  const std::string& run_id() const { return run_id_; }
  std::string run_id_;

 private:
  mutable std::mutex sink_mutex_;
};

/// Gives the baton away for the length of a block.
class Pause {
 public:
  explicit Pause(RunContext& run) : run_(run) { run_.baton.unlock(); }
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;
  ~Pause() { run_.baton.lock(); }

 private:
  RunContext& run_;
};

}  // namespace kontor::agent
