#pragma once
// Exact decimal numbers for money and quantities. Binary floating point never touches an amount.

#include "base/error.hpp"

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace kontor {

/// coefficient * 10^-scale with up to 38 significant digits. A value type; arithmetic that would not be exact or
/// would overflow is an error, never a rounded number. Equal values compare equal whatever their scale (1.0 == 1.00).
class Decimal {
 public:
  Decimal() = default;
  explicit Decimal(std::int64_t value) : coefficient_(value) {}

  /// Reads [+-]digits[.digits][(e|E)[+-]digits]. Errors: malformed, limit.
  static Result<Decimal> parse(std::string_view text);
  /// The shortest decimal that reads back as the same double (so 0.1 is 0.1). Errors: malformed for NaN, infinity.
  static Result<Decimal> from_double(double value);

  /// Plain notation without exponent; keeps the scale it was computed with ("4800.00").
  std::string to_string() const;
  /// Nearest double; for display and for handing to code that has no decimals.
  double to_double() const;
  /// The same value without trailing zeros.
  Decimal normalised() const;
  int scale() const { return scale_; }
  bool is_negative() const { return coefficient_ < 0; }
  bool is_zero() const { return coefficient_ == 0; }

  friend Result<Decimal> add(const Decimal& a, const Decimal& b);
  friend Result<Decimal> subtract(const Decimal& a, const Decimal& b);
  friend Result<Decimal> multiply(const Decimal& a, const Decimal& b);
  /// a / b rounded half to even at `scale` digits behind the point. Errors: usage for b == 0.
  friend Result<Decimal> divide(const Decimal& a, const Decimal& b, int scale);
  /// Rounded half to even at `scale` digits.
  friend Result<Decimal> round(const Decimal& a, int scale);
  friend std::strong_ordering operator<=>(const Decimal& a, const Decimal& b);
  friend bool operator==(const Decimal& a, const Decimal& b) { return (a <=> b) == 0; }

 private:
  __extension__ using Int = __int128;
  Decimal(Int coefficient, int scale) : coefficient_(coefficient), scale_(scale) {}

  Int coefficient_ = 0;
  int scale_ = 0;
};

Result<Decimal> add(const Decimal& a, const Decimal& b);
Result<Decimal> subtract(const Decimal& a, const Decimal& b);
Result<Decimal> multiply(const Decimal& a, const Decimal& b);
Result<Decimal> divide(const Decimal& a, const Decimal& b, int scale);
Result<Decimal> round(const Decimal& a, int scale);

}  // namespace kontor
