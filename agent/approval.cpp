#include "agent/approval.hpp"

#include "agent/planner.hpp"
#include "base/hash.hpp"

#include <algorithm>

namespace kontor::agent {
namespace {

std::string text(const Json& data, const char* key) { return data.contains(key) && data.at(key).is_string() ? data.at(key).get<std::string>() : std::string(); }

std::int64_t integer(const Json& data, const char* key, std::int64_t otherwise) {
  return data.contains(key) && data.at(key).is_number_integer() ? data.at(key).get<std::int64_t>() : otherwise;
}

/// The journal's decisions on one question, counted.
class Poll {
 public:
  Poll(RunContext& run, const PendingItem& item) : run_(run), item_(item) {}

  /// Nothing while more people have to answer. Errors: diverged.
  Result<std::optional<ApprovalAnswer>> count() const {
    std::vector<std::string> people;
    ApprovalAnswer answer;
    answer.escalated = run_.history.escalation(item_.call) != nullptr;
    for (const Json& decision : run_.history.decisions(item_.call)) {
      // A decision counts for exactly what was shown.
      if (text(decision, "binding") != item_.binding) return fail(Errc::conflict, "the approval of " + item_.call + " is for other arguments", kDiverged, item_.call);
      const std::string by = text(decision, "by");
      answer.choice = text(decision, "choice");
      answer.reason = text(decision, "reason");
      if (text(decision, "decision") != "approve") {
        answer.kind = ApprovalAnswer::Kind::rejected;
        answer.by = by;
        return std::optional(answer);
      }
      if (std::find(people.begin(), people.end(), by) == people.end()) people.push_back(by);
    }
    if (static_cast<std::int64_t>(people.size()) < item_.people) return std::optional<ApprovalAnswer>();
    answer.kind = ApprovalAnswer::Kind::approved;
    for (const auto& name : people) answer.by += (answer.by.empty() ? "" : ",") + name;
    return std::optional(answer);
  }

 private:
  RunContext& run_;
  const PendingItem& item_;
};

class Question {
 public:
  Question(RunContext& run, PendingItem item, std::int64_t expires_ms) : run_(run), item_(std::move(item)), expires_ms_(expires_ms) {}

  Result<ApprovalAnswer> answer() {
    if (auto open = open_question(); !open) return open.error();
    auto counted = Poll(run_, item_).count();
    if (!counted) return counted.error();
    if (*counted) return **counted;
    auto expired = on_expiry();
    if (!expired) return expired.error();
    if (*expired) return **expired;
    return ask();
  }

 private:
  /// As it was asked before, or asked now.
  Result<void> open_question() {
    const Json* request = run_.history.request(item_.call);
    if (request && text(*request, "binding") != item_.binding) {
      return fail(Errc::conflict, "the call at " + item_.call + " is not the one that was shown for approval", kDiverged, item_.call);
    }
    if (request) {
      item_.expires_at_ms = integer(*request, "expires_at_ms", 0);
      item_.people = integer(*request, "people", 1);
      if (const Json* escalated = run_.history.escalation(item_.call)) escalate_to(text(*escalated, "to"));
      return {};
    }
    if (expires_ms_ > 0) item_.expires_at_ms = run_.clock->unix_ms() + expires_ms_;
    Json data{{"tool", item_.tool}, {"arguments", item_.arguments}, {"rule", item_.reason}, {"binding", item_.binding},
              {"who", item_.who}, {"choices", item_.choices}, {"on_expire", item_.on_expire}};
    if (item_.expires_at_ms > 0) data["expires_at_ms"] = item_.expires_at_ms;
    if (item_.is_question) data["question"] = true;
    if (item_.people != 1) data["people"] = item_.people;
    auto recorded = run_.record("approval_requested", item_.call, data);
    if (recorded) run_.emit("approval_requested", item_.call, data);
    return recorded;
  }

  void escalate_to(const std::string& name) {
    item_.who = {name};
    item_.escalated = true;
    item_.expires_at_ms = 0;  // It went up; there it waits.
    item_.people = 1;
  }

