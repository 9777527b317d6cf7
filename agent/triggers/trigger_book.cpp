#include "agent/triggers/trigger_book.hpp"

#include "base/json.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace kontor::agent {

Result<TriggerBook> TriggerBook::create(const std::vector<TriggerSpec>& triggers, std::string path, std::int64_t now_seconds) {
  TriggerBook book;
  book.path_ = std::move(path);
  for (const auto& spec : triggers) {
    Entry entry;
    entry.spec = spec;
    if (!spec.schedule.empty()) {
      auto schedule = Schedule::create(spec.schedule, spec.time_zone);
      if (!schedule) return schedule.error();
      entry.schedule = std::move(*schedule);
      entry.next = entry.schedule->next(now_seconds);
    }
    book.entries_.push_back(std::move(entry));
  }
  book.load(now_seconds);
  book.save(now_seconds);
  return book;
}

std::string TriggerBook::key(std::size_t trigger) const {
  const TriggerSpec& spec = entries_[trigger].spec;
  return spec.schedule + " " + spec.time_zone + " " + spec.inputs.dump();
}

/// What came due since the state was written.
void TriggerBook::load(std::int64_t now_seconds) {
  std::ifstream in(path_, std::ios::binary);
  if (path_.empty() || !in) return;
  std::ostringstream text;
  text << in.rdbuf();
  const auto state = parse_json(text.str());
  if (!state || !state->is_object() || !state->contains("seen") || !state->at("seen").is_object()) return;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (!entry.schedule || entry.spec.missed == "skip") continue;
    const auto seen = state->at("seen").find(key(i));
    if (seen == state->at("seen").end() || !seen->is_number_integer()) continue;
    const auto missed = entry.schedule->next(seen->get<std::int64_t>());
    if (missed && *missed <= now_seconds) entry.waiting = true;  // One run for all of them.
  }
}

void TriggerBook::save(std::int64_t now_seconds) const {
  if (path_.empty()) return;
  Json seen = Json::object();
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].schedule) seen[key(i)] = now_seconds;
  }
  const std::string temporary = path_ + ".new";
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    out << Json{{"seen", std::move(seen)}}.dump() << "\n";
    if (!out) return;
  }
  std::error_code ignored;
  std::filesystem::rename(temporary, path_, ignored);
}

std::vector<std::size_t> TriggerBook::due(std::int64_t now_seconds) {
  std::vector<std::size_t> list;
  bool moved = false;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (entry.next && *entry.next <= now_seconds) {
      entry.waiting = true;
      entry.next = entry.schedule->next(now_seconds);
      moved = true;
    }
    if (!entry.waiting) continue;
    if (entry.working) {
      if (entry.spec.overlap == "queue") continue;
      entry.waiting = false;
      ++entry.left_out;
      continue;
    }
    entry.waiting = false;
    entry.working = true;
    list.push_back(i);
  }
  if (moved) save(now_seconds);
  return list;
}

std::optional<std::uint64_t> TriggerBook::posted(std::size_t trigger) {
  constexpr std::size_t kWaitingMost = 16;
  Entry& entry = entries_[trigger];
  if (entry.line.size() > (entry.spec.overlap == "queue" ? kWaitingMost : 0)) {
    ++entry.left_out;
    return std::nullopt;
  }
  entry.line.push_back(++entry.places);
  return entry.line.back();
}

std::optional<std::int64_t> TriggerBook::next() const {
  std::optional<std::int64_t> first;
  for (const auto& entry : entries_) {
    if (entry.next && (!first || *entry.next < *first)) first = entry.next;
  }
  return first;
}

}  // namespace kontor::agent
