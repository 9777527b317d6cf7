#pragma once
// The limits of one run. What a call may use is reserved before it is made; calls at the same time, of sub-agents too,
// share what is left. When a limit cannot be computed, nothing is allowed.

#include "agent/ledger.hpp"
#include "agent/spec/spec.hpp"
#include "base/error.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace kontor::agent {

/// Used under the run's baton.
class Budget {
 public:
  Budget() = default;
  /// Errors: usage (money in a currency that the price table does not have), those of load_prices.
  static Result<Budget> create(const BudgetSpec& spec);

  /// Reserves tokens of one model call: the prompt, at most `wanted` new ones, and `forced` that are appended without
  /// sampling. Value: how many new ones it may have. Errors: budget (kind kBudget).
  Result<std::int64_t> reserve(const Ledger& spent, std::int64_t prompt, std::int64_t wanted, std::int64_t forced);
  /// Gives back what `reserve` took; what was really used is in the ledger by then.
  void release(std::int64_t tokens) { reserved_ -= tokens; }
  /// Tokens of calls that are at work now.
  std::int64_t reserved() const { return reserved_; }

  /// Is anything left of tokens, time, energy and money? Errors: budget.
  Result<void> check(const Ledger& spent) const;
  /// The same without tokens: a tool uses none.
  Result<void> check_for_tool(const Ledger& spent) const;
  /// Seconds and joules that are left; nothing when unlimited.
  std::optional<double> seconds_left(const Ledger& spent) const;
  std::optional<double> joules_left(const Ledger& spent) const;
  bool limits_tokens() const { return tokens_.has_value(); }

 private:
  std::optional<std::int64_t> tokens_;
  std::optional<double> seconds_, joules_, joules_of_money_;
  std::string money_;
  std::int64_t reserved_ = 0;
};

}  // namespace kontor::agent
