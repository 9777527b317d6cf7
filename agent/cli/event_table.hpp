#pragma once
// The events of a run's journal for people.

#include "agent/journal.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kontor::agent::cli {

/// Local time: "2026-11-24 09:30:00".
std::string time_words(std::int64_t unix_ms);

/// One line for each event: when it was, where, what it cost and what it was. `start_ms`: of the run; its date is not
/// repeated. Long texts are cut.
std::string event_table(const std::vector<JournalEvent>& events, std::int64_t start_ms);

}  // namespace kontor::agent::cli
