#include "agent/triggers/trigger_book.hpp"

#include <algorithm>

namespace kontor::agent {

Result<TriggerBook> TriggerBook::create(const std::vector<TriggerSpec>& triggers, const Seen& seen, std::int64_t now_seconds) {
  TriggerBook book;
  for (const auto& spec : triggers) {
    Entry entry;
    entry.spec = spec;
    if (!spec.schedule.empty()) {
      auto schedule = Schedule::create(spec.schedule, spec.time_zone);
      if (!schedule) return schedule.error();
      entry.schedule = std::move(*schedule);
      entry.next = entry.schedule->next(now_seconds);
      const auto before = spec.missed == "skip" ? std::nullopt : seen(book.entries_.size());
      const auto missed = before ? entry.schedule->next(*before) : std::nullopt;
      entry.waiting = missed && *missed <= now_seconds;  // One run for all of them.
    }
    book.entries_.push_back(std::move(entry));
  }
  return book;
}

TriggerBook::Due TriggerBook::due(std::int64_t now_seconds) {
  Due due;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (entry.next && *entry.next <= now_seconds) {
      entry.waiting = true;
      entry.next = entry.schedule->next(now_seconds);
    }
    if (!entry.waiting) continue;
    if (entry.working) {
      if (entry.spec.overlap == "queue") continue;
      entry.waiting = false;
      ++entry.left_out;
      due.left_out.push_back(i);
      continue;
    }
    entry.waiting = false;
    entry.working = true;
    due.start.push_back(i);
  }
  return due;
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
