#include "agent/history.hpp"

#include "agent/event_data.hpp"

#include <algorithm>

namespace kontor::agent {
namespace {

std::vector<std::string> texts_of(const Json& data, const char* key) {
  std::vector<std::string> list;
  const auto found = data.find(key);
  if (found == data.end() || !found->is_array()) return list;
  for (const auto& value : *found) {
    if (value.is_string()) list.push_back(value.get<std::string>());
  }
  return list;
}

}  // namespace

History::History(const std::vector<JournalEvent>& events) {
  for (const auto& event : events) {
    const std::string& place = event.step;
    if (event.type == "generation") {
      generations_[place] = event.data;
      std::vector<std::string> texts{text_of(event.data, "text")};
      if (const auto vote = event.data.find("vote"); vote != event.data.end() && vote->is_object()) {
        // As they were written: the elected one stands among the others.
        std::vector<std::string> others;
        for (const auto& other : vote->value("others", Json::array())) others.push_back(text_of(other, "text"));
        const auto at = std::min(vote->value("branch", std::size_t{0}), others.size());
        texts.insert(texts.begin(), others.begin(), others.begin() + static_cast<std::ptrdiff_t>(at));
        texts.insert(texts.end(), others.begin() + static_cast<std::ptrdiff_t>(at), others.end());
      }
      texts_.insert(texts_.end(), texts.begin(), texts.end());
    } else if (event.type == "context_compacted") {
      Json& times = compacted_[place];
      if (!times.is_array()) times = Json::array();
      if (event.data.contains("bytes")) times.push_back(event.data.at("bytes"));
    } else if (event.type == "call_intent") {
      intents_[place] = event.data;
      // A new attempt after "not happened": what was said about the one before no longer counts.
      unknowns_.erase(place);
      resolutions_.erase(place);
    } else if (event.type == "call_outcome") {
      outcomes_[place] = event.data;
    } else if (event.type == "call_unknown") {
      unknowns_[place] = event.data;
      order_.push_back(place);
    } else if (event.type == "call_resolved") {
      resolutions_[place] = event.data;
    } else if (event.type == "approval_requested") {
      requests_[place] = event.data;
      decisions_.erase(place);
      escalations_.erase(place);
      order_.push_back(place);
    } else if (event.type == "approval_escalated") {
      escalations_[place] = event.data;
      decisions_.erase(place);  // Who is asked now decides alone.
    } else if (event.type == "approval_decided") {
      decisions_[place].push_back(event.data);
    } else if (event.type == "timer_started") {
      timers_[place] = event.data;
      order_.push_back(place);
    } else if (event.type == "timer_over") {
      timers_over_[place] = event.data;
    } else if (event.type == "step_failed") {
      failures_[place] = event.data;
    } else if (event.type == "memory_recalled") {
      recalled_[place] = event.data;
    } else if (event.type == "memory_stored") {
      stored_[place] = event.data;
    }
    const auto ledger = event.data.find("spent");
    if (ledger != event.data.end()) spent_.add(ledger_from_json(*ledger));
  }
}

const std::vector<Json>& History::decisions(const std::string& place) const {
  static const std::vector<Json> kNone;
  const auto found = decisions_.find(place);
  return found == decisions_.end() ? kNone : found->second;
}

bool History::read_question(const std::string& place, const Json& asked, PendingItem& item) const {
  item.tool = text_of(asked, "tool");
  item.reason = text_of(asked, "rule");
  item.binding = text_of(asked, "binding");
  item.on_expire = text_of(asked, "on_expire");
  item.is_question = asked.contains("question") && asked.at("question") == Json(true);
  item.who = texts_of(asked, "who");
  item.choices = texts_of(asked, "choices");
  if (asked.contains("arguments")) item.arguments = asked.at("arguments");
  const auto integer = [&](const char* key, std::int64_t otherwise) {
    return asked.contains(key) && asked.at(key).is_number_integer() ? asked.at(key).get<std::int64_t>() : otherwise;
  };
  item.expires_at_ms = integer("expires_at_ms", 0);
  item.people = integer("people", 1);
  if (const Json* escalated = escalation(place)) {
    item.who = {text_of(*escalated, "to")};
    item.escalated = true;
    item.expires_at_ms = 0;
    item.people = 1;
  }
  for (const Json& decision : decisions(place)) {
    if (text_of(decision, "decision") != "approve") return false;
    const std::string by = text_of(decision, "by");
    if (std::find(item.approved_by.begin(), item.approved_by.end(), by) == item.approved_by.end()) item.approved_by.push_back(by);
  }
  return static_cast<std::int64_t>(item.approved_by.size()) < item.people;
}

std::vector<std::string> History::generated_texts() const { return texts_; }

bool PendingItem::needs_choice() const {
  return !is_question && !choices.empty() && std::find(choices.begin(), choices.end(), "approve") == choices.end();
}

std::vector<PendingItem> History::pending() const {
  std::vector<PendingItem> items;
  std::vector<std::string> seen;
  for (const auto& place : order_) {
    if (std::find(seen.begin(), seen.end(), place) != seen.end()) continue;
    seen.push_back(place);
    if (outcome(place)) continue;
    const Json* unknown = find(unknowns_, place);
    const Json* asked = request(place);
    PendingItem item;
    item.call = place;
    if (unknown && !resolution(place)) {
      item.is_unknown = true;
      item.tool = text_of(*unknown, "tool");
      item.reason = text_of(*unknown, "reason");
      if (unknown->contains("arguments")) item.arguments = unknown->at("arguments");
    } else if (asked && !unknown) {
      if (!read_question(place, *asked, item)) continue;
    } else if (const Json* timer = find(timers_, place); timer && !timer_over(place)) {
      item.is_timer = true;
      item.reason = "waits for a time";
      if (timer->contains("until_ms") && timer->at("until_ms").is_number_integer()) item.expires_at_ms = timer->at("until_ms").get<std::int64_t>();
    } else {
      continue;
    }
    items.push_back(std::move(item));
  }
  return items;
}

bool History::recalled_secret() const {
  return std::any_of(recalled_.begin(), recalled_.end(), [](const auto& recalled) {
    const auto facts = recalled.second.find("facts");
    if (facts == recalled.second.end() || !facts->is_array()) return false;
    return std::any_of(facts->begin(), facts->end(), [](const Json& fact) { return fact.is_object() && fact.value("secret", Json()) == Json(true); });
  });
}

}  // namespace kontor::agent
