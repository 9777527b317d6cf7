#pragma once
// A run from its beginning, from its journal, or as a replay of its journal.

#include "agent/assembly.hpp"
#include "agent/run_context.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kontor::agent {

/// What the command line says. Kept in the journal with the run, so that resuming needs none of it again.
struct RunOptions {
  std::string task;                           ///< Text for the first agent, when the file has no workflow.
  std::string model_path;                     ///< Replaces every agent's model.
  std::string model_name;                     ///< The same with a model of the file (`tests: model`).
  std::string device = "auto";
  int threads = 0;                            ///< 0: as many as useful.
  std::optional<std::uint64_t> seed;
  bool airgap = false;
  std::string shadow_folder;                  ///< Redirects everything written (eval).
  bool untrusted_inputs = false;              ///< The inputs came from outside (a webhook).
};

/// How a model file is opened; `spec.path`, `spec.endpoint` or `spec.replay` says which. `played`: turns a resumed run
/// has already had.
using ModelOpener = std::function<Result<std::unique_ptr<inference::TextModel>>(const ModelSpec& spec, const RunOptions& options,
                                                                                const std::vector<std::string>& played)>;

/// The world around a run. Callbacks are called on the run's thread.
struct RunWorld {
  ToolMaker make_tools;
  ModelOpener open_model;
  EventSink sink;
  /// Kept together with a new run. Where it is there already no run starts: an error of kind kRepeated.
  std::optional<JournalMark> mark;
  /// A new run is durable and has its id, and begins to work when this returns.
  std::function<void(const std::string& id)> created;
  std::function<ApprovalAnswer(const PendingItem&)> approver;
  std::stop_token stop;
  const Clock* clock = &system_clock();
  bool timers_park = false;                   ///< Pending waits park the run; whoever drives it resumes it in time.
};

struct RunReport {
  std::string id;
  std::string name;
  std::string status;                         ///< done failed parked unknown interrupted budget error cancelled
  std::string note;                           ///< Why, when not done.
  std::string kind;                           ///< Error kind, when not done.
  std::string where;                          ///< The step, when one failed.
  Json result = nullptr;
  std::size_t failed_items = 0;               ///< Loop items and steps whose errors were collected.
  std::vector<CollectedFailure> failures;     ///< The first of them.
  Ledger ledger;
  std::vector<PendingItem> pending;
};

/// Starts a run. Errors before anything happened (usage, tools that do not load) are errors; everything later is a
/// report with a status. `inputs`: from resolve_inputs.
Result<RunReport> start_run(Journal& journal, const Spec& spec, const Json& inputs, const RunOptions& options, const RunWorld& world);

/// Takes a run up where its journal ends. `overrides`: device, threads and model path replace the recorded ones when
/// set. A finished run is reported as it is. Errors: conflict (another process works on it), malformed (journal).
Result<RunReport> resume_run(Journal& journal, const std::string& id, const RunOptions& overrides, const RunWorld& world);

/// Walks the run again from its journal alone: no model, no tool, no write. The report's status is what the journal
/// leads to ("end_of_log" when the run has not finished there).
Result<RunReport> replay_run(Journal& journal, const std::string& id, const RunWorld& world);

/// What `runs verify` found.
struct VerifyReport {
  std::string id;
  std::size_t turns = 0, same = 0;            ///< Turns that were generated again, and those that came out as recorded.
  std::int64_t tokens = 0;                    ///< Of all turns that were generated again.
  std::size_t unpromised = 0;                 ///< Turns of models that do not promise the same text (endpoints).
  bool complete = true;                       ///< False: the walk ended before the end of the journal's turns.
  std::string note;                           ///< Why it ended, when not complete.
  struct Difference {
    std::string place;                        ///< The turn.
    std::size_t token = 0;                    ///< The first that differs, from 0; by bytes where the turn has no ids.
    std::string recorded, again;              ///< Text from there, cut.
  };
  std::optional<Difference> first;
};

/// Walks the run again from its journal and lets the models write every turn once more, with the recorded conversation
/// before it; nothing is written and no tool is called. Errors: as replay_run, and those of loading tools and models.
Result<VerifyReport> verify_run(Journal& journal, const std::string& id, const RunOptions& overrides, const RunWorld& world);

/// A person's answer.
struct PersonsAnswer {
  bool approve = false;
  std::string by;
  std::string choice;                         ///< One of the step's choices, or ""; the answer to a question.
  std::string reason;
};
/// Records it. `call`: "" when exactly one is pending. An expired question that went on to somebody takes only that
/// one's answer. Errors: not_found, usage (several; the message lists them; a question without an answer), conflict (answered already, or twice by
/// the same person where several must), timeout (expired).
Result<PendingItem> decide_approval(Journal& journal, const std::string& id, const std::string& call, const PersonsAnswer& answer,
                                    const Clock& clock = system_clock());
/// Records whether an effect with unknown outcome happened.
Result<PendingItem> resolve_outcome(Journal& journal, const std::string& id, const std::string& call, bool happened, const std::string& by);
Result<void> cancel_run(Journal& journal, const std::string& id, const std::string& by);

}  // namespace kontor::agent
