#pragma once
// What a run's journal already knows, by place. A resumed run walks the same way again and takes from here whatever
// has happened; only what is missing is done.

#include "agent/journal.hpp"
#include "agent/ledger.hpp"

#include <map>
#include <string>
#include <vector>

namespace kontor::agent {

/// A call or an approval step that waits for a person.
struct PendingItem {
  std::string call;          ///< Place in the run; what `runs approve RUN CALL` takes.
  std::string tool;          ///< Empty for an approval step.
  std::string reason;        ///< The rule, or why the outcome is unknown.
  std::string binding;       ///< Hash of tool and arguments; an approval counts for exactly these.
  Json arguments = nullptr;
  std::vector<std::string> who;
  std::vector<std::string> choices;
  std::int64_t expires_at_ms = 0;   ///< 0: never.
  std::string on_expire;
  std::int64_t people = 1;   ///< How many different people must approve.
  std::vector<std::string> approved_by;  ///< Who did so far.
  bool escalated = false;    ///< `who` is whom it went on to.
  bool is_question = false;  ///< `reason` is a question of the run; an approval's `choice` is the answer.
  bool is_unknown = false;   ///< Waits for `runs resolve`, not for an approval.
  bool is_timer = false;     ///< Waits for `expires_at_ms`.

  /// An approval step with choices of its own: to approve means to name one of them.
  bool needs_choice() const;
};

class History {
 public:
  History() = default;
  explicit History(const std::vector<JournalEvent>& events);

  /// The event's data, or nullptr. `place`: the step path the event was recorded with.
  const Json* generation(const std::string& place) const { return find(generations_, place); }
  const Json* intent(const std::string& place) const { return find(intents_, place); }
  const Json* outcome(const std::string& place) const { return find(outcomes_, place); }
  /// Bytes that had to be left out of the conversation before a turn ("bytes": one number for each time).
  const Json* compacted(const std::string& place) const { return find(compacted_, place); }
  const Json* recalled(const std::string& place) const { return find(recalled_, place); }
  /// Whether a fact that was recalled anywhere was secret.
  bool recalled_secret() const;
  const Json* stored(const std::string& place) const { return find(stored_, place); }
  /// The open or last approval request, and the decisions that answer it, in order.
  const Json* request(const std::string& place) const { return find(requests_, place); }
  const std::vector<Json>& decisions(const std::string& place) const;
  /// Where an expired question went on to.
  const Json* escalation(const std::string& place) const { return find(escalations_, place); }
  /// A wait: until when, and whether it is over.
  const Json* timer(const std::string& place) const { return find(timers_, place); }
  bool timer_over(const std::string& place) const { return find(timers_over_, place) != nullptr; }
  /// A step that failed for a reason which is not in an outcome (its time was over).
  const Json* failure(const std::string& place) const { return find(failures_, place); }
  /// What a person said about an unknown outcome ("happened" or "not_happened").
  const Json* resolution(const std::string& place) const { return find(resolutions_, place); }

  /// Raw texts of all turns, for tapes.
  std::vector<std::string> generated_texts() const;
  /// Cost of everything up to the last event.
  const Ledger& spent() const { return spent_; }
  /// Everything that waits for a person, in the order it was asked.
  std::vector<PendingItem> pending() const;

 private:
  using Index = std::map<std::string, Json>;
  static const Json* find(const Index& index, const std::string& place) {
    const auto found = index.find(place);
    return found == index.end() ? nullptr : &found->second;
  }

  /// False when it is answered.
  bool read_question(const std::string& place, const Json& asked, PendingItem& item) const;

  Index generations_, compacted_, intents_, outcomes_, recalled_, stored_, requests_, escalations_, resolutions_, unknowns_, timers_, timers_over_, failures_;
  std::map<std::string, std::vector<Json>> decisions_;
  std::vector<std::string> order_;          // places of requests, unknowns and timers
  std::vector<std::string> texts_;
  Ledger spent_;
};

}  // namespace kontor::agent
