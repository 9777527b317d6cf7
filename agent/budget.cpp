#include "agent/budget.hpp"

#include "agent/run_context.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

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

/// What calls have taken and not yet booked.
struct Budget::Live {
  mutable std::mutex mutex;
  std::int64_t spent = 0;         ///< Of the ledger, when it was seen last.
  std::int64_t reserved = 0;
  std::int64_t embedded = 0;      ///< Waits for `take_embedded`.
  std::int64_t taken = 0;         ///< Was taken, and is in the ledger when it is seen next.
  std::string refused;            ///< Why something could not be embedded.

  void see(const Ledger& ledger) {
    spent = ledger.spent_tokens();
    reserved -= taken;
    taken = 0;
  }
};

Budget::Budget() : live_(std::make_shared<Live>()) {}

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
  const std::lock_guard guard(live_->mutex);
  const std::int64_t left = *tokens_ - spent.spent_tokens() - live_->reserved;
  if (left < prompt + forced + 1) {
    return over(std::to_string(spent.spent_tokens()) + " of " + std::to_string(*tokens_) + " tokens are used" +
                (live_->reserved > 0 ? ", " + std::to_string(live_->reserved) + " reserved" : "") + ", and the next call has a prompt of " + std::to_string(prompt));
  }
  const std::int64_t allowed = std::min(wanted, left - prompt - forced);
  live_->reserved += prompt + forced + allowed;
  return allowed;
}

void Budget::release(const Ledger& spent, std::int64_t tokens) {
  const std::lock_guard guard(live_->mutex);
  live_->see(spent);
  live_->reserved -= tokens;
}

std::int64_t Budget::reserved() const {
  const std::lock_guard guard(live_->mutex);
  return live_->reserved - live_->embedded - live_->taken;
}

Result<void> Budget::reserve_embedding(std::int64_t tokens) {
  const std::lock_guard guard(live_->mutex);
  if (tokens_ && live_->spent + live_->reserved + tokens > *tokens_) {
    const Error error = over(std::to_string(live_->spent) + " of " + std::to_string(*tokens_) + " tokens are used" +
                             (live_->reserved > 0 ? ", " + std::to_string(live_->reserved) + " reserved" : "") + ", and memory has " + std::to_string(tokens) + " to embed");
    live_->refused = error.message;
    return error;
  }
  live_->reserved += tokens;
  return {};
}

Result<void> Budget::check_embedding() const {
  const std::lock_guard guard(live_->mutex);
  return live_->refused.empty() ? Result<void>() : fail(Errc::budget, live_->refused, kBudget);
}

void Budget::end_embedding(std::int64_t tokens, bool embedded) {
  const std::lock_guard guard(live_->mutex);
  if (embedded) live_->embedded += tokens;
  else live_->reserved -= tokens;
}

std::int64_t Budget::take_embedded() {
  const std::lock_guard guard(live_->mutex);
  live_->taken += live_->embedded;
  return std::exchange(live_->embedded, 0);
}

void Budget::booked(const Ledger& spent) {
  const std::lock_guard guard(live_->mutex);
  live_->see(spent);
}

Result<void> Budget::check(const Ledger& spent) const {
  if (tokens_ && spent.spent_tokens() >= *tokens_) return over(std::to_string(spent.spent_tokens()) + " of " + std::to_string(*tokens_) + " tokens");
  return check_for_tool(spent);
}

Result<void> Budget::check_for_tool(const Ledger& spent) const {
  if (auto embeds = check_embedding(); !embeds) return embeds;
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
