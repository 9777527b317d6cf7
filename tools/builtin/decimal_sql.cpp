#include "tools/builtin/decimal_sql.hpp"

#include "base/decimal.hpp"
#include "tools/builtin/table_tokens.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <optional>
#include <vector>

namespace kontor::tools {
namespace {

constexpr int kAverageDigits = 12;
constexpr int kPlacesMax = 30;

constexpr std::string_view kOpen = "(CAST(";
constexpr std::string_view kClose = " AS TEXT) COLLATE decimal)";

std::string_view text_of(sqlite3_value* value) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(value));
  return text == nullptr ? std::string_view{} : std::string_view(text, static_cast<std::size_t>(sqlite3_value_bytes(value)));
}

/// The number a value holds. Binary fractions count as the decimal they print as with 15 digits.
Result<Decimal> number_of(sqlite3_value* value) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER: return Decimal(sqlite3_value_int64(value));
    case SQLITE_FLOAT: {
      char buffer[40];
      std::snprintf(buffer, sizeof buffer, "%.15g", sqlite3_value_double(value));
      return Decimal::parse(buffer);
    }
    case SQLITE_TEXT: {
      auto parsed = Decimal::parse(text_of(value));
      if (!parsed) return fail(Errc::malformed, "'" + std::string(text_of(value).substr(0, 60)) + "' is not a number", "not_a_number");
      return parsed;
    }
    default: return fail(Errc::malformed, "a blob is not a number", "not_a_number");
  }
}

void give_error(sqlite3_context* context, const Error& error) { sqlite3_result_error(context, error.message.c_str(), static_cast<int>(error.message.size())); }

