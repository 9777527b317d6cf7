// What people say about a run: decisions, outcomes that nobody knew, the end.

#include "agent/approval.hpp"
#include "agent/event_data.hpp"
#include "agent/history.hpp"
#include "agent/parked_state.hpp"
#include "agent/recorded_run.hpp"
#include "tools/builtin/confined.hpp"

#include <algorithm>

namespace kontor::agent {
namespace {

constexpr std::size_t kAnswerMax = 64u << 10;

/// What a person wrote, sealed as the run seals everything else. Errors: as read_start and Redactor.
Result<Json> seal_words(Journal& journal, const std::vector<JournalEvent>& events, const Json& data) {
  const auto recorded = read_start(events);
  if (!recorded) return recorded.error();
  auto redactor = open_redactor(recorded->spec, journal);
  if (!redactor) return redactor.error();
  if (!*redactor) return data;
  for (const auto& event : events) {
    auto opened = (*redactor)->open(event.data);
    if (!opened) return opened.error();
    (*redactor)->seal(*opened);  // It learns the values that must not be read elsewhere.
  }
  return (*redactor)->seal(data);
}

Result<PendingItem> choose(const std::vector<PendingItem>& pending, const std::string& call, bool unknown, const std::string& id) {
  std::vector<PendingItem> fitting;
  for (const auto& item : pending) {
    if (item.is_unknown == unknown && (call.empty() || item.call == call)) fitting.push_back(item);
  }
  const std::string what = unknown ? "outcome to resolve" : "approval to decide";
  std::erase_if(fitting, [](const PendingItem& item) { return item.is_timer; });
  if (fitting.empty()) return fail(Errc::not_found, "run " + id + " has no " + what + (call.empty() ? "" : " at '" + call + "'"));
  if (fitting.size() > 1) {
    std::string list;
    for (const auto& item : fitting) list += (list.empty() ? "" : ", ") + item.call + (item.tool.empty() ? "" : " (" + item.tool + ")");
    return fail(Errc::usage, "run " + id + " waits for several answers; name one of: " + list);
  }
  return fitting.front();
}

/// An answer after the time of a question: only the one it went on to may give it.
Result<void> check_in_time(RunLog& log, PendingItem& item, const std::string& by, std::int64_t now_ms) {
  std::string target = item.escalated ? item.who.front() : std::string();
  if (item.expires_at_ms > 0 && now_ms >= item.expires_at_ms) {
    target = escalation_target(item.on_expire);
    if (target.empty()) return fail(Errc::timeout, "the request at " + item.call + " has expired; resume the run to record that");
    if (by == target) {
      auto noted = log.append("approval_escalated", item.call, Json{{"to", target}, {"from", item.who}});
      if (!noted) return noted;
      item.approved_by.clear();
    }
  }
  if (!target.empty() && by != target) return fail(Errc::timeout, "the request at " + item.call + " went on to " + target + ", because nobody answered in time; only " + target + " can answer it");
  return {};
}

}  // namespace

Result<PendingItem> decide_approval(Journal& journal, const std::string& id, const std::string& call, const PersonsAnswer& answer, const Clock& clock) {
  std::vector<JournalEvent> events;
  auto log = journal.reopen(id, &events);
  if (!log) return log.error();
  auto row = journal.find(id);
  if (!row) return row.error();
  if (auto open = check_open(*row); !open) return open.error();
  const History history(events);
  if (const auto& decided = history.decisions(call); !call.empty() && !decided.empty()) {
    const auto pending = history.pending();
    const bool open = std::any_of(pending.begin(), pending.end(), [&](const PendingItem& item) { return item.call == call; });
    if (!open) return fail(Errc::conflict, call + " is answered already: " + text_of(decided.back(), "decision") + " by " + text_of(decided.back(), "by"));
  }
  auto item = choose(history.pending(), call, false, id);
  if (!item) return item.error();
  if (auto in_time = check_in_time(*log, *item, answer.by, clock.unix_ms()); !in_time) return in_time.error();
  if (std::find(item->approved_by.begin(), item->approved_by.end(), answer.by) != item->approved_by.end()) {
    return fail(Errc::conflict, answer.by + " has approved " + item->call + " already; " + std::to_string(item->people) + " different people must");
  }
  if (item->is_question && answer.approve && answer.choice.empty()) return fail(Errc::usage, item->call + " is a question: answer it with kontor runs answer " + id + " " + item->call + " TEXT");
  const auto list_of_choices = [&] {
    std::string list;
    for (const auto& word : item->choices) list += (list.empty() ? "" : ", ") + word;
    return list;
  };
  if (item->needs_choice() && answer.approve && answer.choice.empty()) return fail(Errc::usage, item->call + " has choices of its own; name one of them with --choice: " + list_of_choices());
  if (answer.choice.size() > kAnswerMax || tools::invalid_utf8(answer.choice)) return fail(Errc::usage, "an answer is UTF-8 text of at most " + std::to_string(kAnswerMax) + " bytes");
  if (!answer.choice.empty() && !item->choices.empty() && std::find(item->choices.begin(), item->choices.end(), answer.choice) == item->choices.end()) {
    return fail(Errc::usage, "'" + answer.choice + "' is not one of the choices: " + list_of_choices());
  }
  // The binding of the request goes into the decision: it counts for these arguments and no others.
  Json data{{"decision", answer.approve ? "approve" : "reject"}, {"choice", answer.choice}, {"by", answer.by}, {"binding", item->binding}};
  if (!answer.reason.empty()) data["reason"] = answer.reason;
  if (item->is_question) data["question"] = true;
  if (!answer.choice.empty() || !answer.reason.empty()) {
    auto sealed = seal_words(journal, events, data);
    if (!sealed) return sealed.error();
    data = std::move(*sealed);
  }
  auto written = log->append("approval_decided", item->call, data);
  if (!written) return written.error();
  return item;
}

Result<PendingItem> resolve_outcome(Journal& journal, const std::string& id, const std::string& call, bool happened, const std::string& by) {
  auto log = journal.reopen(id);
  if (!log) return log.error();
  auto events = journal.events(id);
  if (!events) return events.error();
  auto item = choose(History(*events).pending(), call, true, id);
  if (!item) return item.error();
  auto written = log->append("call_resolved", item->call, Json{{"state", happened ? "happened" : "not_happened"}, {"by", by}});
  if (!written) return written.error();
  return item;
}

Result<void> cancel_run(Journal& journal, const std::string& id, const std::string& by) {
  auto log = journal.reopen(id);
  if (!log) return log.error();
  auto row = journal.find(id);
  if (!row) return row.error();
  if (auto open = check_open(*row); !open) return open.error();
  auto written = log->append("run_cancelled", "", Json{{"by", by}}, "cancelled", "cancelled by " + by);
  if (written) remove_parked_state(journal.folder(), id);
  return written;
}

}  // namespace kontor::agent
