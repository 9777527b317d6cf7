#pragma once
// The limits of one run. What a call may use is reserved before it is made; calls at the same time, of sub-agents too,
// share what is left. When a limit cannot be computed, nothing is allowed.

#include "agent/ledger.hpp"
#include "agent/spec/spec.hpp"
#include "base/error.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace kontor::agent {

/// Used under the run's baton; what embeds is thread-safe, since memory is asked by tools on threads of their own.
class Budget {
 public:
  Budget();
  /// Errors: usage (money in a currency that the price table does not have), those of load_prices.
  static Result<Budget> create(const BudgetSpec& spec);

  /// Reserves tokens of one model call: the prompt, at most `wanted` new ones, and `forced` that are appended without
  /// sampling. Value: how many new ones it may have. Errors: budget (kind kBudget).
  Result<std::int64_t> reserve(const Ledger& spent, std::int64_t prompt, std::int64_t wanted, std::int64_t forced);
  /// Gives back what `reserve` took; what was really used is in `spent` by then.
  void release(const Ledger& spent, std::int64_t tokens);
  /// Tokens of calls that are at work now: some of them may come back.
  std::int64_t reserved() const;

  /// Reserves tokens that a model is about to embed. Errors: budget (kind kBudget), and from then on the budget is reached:
  /// whoever asked may not be able to end the run itself.
  Result<void> reserve_embedding(std::int64_t tokens);
  /// Errors: budget, when something could not be embedded.
  Result<void> check_embedding() const;
  /// They were embedded (and wait to be booked), or it failed.
  void end_embedding(std::int64_t tokens, bool embedded);
  /// What was embedded since the last call, to be added to the ledger; counts as reserved until the next `release` or `booked`.
  std::int64_t take_embedded();
  /// The ledger has changed.
  void booked(const Ledger& spent);

  /// Is anything left of tokens, time, energy and money? Errors: budget.
  Result<void> check(const Ledger& spent) const;
  /// The same without tokens: a tool uses none. What memory could not embed ends here as well.
  Result<void> check_for_tool(const Ledger& spent) const;
  /// Seconds and joules that are left; nothing when unlimited.
  std::optional<double> seconds_left(const Ledger& spent) const;
  std::optional<double> joules_left(const Ledger& spent) const;
  bool limits_tokens() const { return tokens_.has_value(); }

 private:
  struct Live;
  std::optional<std::int64_t> tokens_;
  std::optional<double> seconds_, joules_, joules_of_money_;
  std::string money_;
  std::shared_ptr<Live> live_;
};

}  // namespace kontor::agent
