#include "agent/ledger.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace kontor::agent {
namespace {

constexpr std::int64_t kJoulesPerKwh = 3'600'000;

double number(const Json& value, const char* name) {
  const auto found = value.find(name);
  return found != value.end() && found->is_number() ? found->get<double>() : 0;
}

std::int64_t integer(const Json& value, const char* name) {
  const auto found = value.find(name);
  return found != value.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

Result<std::string> member(const Json& value, const char* name) {
  const auto found = value.find(name);
  if (found == value.end() || !found->is_string()) return fail(Errc::malformed, std::string("price table: '") + name + "' must be a text");
  return found->get<std::string>();
}

Result<Decimal> amount(const Json& value, const char* name) {
  auto text = member(value, name);
  if (!text) return text.error();
  auto decimal = Decimal::parse(*text);
  if (!decimal || decimal->is_negative()) return fail(Errc::malformed, std::string("price table: '") + name + "' must be an amount such as \"0.30\"");
  return decimal;
}

/// tokens * price / 1e6 to six digits; zero when a hostile price table overflows.
Decimal per_million(std::int64_t tokens, const Decimal& price) {
  const auto product = multiply(Decimal(tokens), price);
  if (!product) return {};
  const auto quotient = divide(*product, Decimal(1'000'000), 6);
  return quotient ? *quotient : Decimal();
}

}  // namespace

void Ledger::add(const inference::Usage& usage) {
  prefilled += usage.prompt_tokens_new;
  reused += usage.prompt_tokens_reused;
  generated += usage.generated;
  forced += usage.forced;
  prefill_seconds += usage.prefill_seconds;
  decode_seconds += usage.decode_seconds;
  ++turns;
}

void Ledger::add(const Ledger& other) {
  prefilled += other.prefilled, reused += other.reused, generated += other.generated, forced += other.forced;
  embedded += other.embedded, broken += other.broken, turns += other.turns, tool_calls += other.tool_calls;
  prefill_seconds += other.prefill_seconds, decode_seconds += other.decode_seconds, seconds += other.seconds;
  joules += other.joules, joules_gpu += other.joules_gpu, gpu_busy_seconds += other.gpu_busy_seconds;
  joules_estimated = joules_estimated || other.joules_estimated;
}

Json to_json(const Ledger& ledger) {
  const auto rounded = [](double value) { return std::round(value * 1e6) / 1e6; };
  Json value{{"prefilled", ledger.prefilled}, {"reused", ledger.reused}, {"generated", ledger.generated},
              {"forced", ledger.forced}, {"turns", ledger.turns}, {"tool_calls", ledger.tool_calls},
              {"prefill_seconds", rounded(ledger.prefill_seconds)}, {"decode_seconds", rounded(ledger.decode_seconds)},
              {"seconds", rounded(ledger.seconds)}, {"tokens_per_second", rounded(ledger.tokens_per_second())},
              {"joules", rounded(ledger.joules)}, {"joules_estimated", ledger.joules_estimated}};
  if (ledger.broken > 0) value["broken"] = ledger.broken;
  if (ledger.embedded > 0) value["embedded"] = ledger.embedded;
  // Only where there is a GPU that can be asked.
  if (ledger.joules_gpu > 0) value["joules_gpu"] = rounded(ledger.joules_gpu);
  if (ledger.gpu_busy_seconds > 0) value["gpu_busy_seconds"] = rounded(ledger.gpu_busy_seconds);
  return value;
}

Json delta_json(const Ledger& ledger) {
  Json all = to_json(ledger);
  all.erase("tokens_per_second");
  Json some = Json::object();
  for (const auto& [key, value] : all.items()) {
    if (value != Json(0) && value != Json(false)) some[key] = value;
  }
  return some;
}

Ledger ledger_from_json(const Json& value) {
  Ledger ledger;
  if (!value.is_object()) return ledger;
  ledger.prefilled = integer(value, "prefilled"), ledger.reused = integer(value, "reused");
  ledger.generated = integer(value, "generated"), ledger.forced = integer(value, "forced");
  ledger.embedded = integer(value, "embedded"), ledger.broken = integer(value, "broken");
  ledger.turns = integer(value, "turns"), ledger.tool_calls = integer(value, "tool_calls");
  ledger.prefill_seconds = number(value, "prefill_seconds"), ledger.decode_seconds = number(value, "decode_seconds");
  ledger.seconds = number(value, "seconds"), ledger.joules = number(value, "joules");
  ledger.joules_gpu = number(value, "joules_gpu"), ledger.gpu_busy_seconds = number(value, "gpu_busy_seconds");
  const auto estimated = value.find("joules_estimated");
  ledger.joules_estimated = estimated != value.end() && estimated->is_boolean() && estimated->get<bool>();
  return ledger;
}

const char* built_in_prices() {
  return R"json({
  "about": "Prices behind the ledger's money lines. Copy, change, and point KONTOR_PRICES at the copy.",
  "electricity": {"per_kwh": "0.30", "currency": "EUR"},
  "hosted": [
    {"name": "DeepSeek API, deepseek-reasoner (R1)", "input_per_million": "0.55", "cached_per_million": "0.14", "output_per_million": "2.19", "currency": "USD", "as_of": "2025-02"},
    {"name": "DeepSeek API, deepseek-reasoner (V3.1)", "input_per_million": "0.56", "cached_per_million": "0.07", "output_per_million": "1.68", "currency": "USD", "as_of": "2025-09"}
  ]
}
)json";
}

