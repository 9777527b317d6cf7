#pragma once
// JSON numbers within bounds as byte automata.

#include "agent/grammar/byte_dfa.hpp"
#include "base/json.hpp"

#include <optional>
#include <string>
#include <vector>

namespace kontor::agent {

/// A decimal: [-] digits [. digits], without leading zeros in front or trailing ones behind the point.
struct PlainDecimal {
  bool negative = false;
  std::string digits = "0";
  std::string fraction;
  bool zero() const { return digits == "0" && fraction.empty(); }
};

/// The exact value of a JSON number as it is printed. Errors: unsupported (kind number_range) beyond 40 digits on either
/// side of the point.
Result<PlainDecimal> plain_decimal(const Json& number);

struct NumberRange {
  bool integer = false;             ///< Whole numbers only, written without a point.
  struct Bound {
    PlainDecimal value;
    bool exclusive = false;
  };
  std::vector<Bound> lower, upper;  ///< All hold.
  std::vector<PlainDecimal> multiples;
};

/// The numbers of a range, as JSON spells them: whole numbers of int64, others with at most 15 digits in all, so that the
/// value survives a double; an exponent only where nothing restricts the value. "-0" is left out. Errors: limit (kind
/// dfa_size), unsupported (kind number_range: several multipleOf, or one of more than 10,000 units).
Result<ByteDfa> number_dfa(const NumberRange& range);

}  // namespace kontor::agent
