#pragma once
// Which triggers are due: schedules by the clock, with what was missed while nothing listened, and one run of a trigger
// at a time. A state machine without threads and files: whoever drives it keeps, with the run that follows, until when a
// schedule was followed.

#include "agent/spec/spec.hpp"
#include "agent/triggers/schedule.hpp"
#include "base/error.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace kontor::agent {

class TriggerBook {
 public:
  /// `seen`: until which moment the schedule of a trigger (index) was followed, as it was kept; nothing when it never was.
  /// Errors: malformed (a schedule or its zone).
  using Seen = std::function<std::optional<std::int64_t>(std::size_t trigger)>;
  static Result<TriggerBook> create(const std::vector<TriggerSpec>& triggers, const Seen& seen, std::int64_t now_seconds);

  struct Due {
    std::vector<std::size_t> start;     ///< Triggers (indices) to start now. Each is working from then on, until `finished`.
    std::vector<std::size_t> left_out;  ///< Whose time came while their last run still worked.
  };
  Due due(std::int64_t now_seconds);
  /// A time has come that no run has been started for: it is not to be noted as followed yet.
  bool is_waiting(std::size_t trigger) const { return entries_[trigger].waiting; }
  /// Something happened (a file came, a message was posted): starts the trigger, or leaves it out or for later while its
  /// last run still works.
  void happened(std::size_t trigger) { entries_[trigger].waiting = true; }
  void finished(std::size_t trigger) { entries_[trigger].working = false; }

  /// A message for a webhook: its place in the line, because every message is a run of its own. Nothing when it is
  /// refused: the last run still works (`skip`), or too many wait (`queue`).
  std::optional<std::uint64_t> posted(std::size_t trigger);
  /// The messages before it are done.
  bool has_turn(std::size_t trigger, std::uint64_t place) const { return entries_[trigger].line.front() == place; }
  void left(std::size_t trigger, std::uint64_t place) { std::erase(entries_[trigger].line, place); }

  /// When the next schedule is due.
  std::optional<std::int64_t> next() const;
  /// Times that were left out because the last run still worked.
  std::int64_t left_out(std::size_t trigger) const { return entries_[trigger].left_out; }

 private:
  struct Entry {
    TriggerSpec spec;
    std::optional<Schedule> schedule;
    std::optional<std::int64_t> next;
    std::int64_t left_out = 0;
    bool working = false, waiting = false;
    std::deque<std::uint64_t> line;        ///< Messages whose runs work (the first) and wait.
    std::uint64_t places = 0;
  };

  std::vector<Entry> entries_;
};

}  // namespace kontor::agent