void give_text(sqlite3_context* context, const Result<Decimal>& value) {
  if (!value) return give_error(context, value.error());
  const std::string text = value->to_string();
  sqlite3_result_text(context, text.c_str(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
}

/// As a number that prints back as the same decimal: integers up to 18 digits, doubles up to 15. Larger results would be
/// rounded without a word; they are errors that name the exact function.
void give_number(sqlite3_context* context, const Result<Decimal>& value) {
  if (!value) return give_error(context, value.error());
  const std::string text = value->normalised().to_string();
  std::size_t digits = 0;
  for (const char c : text) {
    if (c >= '0' && c <= '9' && (digits > 0 || c != '0')) ++digits;
  }
  if (text.find('.') == std::string::npos && digits <= 18) return sqlite3_result_int64(context, std::strtoll(text.c_str(), nullptr, 10));
  if (digits > 15) {
    return give_error(context, fail(Errc::limit, text + " has too many digits for a plain number; use dec_sum or dec_avg", "digits"));
  }
  sqlite3_result_double(context, value->to_double());
}

/// Running state of an aggregate. Zeroed memory from SQLite is "nothing yet".
struct Sum {
  Decimal* total;
  std::int64_t count;
  Error* error;
};

void add_to(sqlite3_context* context, sqlite3_value* value, bool remove) {
  auto* sum = static_cast<Sum*>(sqlite3_aggregate_context(context, sizeof(Sum)));
  if (sum == nullptr) return sqlite3_result_error_nomem(context);
  if (sqlite3_value_type(value) == SQLITE_NULL || sum->error != nullptr) return;
  if (sum->total == nullptr) sum->total = new (std::nothrow) Decimal;
  if (sum->total == nullptr) return sqlite3_result_error_nomem(context);
  const auto number = number_of(value);
  const auto next = !number ? number : remove ? subtract(*sum->total, *number) : add(*sum->total, *number);
  if (!next) {
    sum->error = new (std::nothrow) Error(next.error());
    return;
  }
  *sum->total = *next;
  sum->count += remove ? -1 : 1;
}

void step(sqlite3_context* context, int, sqlite3_value** values) { add_to(context, values[0], false); }
void inverse(sqlite3_context* context, int, sqlite3_value** values) { add_to(context, values[0], true); }

enum class Wanted { dec_sum, dec_avg, sum, total, avg };

template <Wanted wanted>
void give(sqlite3_context* context, Sum* sum) {
  if (sum != nullptr && sum->error != nullptr) return give_error(context, *sum->error);
  if (sum == nullptr || sum->count == 0) {
    if constexpr (wanted == Wanted::total) sqlite3_result_double(context, 0);
    else sqlite3_result_null(context);
    return;
  }
  if constexpr (wanted == Wanted::dec_sum) give_text(context, *sum->total);
  if constexpr (wanted == Wanted::sum || wanted == Wanted::total) give_number(context, *sum->total);
  if constexpr (wanted == Wanted::dec_avg || wanted == Wanted::avg) {
    auto average = divide(*sum->total, Decimal(sum->count), std::max(sum->total->scale(), kAverageDigits));
    if (average) average = average->normalised();
    if constexpr (wanted == Wanted::dec_avg) {
      give_text(context, average);
    } else {  // An average is seldom exact; a number is what is asked for.
      if (!average) return give_error(context, average.error());
      sqlite3_result_double(context, average->to_double());
    }
  }
}

template <Wanted wanted>
void value(sqlite3_context* context) {
  give<wanted>(context, static_cast<Sum*>(sqlite3_aggregate_context(context, 0)));
}

template <Wanted wanted>
void final(sqlite3_context* context) {
  auto* sum = static_cast<Sum*>(sqlite3_aggregate_context(context, 0));
  give<wanted>(context, sum);
  if (sum == nullptr) return;
  delete sum->total;
  delete sum->error;
}

using Operation = Result<Decimal> (*)(const Decimal&, const Decimal&);

template <Operation operation>
void binary(sqlite3_context* context, int, sqlite3_value** values) {
  if (sqlite3_value_type(values[0]) == SQLITE_NULL || sqlite3_value_type(values[1]) == SQLITE_NULL) return sqlite3_result_null(context);
  const auto a = number_of(values[0]), b = number_of(values[1]);
  if (!a) return give_error(context, a.error());
  if (!b) return give_error(context, b.error());
  give_text(context, operation(*a, *b));
}

std::optional<int> places_of_value(sqlite3_context* context, sqlite3_value* value) {
  const auto places = sqlite3_value_int64(value);
  if (sqlite3_value_type(value) == SQLITE_INTEGER && places >= 0 && places <= kPlacesMax) return static_cast<int>(places);
  give_error(context, fail(Errc::usage, "places is a whole number from 0 to " + std::to_string(kPlacesMax)));
  return std::nullopt;
}

void division(sqlite3_context* context, int, sqlite3_value** values) {
  if (sqlite3_value_type(values[0]) == SQLITE_NULL || sqlite3_value_type(values[1]) == SQLITE_NULL) return sqlite3_result_null(context);
  const auto a = number_of(values[0]), b = number_of(values[1]);
  if (!a) return give_error(context, a.error());
  if (!b) return give_error(context, b.error());
  if (const auto places = places_of_value(context, values[2])) give_text(context, divide(*a, *b, *places));
}

void rounding(sqlite3_context* context, int, sqlite3_value** values) {
  if (sqlite3_value_type(values[0]) == SQLITE_NULL) return sqlite3_result_null(context);
  const auto a = number_of(values[0]);
  if (!a) return give_error(context, a.error());
  const auto places = places_of_value(context, values[1]);
  if (!places) return;
  // round() keeps fewer digits as they are; a person who asks for two places wants to see two.
  give_text(context, divide(*a, Decimal(1), *places));
}

void comparison(sqlite3_context* context, int, sqlite3_value** values) {
  if (sqlite3_value_type(values[0]) == SQLITE_NULL || sqlite3_value_type(values[1]) == SQLITE_NULL) return sqlite3_result_null(context);
  const auto a = number_of(values[0]), b = number_of(values[1]);
  if (!a) return give_error(context, a.error());
  if (!b) return give_error(context, b.error());
  sqlite3_result_int(context, *a < *b ? -1 : *a > *b ? 1 : 0);
}

int collate(void*, int a_size, const void* a, int b_size, const void* b) {
  const std::string_view left(static_cast<const char*>(a), static_cast<std::size_t>(a_size));
  const std::string_view right(static_cast<const char*>(b), static_cast<std::size_t>(b_size));
  const auto x = Decimal::parse(left), y = Decimal::parse(right);
  if (x && y) return *x < *y ? -1 : *x > *y ? 1 : 0;
  if (x.has_value() != y.has_value()) return x ? -1 : 1;
  const int order = left.compare(right);
  return order < 0 ? -1 : order > 0 ? 1 : 0;
}

template <Wanted wanted>
int add_aggregate(sqlite3* database, const char* name) {
  constexpr int kFlags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
  return sqlite3_create_window_function(database, name, 1, kFlags, nullptr, step, final<wanted>, value<wanted>, inverse, nullptr);
}

/// round(x [, places]) of a double to the nearest decimal, as C, Python and PostgreSQL do it; SQLite 3.40 adds half a digit
/// and cuts, which is another number where the double lies a little below the half.
void real_rounding(sqlite3_context* context, int count, sqlite3_value** values) {
  for (int i = 0; i < count; ++i) {
    if (sqlite3_value_type(values[i]) == SQLITE_NULL) return;
  }
  constexpr int kPlacesMost = 30;
  const int places = count > 1 ? std::clamp(sqlite3_value_int(values[1]), 0, kPlacesMost) : 0;
  char text[400];
  std::snprintf(text, sizeof text, "%.*f", places, sqlite3_value_double(values[0]));
  sqlite3_result_double(context, std::strtod(text, nullptr));
}

bool is_decimal_function(std::string_view name) {
  for (const std::string_view known : {"dec_sum", "dec_avg", "dec_add", "dec_sub", "dec_mul", "dec_div", "dec_round"}) {
    if (same_sql_word(name, known)) return true;
  }
  return false;
}

}  // namespace

Result<void> add_decimal_sql(sqlite3* database) {
  constexpr int kFlags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
  const auto scalar = [&](const char* name, int arguments, void (*function)(sqlite3_context*, int, sqlite3_value**)) {
    return sqlite3_create_function_v2(database, name, arguments, kFlags, nullptr, function, nullptr, nullptr, nullptr);
  };
  int failed = add_aggregate<Wanted::dec_sum>(database, "dec_sum");
  failed |= add_aggregate<Wanted::dec_avg>(database, "dec_avg");
  failed |= add_aggregate<Wanted::sum>(database, "sum");
  failed |= add_aggregate<Wanted::total>(database, "total");
  failed |= add_aggregate<Wanted::avg>(database, "avg");
  failed |= scalar("dec_add", 2, binary<add>);
  failed |= scalar("dec_sub", 2, binary<subtract>);
  failed |= scalar("dec_mul", 2, binary<multiply>);
  failed |= scalar("dec_div", 3, division);
  failed |= scalar("dec_round", 2, rounding);
  failed |= scalar("dec_cmp", 2, comparison);
  failed |= scalar("round", 1, real_rounding);
  failed |= scalar("round", 2, real_rounding);
  failed |= sqlite3_create_collation_v2(database, "decimal", SQLITE_UTF8, nullptr, collate, nullptr);
  if (failed != SQLITE_OK) return fail(Errc::internal, std::string("SQLite: ") + sqlite3_errmsg(database), "sqlite");
  return {};
}

std::string with_decimal_affinity(std::string_view sql) {
  // Places where text is put in. A call stays open until its parenthesis closes and FILTER and OVER have been passed.
  struct Call {
    std::size_t depth;
  };
  std::string out;
  std::vector<Call> calls;
  std::size_t depth = 0;
  for (std::size_t at = 0; at < sql.size();) {
    const std::size_t end = sql_token_end(sql, at);
    const auto token = sql.substr(at, end - at);
    if (is_decimal_function(token) && (at == 0 || !is_sql_word(sql[at - 1])) && skip_sql_space(sql, end) < sql.size() && sql[skip_sql_space(sql, end)] == '(') {
      out += kOpen;
      calls.push_back({depth});
    }
    out += token;
    at = end;
    if (token == "(") ++depth;
    if (token != ")" || depth == 0) continue;
    --depth;
    while (!calls.empty() && calls.back().depth == depth) {
      const std::size_t next = skip_sql_space(sql, at);
      const std::size_t next_end = next < sql.size() ? sql_token_end(sql, next) : next;
      const auto keyword = sql.substr(next, next_end - next);
      if (same_sql_word(keyword, "filter") || same_sql_word(keyword, "over")) {
        out.append(sql.substr(at, next_end - at));
        at = next_end;
        const std::size_t window = skip_sql_space(sql, at);
        if (window < sql.size() && sql[window] == '(') break;  // Its closing parenthesis comes by here again.
        const std::size_t window_end = window < sql.size() ? sql_token_end(sql, window) : window;
        out.append(sql.substr(at, window_end - at));  // OVER name
        at = window_end;
        continue;
      }
      out += kClose;
      calls.pop_back();
    }
  }
  return out;
}

std::string without_decimal_affinity(std::string name) {
  if (name.find(kClose) == std::string::npos) return name;
  for (auto at = name.find(kClose); at != std::string::npos; at = name.find(kClose, at)) name.erase(at, kClose.size());
  for (auto at = name.find(std::string(kOpen) + "dec_"); at != std::string::npos; at = name.find(std::string(kOpen) + "dec_", at)) name.erase(at, kOpen.size());
  return name;
}

}  // namespace kontor::tools
