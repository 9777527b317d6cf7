#pragma once
// How one agent gets from its task to its answer, as a state machine without I/O: resume(event) -> action. The runner
// obeys it; tests script it.

#include "agent/dialect/parser.hpp"
#include "agent/message.hpp"
#include "base/error.hpp"
#include "inference/text_model.hpp"
#include "tools/schema.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace kontor::agent {

struct PlannerLimits {
  std::int64_t steps = 16;         ///< Turns of the model.
  std::int64_t repeat_calls = 3;   ///< How often the same call (tool and arguments) may be made in one task.
  std::int64_t tool_errors = 3;    ///< Failed calls in a row; 0: the first one is too many, as with 1.
  bool repair = true;              ///< Show unusable output to the model and let it try again ...
  std::int64_t retries = 2;        ///< ... this many times in a row.
  std::size_t echo_bytes = 600;    ///< How much of unusable output is shown back.
};

struct PlannerOptions {
  std::vector<Message> opening;               ///< System and user message.
  std::vector<std::string> tools;             ///< Names the model was told about, for error messages.
  std::optional<tools::Schema> output;        ///< The final answer must be JSON of this shape.
  std::string output_text;                    ///< The schema as text, shown with the first violation.
  PlannerLimits limits;
  ToolChoice choice = ToolChoice::automatic;  ///< required and named hold until a call is made.
  std::string named;                          ///< For ToolChoice::named.
};

// Events.
struct Started {};
struct TurnDone {
  ParseResult parsed;
  std::string text;                           ///< Raw output without the end-of-turn token.
  std::vector<int> tokens;                    ///< Its ids, where the source has them.
  inference::StopReason stop = inference::StopReason::end_of_turn;
};
struct CallOutcome {
  std::string call_id;
  bool is_error = false;
  bool is_invalid = false;                    ///< The arguments did not fit: counts as unusable output, not as tool error.
  std::string text;                           ///< What the model is shown.
  bool trusted = true;
};
/// The message in which the model reads a result.
Message result_message(const ToolCall& call, const CallOutcome& outcome = {});

struct CallsDone {
  std::vector<CallOutcome> outcomes;          ///< Exactly one for each call, in any order.
};
using PlannerEvent = std::variant<Started, TurnDone, CallsDone>;

// Actions.
struct Generate {};                           ///< Next turn of the model over messages().
struct CallTools {
  std::vector<ToolCall> calls;                ///< With ids "TURN.CALL", from 1.
};
struct Answered {
  Json answer;                                ///< Checked against the schema; a string when there is none.
};
struct GiveUp {
  std::string kind;                           ///< invalid_output repeated_call tool_errors steps no_progress internal
  std::string reason;                         ///< A sentence.
};
using PlannerAction = std::variant<Generate, CallTools, Answered, GiveUp>;

/// Guarantees: every call in messages() has exactly one result before the next Generate; a call is only handed out when
/// the whole turn it came from could be read; the number of actions is bounded by the limits.
class Planner {
 public:
  explicit Planner(PlannerOptions options);

  PlannerAction resume(const PlannerEvent& event);
  const std::vector<Message>& messages() const { return messages_; }
  /// What would follow from this turn, as a text: equal for equal calls and equal answers, "" where the turn would be
  /// sent back.
  std::string choice(const TurnDone& turn) const;
  std::int64_t turns() const { return turns_; }
  /// What the next turn may do.
  ToolChoice tool_choice() const;
  /// Times unusable output was sent back so far.
  std::int64_t repairs() const { return repairs_; }

  /// What compact() took out of the conversation.
  struct Dropped {
    std::size_t message = 0;   ///< Index in messages().
    std::string what;          ///< reasoning | result | text
    std::string name;          ///< Of the tool, for results.
    std::size_t bytes = 0;
  };
  /// Makes the conversation at least `bytes` shorter where that is possible: reasoning of earlier turns goes first, then
  /// results of tools and texts of unusable turns, oldest first. The opening and the last round stay, and every call
  /// keeps a result, which says what was left out. Empty: there is nothing left to drop.
  std::vector<Dropped> compact(std::size_t bytes);

 private:
  enum class State { idle, generating, calling, over };

  PlannerAction on_turn(const TurnDone& turn);
  PlannerAction on_calls(const CallsDone& done);
  PlannerAction on_answer(const TurnDone& turn);
  Result<Json> read_final(const TurnDone& turn) const;
  /// What is wrong with the calls of a turn, or that there are none; "" where nothing is.
  std::string against_choice(const TurnDone& turn) const;
  PlannerAction next_turn();
  PlannerAction give_up(std::string kind, std::string reason);
  PlannerAction send_back(const TurnDone& turn, const std::string& complaint);

  PlannerOptions options_;
  std::vector<Message> messages_;
  std::vector<ToolCall> pending_;
  std::map<std::string, std::int64_t> seen_calls_;
  State state_ = State::idle;
  std::int64_t turns_ = 0;
  std::int64_t unusable_ = 0;      // in a row
  std::int64_t tool_errors_ = 0;   // in a row
  std::int64_t repairs_ = 0;
  bool schema_shown_ = false;
  bool called_ = false;
};

/// JSON text with sorted members: equal values give equal texts, whatever the order a model wrote them in.
std::string canonical_json(const Json& value);

/// The answer text as JSON: the whole text, or its last fenced block. Errors: malformed.
Result<Json> read_answer(const std::string& text);

}  // namespace kontor::agent
