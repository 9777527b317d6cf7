#pragma once
// Texts of a fixed form in agent files. Each reader returns the value or says what is wrong with the text; messages do
// not repeat the text, because it may be a secret in the wrong place.

#include "base/decimal.hpp"

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

/// `kind` is bad-format or out-of-range; empty when the text is good.
struct FormatProblem {
  std::string kind;
  std::string message;
  std::string suggestion;

  explicit operator bool() const { return !kind.empty(); }
};

/// Number and ms, s, m, h or d, above zero and below 292 years.
FormatProblem read_duration(std::string_view text, std::int64_t& milliseconds);
/// Decimal with optional k, M, G; above zero.
FormatProblem read_amount(std::string_view text, bool whole, Decimal& amount);
/// Decimal, blank, ISO 4217 code; above zero.
FormatProblem read_money(std::string_view text, Decimal& amount, std::string& currency);
/// http or https with a host and a sensible port.
FormatProblem check_url(std::string_view text);
/// Five fields: minute, hour, day of the month, month, day of the week.
FormatProblem check_cron(std::string_view text);

/// A schedule as crontab(5) reads it: minute, hour, day, month, day of the week (0 and 7 are Sunday).
struct CronFields {
  std::array<std::bitset<64>, 5> allowed;
  bool any_day = true, any_weekday = true;  ///< When neither is "*", one of the two is enough.
};
FormatProblem read_cron(std::string_view text, CronFields& fields);
FormatProblem check_sha256(std::string_view text);
/// Letters, digits, '.', '_', '-'; not "." or "..".
FormatProblem check_name(std::string_view text);
/// Letters, digits, '_'.
FormatProblem check_id(std::string_view text);
/// The `timeout` of a server in a foreign map. Programs write seconds or milliseconds there, and the number tells which:
/// up to 600 it is seconds, from 10,000 milliseconds. nullopt: between them, or above the longest time of a call (600,000 ms).
std::optional<std::int64_t> foreign_timeout_ms(double value);
/// Not empty, no control characters.
FormatProblem check_path_text(std::string_view text);
FormatProblem check_webhook_path(std::string_view text);

bool is_currency(std::string_view code);
const std::vector<std::string>& currencies();
/// Names of the IANA time zone database.
const std::vector<std::string>& time_zones();

}  // namespace kontor::agent