Result<Prices> parse_prices(const std::string& text) {
  auto root = parse_json(text, {.depth = 16, .bytes = 1u << 20});
  if (!root) return root.error();
  if (!root->is_object() || !root->contains("electricity") || !root->at("electricity").is_object()) {
    return fail(Errc::malformed, "price table: 'electricity' is missing");
  }
  Prices prices;
  const Json& electricity = root->at("electricity");
  auto per_kwh = amount(electricity, "per_kwh");
  if (!per_kwh) return per_kwh.error();
  auto currency = member(electricity, "currency");
  if (!currency) return currency.error();
  prices.electricity_per_kwh = *per_kwh, prices.currency = *currency;
  if (!root->contains("hosted")) return prices;
  if (!root->at("hosted").is_array()) return fail(Errc::malformed, "price table: 'hosted' must be a list");
  for (const auto& entry : root->at("hosted")) {
    if (!entry.is_object()) return fail(Errc::malformed, "price table: an entry of 'hosted' must be an object");
    HostedPrice price;
    const std::pair<const char*, std::string*> texts[] = {{"name", &price.name}, {"currency", &price.currency}, {"as_of", &price.as_of}};
    for (const auto& [name, target] : texts) {
      auto value = member(entry, name);
      if (!value) return value.error();
      *target = *value;
    }
    const std::pair<const char*, Decimal*> amounts[] = {{"input_per_million", &price.input_per_million},
                                                        {"cached_per_million", &price.cached_per_million},
                                                        {"output_per_million", &price.output_per_million}};
    for (const auto& [name, target] : amounts) {
      auto value = amount(entry, name);
      if (!value) return value.error();
      *target = *value;
    }
    prices.hosted.push_back(std::move(price));
  }
  return prices;
}

Result<Prices> load_prices() {
  const char* path = std::getenv("KONTOR_PRICES");
  if (!path || !*path) return parse_prices(built_in_prices());
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail_errno("open", path);
  std::ostringstream text;
  text << in.rdbuf();
  auto prices = parse_prices(text.str());
  if (!prices) return fail(prices.error().code, prices.error().message, prices.error().kind, path);
  return prices;
}

Decimal electricity_cost(const Ledger& ledger, const Prices& prices) {
  const auto joules = static_cast<std::int64_t>(std::min(ledger.joules, 1e15));
  const auto product = multiply(Decimal(joules), prices.electricity_per_kwh);
  if (!product) return {};
  const auto cost = divide(*product, Decimal(kJoulesPerKwh), 6);
  return cost ? *cost : Decimal();
}

Decimal hosted_cost(const Ledger& ledger, const HostedPrice& price) {
  Decimal sum = per_million(ledger.prefilled, price.input_per_million);
  for (const Decimal& part : {per_million(ledger.reused, price.cached_per_million),
                              per_million(ledger.generated + ledger.forced, price.output_per_million)}) {
    const auto next = add(sum, part);
    if (next) sum = *next;
  }
  return sum;
}

}  // namespace kontor::agent
