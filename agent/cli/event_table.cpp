#include "agent/cli/event_table.hpp"

#include "agent/cli/terminal.hpp"
#include "agent/ledger.hpp"

#include <cstdio>
#include <ctime>
#include <vector>

namespace kontor::agent::cli {

std::string time_words(std::int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm local{};
  localtime_r(&seconds, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local);
  return text;
}

namespace {

/// The time of day; with its date where that is not the day of `start_ms`.
std::string when_since(std::int64_t unix_ms, std::int64_t start_ms) {
  const std::string at = time_words(unix_ms);
  return at.substr(0, 10) == time_words(start_ms).substr(0, 10) ? at.substr(11) : at;
}

/// What an event cost, as far as that can be told from zero.
std::string spent_words(const Json& data) {
  if (!data.contains("spent") || !data.at("spent").is_object()) return {};
  const Ledger spent = ledger_from_json(data.at("spent"));
  char text[96];
  std::snprintf(text, sizeof text, "%.3f s  %.2f J", spent.seconds, spent.joules);
  return text + (spent.turns > 0 ? "  " + std::to_string(spent.prefilled) + "+" + std::to_string(spent.reused) + ">" + std::to_string(spent.generated + spent.forced) + " tokens" : std::string());
}

/// " (asked: finance, cfo)" of a request to people.
std::string asked_words(const Json& request) {
  std::string names;
  if (const auto who = request.find("who"); who != request.end() && who->is_array()) {
    for (const auto& name : *who) names += (names.empty() ? "" : ", ") + (name.is_string() ? name.get<std::string>() : std::string());
  }
  return names.empty() ? "" : " (asked: " + names + ")";
}

/// One line for people.
std::string summary(const JournalEvent& event) {
  const auto text = [&](const char* key) { return event.data.contains(key) && event.data.at(key).is_string() ? event.data.at(key).get<std::string>() : std::string(); };
  if (event.type == "run_created") return text("file");
  if (event.type == "generation") return text("agent") + ": " + (text("content").empty() ? text("text") : text("content"));
  if (event.type == "call_intent") return text("tool") + " (" + text("effect") + "; " + text("rule") + ") " + spaced_json(event.data.at("arguments"));
  if (event.type == "call_outcome") return (text("rule").empty() ? "" : "(" + text("rule") + ") ") + (text("text").empty() ? spaced_json(event.data.value("value", Json())) : text("text"));
  if (event.type == "approval_requested") return (text("tool").empty() ? "" : text("tool") + ": ") + text("rule") + asked_words(event.data);
  if (event.type == "approval_decided") return decision_words(event.data);
  if (event.type == "approval_escalated") return "nobody answered in time, goes on to " + text("to");
  if (event.type == "step_failed") return text("kind") + ": " + text("error");
  if (event.type == "generation_cut") {
    const Ledger spent = ledger_from_json(event.data.value("spent", Json()));
    return "cut off (" + text("reason") + "), not used, paid for: " + std::to_string(spent.generated) + " tokens";
  }
  if (event.type == "timer_started") return "until " + time_words(event.data.value("until_ms", std::int64_t{0}));
  if (event.type == "call_unknown") return text("tool") + ": " + text("reason");
  if (event.type == "call_resolved") return text("state") + ", says " + text("by");
  if (event.type == "egress") {
    return text("who") + (event.data.value("allowed", Json(false)) == Json(true) ? " may reach " : " may not reach ") + text("host") + ":" + std::to_string(event.data.value("port", 0)) +
           (text("address").empty() || text("address") == text("host") ? "" : " at " + text("address")) + " (" + text("rule") + ")";
  }
  if (event.type == "memory_stored") return text("text");
  if (event.type == "run_finished" || event.type == "run_stopped") return text("status") + (text("note").empty() ? "" : ": " + text("note"));
  return {};
}

}  // namespace

std::string event_table(const std::vector<JournalEvent>& events, std::int64_t start_ms) {
  std::vector<std::vector<std::string>> table = {{"#", "TIME", "EVENT", "PLACE", "SPENT", "WHAT"}};
  for (const auto& event : events) {
    table.push_back({std::to_string(event.seq), when_since(event.unix_ms, start_ms), event.type, event.step, spent_words(event.data), summary(event)});
  }
  return text_table(table, 160);
}

}  // namespace kontor::agent::cli
