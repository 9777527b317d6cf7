#pragma once
// A run as its journal has it from its beginning. Internal to running, resuming and answering.

#include "agent/redaction.hpp"
#include "agent/run.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace kontor::agent {

struct Recorded {
  Spec spec;
  Json inputs;
  RunOptions options;
};

Json options_to_json(const RunOptions& options, std::uint64_t seed);

/// The run as it was started, from its first event. Errors: malformed (no beginning; the file no longer checks).
Result<Recorded> read_start(const std::vector<JournalEvent>& events);

/// Null when the file redacts nothing.
Result<std::unique_ptr<Redactor>> open_redactor(const Spec& spec, const Journal& journal);

/// The events as they were before they were sealed.
Result<void> open_sealed(const Spec& spec, const Journal& journal, std::vector<JournalEvent>& events);

/// Errors: conflict, when the run has ended for good.
Result<void> check_open(const RunRow& row);

}  // namespace kontor::agent
