#pragma once
// What a run cost: tokens, seconds, joules, money; and what the same tokens would have cost elsewhere.

#include "base/decimal.hpp"
#include "base/error.hpp"
#include "base/json.hpp"
#include "inference/text_model.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kontor::agent {

/// A sum of model calls and the time and energy around them. Adding is associative; the journal keeps one per turn.
struct Ledger {
  std::int64_t prefilled = 0;   ///< Prompt tokens computed.
  std::int64_t reused = 0;      ///< Prompt tokens found in the KV cache.
  std::int64_t generated = 0;   ///< Sampled tokens.
  std::int64_t forced = 0;      ///< Tokens appended without sampling.
  std::int64_t embedded = 0;    ///< Tokens that memory embedded.
  std::int64_t turns = 0;       ///< Model calls.
  std::int64_t broken = 0;      ///< Of these, broken off by a server; their tokens are as many as came, their prompts a bound.
  std::int64_t tool_calls = 0;  ///< Executed calls.
  double prefill_seconds = 0, decode_seconds = 0;
  double seconds = 0;           ///< Wall time of the run's own work, waiting for people excluded.
  double joules = 0;
  double joules_gpu = 0;        ///< Part of `joules` that the GPUs say they used.
  double gpu_busy_seconds = 0;  ///< Time times the utilisation of the GPUs, as it was when each step was booked.
  bool joules_estimated = false;  ///< A part of `joules` was not measured.

  void add(const inference::Usage& usage);
  void add(const Ledger& other);
  /// Tokens that count against `budgets.run.tokens`: everything but reused ones.
  std::int64_t spent_tokens() const { return prefilled + generated + forced + embedded; }
  double tokens_per_second() const { return decode_seconds > 0 ? static_cast<double>(generated) / decode_seconds : 0; }
};

Json to_json(const Ledger& ledger);
/// Only what is not zero, seconds and joules to six digits: for events.
Json delta_json(const Ledger& ledger);
/// Missing members are zero.
Ledger ledger_from_json(const Json& value);

struct HostedPrice {
  std::string name;
  Decimal input_per_million, cached_per_million, output_per_million;
  std::string currency;
  std::string as_of;
};

struct Prices {
  Decimal electricity_per_kwh;
  std::string currency;
  std::vector<HostedPrice> hosted;
};

/// The price table that is built in; the same text as configs/prices.json.
const char* built_in_prices();
/// Errors: malformed with the member's name.
Result<Prices> parse_prices(const std::string& text);
/// $KONTOR_PRICES, else the built-in table.
Result<Prices> load_prices();

/// Electricity of the run in `prices.currency`, to six digits.
Decimal electricity_cost(const Ledger& ledger, const Prices& prices);
/// The same tokens at a hosted price; prompt tokens reused here count as cached there.
Decimal hosted_cost(const Ledger& ledger, const HostedPrice& price);

}  // namespace kontor::agent
