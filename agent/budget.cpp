#include "agent/budget.hpp"

#include "agent/run_context.hpp"

#include <algorithm>

namespace kontor::agent {
namespace {

constexpr double kJoulesPerKwh = 3.6e6;

Error over(const std::string& what) { return fail(Errc::budget, "budget reached: " + what, kBudget); }

/// Two digits are enough for people.
std::string shown(double value) {
  const auto hundredths = static_cast<long long>(value * 100);
  std::string cents = std::to_string(hundredths % 100);
  if (cents.size() < 2) cents.insert(0, "0");
  return std::to_string(hundredths / 100) + "." + cents;
}

}  // namespace

Result<Budget> Budget::create(const BudgetSpec& spec) {
  Budget budget;
  budget.tokens_ = spec.tokens;
  budget.seconds_ = spec.seconds;
  budget.joules_ = spec.joules;
  if (spec.money.empty()) return budget;
  const auto prices = load_prices();
  if (!prices) return prices.error();
  const auto blank = spec.money.find(' ');
  const auto limit = Decimal::parse(spec.money.substr(0, blank));
  const std::string currency = blank == std::string::npos ? "" : spec.money.substr(blank + 1);
  if (!limit || currency != prices->currency) {
    return fail(Errc::usage, "the budget is in '" + currency + "', the price table in '" + prices->currency + "'", "budget");
  }
  budget.money_ = spec.money;
  const double per_kwh = prices->electricity_per_kwh.to_double();
  // Free electricity spends no money, so it sets no limit.
  if (per_kwh > 0) budget.joules_of_money_ = limit->to_double() / per_kwh * kJoulesPerKwh;
  return budget;
}

Result<std::int64_t> Budget::reserve(const Ledger& spent, std::int64_t prompt, std::int64_t wanted, std::int64_t forced) {
  if (auto room = check(spent); !room) return room.error();
  if (!tokens_) return wanted;
  const std::int64_t left = *tokens_ - spent.spent_tokens() - reserved_;
  if (left < prompt + forced + 1) {
    return over(std::to_string(spent.spent_tokens()) + " of " + std::to_string(*tokens_) + " tokens are used" +
                (reserved_ > 0 ? ", " + std::to_string(reserved_) + " reserved" : "") + ", and the next call has a prompt of " + std::to_string(prompt));
  }
  const std::int64_t allowed = std::min(wanted, left - prompt - forced);
  reserved_ += prompt + forced + allowed;
  return allowed;
}

Result<void> Budget::check(const Ledger& spent) const {
  if (tokens_ && spent.spent_tokens() >= *tokens_) return over(std::to_string(spent.spent_tokens()) + " of " + std::to_string(*tokens_) + " tokens");
  return check_for_tool(spent);
}

Result<void> Budget::check_for_tool(const Ledger& spent) const {
  if (seconds_ && spent.seconds >= *seconds_) return over(shown(spent.seconds) + " of " + shown(*seconds_) + " seconds");
  if (joules_ && spent.joules >= *joules_) return over(shown(spent.joules) + " of " + shown(*joules_) + " joules");
  if (joules_of_money_ && spent.joules >= *joules_of_money_) return over("the electricity for " + money_);
  return {};
}

std::optional<double> Budget::seconds_left(const Ledger& spent) const {
  if (!seconds_) return std::nullopt;
  return *seconds_ - spent.seconds;
}

std::optional<double> Budget::joules_left(const Ledger& spent) const {
  std::optional<double> limit = joules_;
  if (joules_of_money_ && (!limit || *joules_of_money_ < *limit)) limit = joules_of_money_;
  if (!limit) return std::nullopt;
  return *limit - spent.joules;
}

}  // namespace kontor::agent