  /// What happens when nobody answered in time; nothing when the question stays open.
  Result<std::optional<ApprovalAnswer>> on_expiry() {
    if (!run_.log || item_.expires_at_ms <= 0 || run_.clock->unix_ms() < item_.expires_at_ms) return std::optional<ApprovalAnswer>();
    if (const std::string target = escalation_target(item_.on_expire); !target.empty()) {
      const Json data{{"to", target}, {"from", item_.who}};
      if (auto recorded = run_.record("approval_escalated", item_.call, data); !recorded) return recorded.error();
      run_.emit("approval_escalated", item_.call, data);
      escalate_to(target);
      return std::optional<ApprovalAnswer>();
    }
    const bool stops = item_.on_expire == "stop";
    Json data{{"decision", "reject"}, {"by", "expiry"}, {"reason", "nobody answered in time"}, {"binding", item_.binding}};
    if (item_.is_question) data["question"] = true;
    if (auto recorded = run_.record("approval_decided", item_.call, data); !recorded) return recorded.error();
    run_.emit("approval_decided", item_.call, data);
    if (stops) return fail(Errc::timeout, "nobody answered " + item_.call + " in time, and its rule says stop", kExpired, item_.call);
    ApprovalAnswer answer;
    answer.kind = ApprovalAnswer::Kind::rejected;
    answer.by = "expiry", answer.reason = "nobody answered in time";
    return std::optional(answer);
  }

  Result<ApprovalAnswer> ask() {
    ApprovalAnswer answer;
    if (run_.log && run_.approver) {
      const std::int64_t asked = run_.clock->steady_ns();
      answer = run_.approver(item_);
      run_.booked_ns += run_.clock->steady_ns() - asked;  // Waiting for people is not the run's time.
    }
    if (run_.stop.stop_requested()) return fail(Errc::cancelled, "interrupted", kInterrupted, item_.call);
    if (answer.kind == ApprovalAnswer::Kind::later) return waits();
    const bool approved = answer.kind == ApprovalAnswer::Kind::approved;
    answer.escalated = item_.escalated;
    Json data{{"decision", approved ? "approve" : "reject"}, {"choice", answer.choice}, {"by", answer.by}, {"reason", answer.reason}, {"binding", item_.binding}};
    if (item_.is_question) data["question"] = true;
    if (auto recorded = run_.record("approval_decided", item_.call, data); !recorded) return recorded.error();
    run_.emit("approval_decided", item_.call, data);
    if (approved && item_.people > 1) {
      // One person of several: the others are not at this terminal.
      const auto& before = run_.history.decisions(item_.call);
      std::vector<std::string> people{answer.by};
      for (const Json& decision : before) {
        if (std::find(people.begin(), people.end(), text(decision, "by")) == people.end()) people.push_back(text(decision, "by"));
      }
      if (static_cast<std::int64_t>(people.size()) < item_.people) return waits();
    }
    return answer;
  }

  Error waits() const {
    return fail(Errc::denied, item_.call + (item_.is_question ? " waits for an answer: " : " waits for approval: ") + item_.reason, kParked, item_.call);
  }

  RunContext& run_;
  PendingItem item_;
  std::int64_t expires_ms_;
};

}  // namespace

std::string binding_of(const std::string& tool, const Json& arguments, const std::string& ground) {
  return sha256_hex(tool + "\n" + canonical_json(arguments) + (ground.empty() ? "" : "\n" + ground));
}

std::string escalation_target(const std::string& on_expire) {
  constexpr std::string_view kWord = "escalate(";
  if (on_expire.rfind(kWord, 0) != 0 || on_expire.back() != ')') return {};
  return on_expire.substr(kWord.size(), on_expire.size() - kWord.size() - 1);
}

Result<ApprovalAnswer> ask_person(RunContext& run, PendingItem item, std::int64_t expires_ms) { return Question(run, std::move(item), expires_ms).answer(); }

}  // namespace kontor::agent
