#pragma once
// One turn of a model: prompt in, parsed output out, with the think budget enforced and streamed to whoever watches.

#include "agent/dialect/renderer.hpp"
#include "agent/early_calls.hpp"
#include "agent/grammar/output_grammar.hpp"
#include "agent/planner.hpp"
#include "agent/run_context.hpp"

#include <map>
#include <string>
#include <vector>

namespace kontor::agent {

struct TurnRequest {
  std::string place;                       ///< For events.
  const std::vector<Message>* messages = nullptr;
  const std::vector<ToolSchema>* tools = nullptr;
  RollingPrompt* prompt = nullptr;         ///< Of this conversation, kept between its turns. Null: rendered for this turn.
  inference::Sampling sampling;
  std::string think_keep = "turn";         ///< none | turn | all
  std::int64_t think_tokens = 0;           ///< 0: no limit. After it the reasoning is closed by force.
  int max_tokens = 4096;
  bool wind_down = true;                   ///< What is begun is completed within max_tokens and the context. False: it is cut there.
  bool fill_context = false;               ///< Written even where little of the context is left. False: that is an error.
  std::size_t cut_after = 0;               ///< Stop behind so many tokens; 0: do not. For turns that are generated again.
  std::int64_t deadline_ns = 0;
  /// Grammars of the run. Null: the output is not constrained. Sources without token ids (tapes, endpoints) never are.
  OutputGrammars* grammars = nullptr;
  std::string grammar_name;                ///< Stands for the tools and the answer's schema, for `grammars`.
  const std::optional<Json>* output = nullptr;  ///< Schema of the answer.
  const std::vector<ToolSchema>* tool_parameters = nullptr;  ///< As the tools declare them; null: as they are shown.
  ToolChoice choice = ToolChoice::automatic;
  std::string named;                       ///< For ToolChoice::named.
  const inference::Prefilled* ahead = nullptr;  ///< What was computed of the prompt before; may be null.
  EarlyCalls* early = nullptr;             ///< Told of every call that is written; may be null.
  bool silent = false;                     ///< No events while it is written.
};

struct Turn {
  TurnDone done;
  inference::Usage usage;
  /// One entry for each call: confidence of its arguments by dotted path; empty where the source has no probabilities.
  std::vector<std::map<std::string, double>> confidence;
  std::int64_t limit = 0;                  ///< Tokens within which the output had to be complete; 0: there was no such limit.
  bool wound_down = false;                 ///< That limit kept something out: values may be shorter than the model meant.
  bool think_forced = false;               ///< The reasoning was closed by its budget or because it went in circles.
  Ledger spent;                            ///< The usage as it was booked; it is in the run's ledger already.
  bool over_budget = false;                ///< Cut off by a budget: nothing may follow from the text.
  std::string budget_reason;
  double certainty = 1;                    ///< Geometric mean of the tokens' known probabilities behind the reasoning.
  // Where a vote was taken (agent/vote.hpp):
  std::size_t branch = 0;                  ///< Which of the branches this is.
  std::vector<Turn> others;                ///< The other branches, in their order.
  bool agrees = false;                     ///< Of one of the others: it says the same.
};

/// How the prompts of a model are made. Errors: kind model.
Result<DialectOptions> turn_dialect(const inference::ModelInfo& model, const std::string& think_keep);

/// `one_at_a_time` is held while the model generates; the run's baton is not. Errors: kinds interrupted, model, budget;
/// context_full, context_tight (`fill_context` would do) and timeout are failures of the agent.
Result<Turn> generate_turn(RunContext& run, inference::TextModel& model, const TurnRequest& request, std::mutex& one_at_a_time);

/// Least probability of the tokens that wrote each scalar of a JSON object, by dotted path ("lines.0.amount"). A scalar
/// is left out where one of its tokens has no known probability.
/// `raw`: the object's text, which starts at `begin` of the output; `ends`: end offset in the output and probability of
/// each piece, ascending.
std::map<std::string, double> argument_confidence(const std::string& raw, std::size_t begin,
                                                  const std::vector<std::pair<std::size_t, float>>& ends);

/// A turn in the journal's form, and back; of the other branches of a vote text, ids, limit and the reason of the end.
Json to_json(const Turn& turn);
Turn turn_from_json(const Json& data);

}  // namespace kontor::agent
