#pragma once
// `vote: N` of an agent step: every turn is written N times from the same prompt, and what most of them say counts.

#include "agent/turn.hpp"

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kontor::agent {

/// What one branch says.
struct Ballot {
  std::string choice;      ///< Equal calls and equal answers give equal texts; "" where the turn cannot be used.
  double certainty = 1;    ///< Turn::certainty.
};

struct Election {
  std::size_t branch = 0;  ///< The first branch that says what was chosen.
  std::size_t agree = 0;   ///< How many say so.
};

/// The choice of most branches; of several such the one with the highest mean certainty, then the first. Branches that
/// cannot be used do not count, unless none can: then it is the first. `ballots`: not empty.
Election elect(std::span<const Ballot> ballots);

/// The request of one branch of a vote on `request`. Branch 0 is the turn that would be written without a vote.
TurnRequest branch_request(const TurnRequest& request, std::size_t branch);

/// Writes one turn for each request, at the same time where the model allows it: what their prompts have in common is
/// computed once, and they share KV pages and forward passes. Null: not begun, because one before it failed or ran into a
/// budget.
std::vector<std::optional<Result<Turn>>> write_branches(RunContext& run, inference::TextModel& model, std::span<const TurnRequest> requests, std::mutex& one_at_a_time);

/// Writes the turn `branches` times, as write_branches does. The turn that was elected is returned, with the others in it and the
/// cost of all. Errors: those of generate_turn.
Result<Turn> generate_vote(RunContext& run, inference::TextModel& model, const TurnRequest& request, std::size_t branches,
                           const std::function<std::string(const TurnDone&)>& choice_of, std::mutex& one_at_a_time);

}  // namespace kontor::agent
