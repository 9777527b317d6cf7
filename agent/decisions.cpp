#include "agent/decisions.hpp"

#include "agent/event_data.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>

namespace kontor::agent {
namespace {

// An answer this close before the journal's end may be the one that was being recorded when the process ended.
constexpr std::int64_t kOverlapMs = 60'000;
constexpr std::size_t kScriptMax = 100'000;

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; }

/// Does the word stand alone in the text?
bool names(const std::string& text, const std::string& word) {
  for (auto at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    const bool before = at > 0 && is_word(text[at - 1]);
    const bool behind = at + word.size() < text.size() && is_word(text[at + word.size()]);
    if (!before && !behind) return true;
  }
  return false;
}

bool shows(const Json& value, const std::string& word) {
  if (value.is_string()) return value.get_ref<const std::string&>() == word;
  if (!value.is_structured()) return false;
  return std::any_of(value.begin(), value.end(), [&](const Json& member) { return shows(member, word); });
}

bool fits(const PendingItem& item, const ScriptedDecision& decision) {
  if (item.is_unknown || item.is_timer) return false;
  const bool may = item.who.empty() || std::find(item.who.begin(), item.who.end(), decision.answer.by) != item.who.end();
  return may && (item.call == decision.request || names(item.reason, decision.request) || shows(item.arguments, decision.request));
}

}  // namespace

Result<std::int64_t> parse_iso_duration(std::string_view text) {
  const Error bad = fail(Errc::malformed, "'" + std::string(text.substr(0, 40)) + "' is not a duration such as PT26H or P2DT30M");
  if (text.size() < 2 || text[0] != 'P') return bad;
  std::int64_t ms = 0;
  bool time = false, any = false;
  constexpr std::int64_t kMost = 100LL * 366 * 86'400'000;
  for (std::size_t at = 1; at < text.size();) {
    if (text[at] == 'T' && !time) {
      time = true;
      ++at;
      continue;
    }
    std::int64_t whole = 0, thousandths = 0, weight = 100;
    const std::size_t begin = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9' && at - begin < 10) whole = whole * 10 + (text[at++] - '0');
    if (at == begin) return bad;
    if (at < text.size() && text[at] == '.') {
      for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, weight /= 10) thousandths += (text[at] - '0') * weight;
    }
    if (at == text.size()) return bad;
    const char unit = text[at++];
    const std::int64_t scale = !time && unit == 'W' ? 604'800'000 : !time && unit == 'D' ? 86'400'000 : time && unit == 'H' ? 3'600'000
                             : time && unit == 'M' ? 60'000 : time && unit == 'S' ? 1'000 : 0;
    if (scale == 0) return bad;
    ms += whole * scale + thousandths * scale / 1000;
    if (ms > kMost) return bad;
    any = true;
  }
  if (!any || text.back() == 'T') return bad;
  return ms;
}

Result<std::vector<ScriptedDecision>> parse_decisions(const std::string& text) {
  std::vector<ScriptedDecision> script;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto bad = [&](const std::string& why) { return fail(Errc::malformed, why, "decisions", std::to_string(number)); };
    auto value = parse_json(line);
    if (!value) return bad(value.error().describe());
    if (!value->is_object()) return bad("a decision is an object with at, request, by and decision");
    ScriptedDecision decision;
    auto at = parse_iso_duration(text_of(*value, "at"));
    if (!at) return bad(at.error().message);
    decision.at_ms = *at;
    decision.request = text_of(*value, "request");
    decision.answer.by = text_of(*value, "by");
    decision.answer.reason = text_of(*value, "reason");
    decision.answer.choice = text_of(*value, "choice");
    const std::string word = text_of(*value, "decision");
    if (decision.request.empty() || decision.answer.by.empty()) return bad("'request' and 'by' are texts that are not empty");
    if (word != "approve" && word != "reject") return bad("'decision' is approve or reject");
    decision.answer.approve = word == "approve";
    script.push_back(std::move(decision));
    if (script.size() > kScriptMax) return bad("more than " + std::to_string(kScriptMax) + " decisions");
  }
  std::stable_sort(script.begin(), script.end(), [](const auto& a, const auto& b) { return a.at_ms < b.at_ms; });
  return script;
}

Result<std::vector<ScriptedDecision>> read_decisions(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail_errno("open", path);
  std::ostringstream text;
  text << in.rdbuf();
  auto script = parse_decisions(text.str());
  if (!script) {
    Error error = script.error();
    error.where = path + ":" + error.where;
    return error;
  }
  return script;
}

void LeapingClock::leap_to(std::int64_t unix_ms) {
  const std::int64_t ahead = unix_ms - system_clock().unix_ms();
  std::int64_t now = leapt_ms_.load();
  while (ahead > now && !leapt_ms_.compare_exchange_weak(now, ahead)) {}
}

Result<void> leap_to_end(Journal& journal, const std::string& id, LeapingClock& clock) {
  auto events = journal.events(id);
  if (!events) return events.error();
  if (!events->empty()) clock.leap_to(events->back().unix_ms);
  return {};
}

Result<RunReport> follow_script(Journal& journal, RunReport report, const std::vector<ScriptedDecision>& script, LeapingClock& clock,
                                const RunOptions& overrides, const RunWorld& world, const std::function<void(const std::string&)>& skipped) {
  auto row = journal.find(report.id);
  if (!row) return row.error();
  const std::int64_t start = row->created_ms;
  const std::int64_t seen = clock.unix_ms() - kOverlapMs;
  auto next = std::find_if(script.begin(), script.end(), [&](const auto& decision) { return start + decision.at_ms >= seen; });
  while (report.status == "parked" && !world.stop.stop_requested()) {
    std::optional<std::int64_t> wake;
    for (const auto& item : report.pending) {
      if (item.expires_at_ms > 0 && (!wake || item.expires_at_ms < *wake)) wake = item.expires_at_ms;
    }
    const bool expires_first = wake && (next == script.end() || *wake <= start + next->at_ms);
    if (!expires_first && next == script.end()) return report;  // Nobody answers any more.
    if (expires_first) {
      clock.leap_to(*wake + 1);
    } else {
      const ScriptedDecision& decision = *next++;
      clock.leap_to(start + decision.at_ms);
      const auto item = std::find_if(report.pending.begin(), report.pending.end(), [&](const PendingItem& candidate) { return fits(candidate, decision); });
      if (item == report.pending.end()) {
        skipped("nothing waits for " + decision.answer.by + "'s answer to " + decision.request);
        continue;
      }
      if (auto decided = decide_approval(journal, report.id, item->call, decision.answer, clock); !decided) {
        skipped(decided.error().message);
        continue;
      }
    }
    auto resumed = resume_run(journal, report.id, overrides, world);
    if (!resumed) return resumed.error();
    report = std::move(*resumed);
  }
  return report;
}

}  // namespace kontor::agent
