#include "base/decimal.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace kontor {
namespace {

__extension__ using Int = __int128;
__extension__ using Wide = unsigned __int128;

constexpr int kDigits = 38;
/// Enough for every finite double whose digits fit; keeps printed numbers short.
constexpr int kMaxScale = 400;

constexpr Wide power_of_ten(int exponent) {
  Wide value = 1;
  for (int i = 0; i < exponent; ++i) value *= 10;
  return value;
}
constexpr Wide kBound = power_of_ten(kDigits);

Wide magnitude(Int value) { return value < 0 ? Wide(0) - Wide(value) : Wide(value); }
Int with_sign(Wide value, bool negative) { return negative ? -Int(value) : Int(value); }

/// value * 10^exponent, or false when it would not stay below 10^38.
bool shift(Int& value, int exponent) {
  if (value == 0) return true;
  for (; exponent > 0; --exponent) {
    if (magnitude(value) >= kBound / 10) return false;
    value *= 10;
  }
  return true;
}

Error too_large() { return fail(Errc::limit, "the number does not fit into 38 digits", "decimal_overflow"); }

void trim(Int& coefficient, int& scale, int keep) {
  if (coefficient == 0) scale = keep < scale ? keep : scale;
  while (scale > keep && coefficient % 10 == 0) {
    coefficient /= 10;
    --scale;
  }
}

/// Quotient plus one when the remainder is more than half of the divisor, or half with an odd quotient.
Wide half_even(Wide quotient, Wide remainder, Wide divisor) {
  const Wide rest = divisor - remainder;
  return quotient + (remainder > rest || (remainder == rest && quotient % 2 == 1) ? 1 : 0);
}

}  // namespace

Result<Decimal> Decimal::parse(std::string_view text) {
  const auto bad = [&] {
    return fail(Errc::malformed, "'" + std::string(text.substr(0, 40)) + "' is not a decimal number", "decimal_syntax");
  };
  std::size_t at = 0;
  const bool negative = at < text.size() && text[at] == '-';
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;

  Int coefficient = 0;
  long scale = 0;
  long pending_zeros = 0;  // zeros behind the point that count only when another digit follows
  bool too_long = false;
  std::size_t digits = 0;
  const auto digit = [&](char c) {
    if (magnitude(coefficient) > (kBound - 1 - Wide(c - '0')) / 10) too_long = true;
    else coefficient = coefficient * 10 + (c - '0');
  };
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, ++digits) digit(text[at]);
  if (digits == 0) return bad();
  if (at < text.size() && text[at] == '.') {
    const std::size_t first = ++at;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
      if (text[at] == '0') {
        ++pending_zeros;
        continue;
      }
      for (; pending_zeros > 0 && !too_long; --pending_zeros, ++scale) digit('0');
      digit(text[at]);
      ++scale;
    }
    if (at == first) return bad();
  }
  long exponent = 0;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    const bool minus = at < text.size() && text[at] == '-';
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    const std::size_t first = at;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) exponent = std::min(exponent * 10 + (text[at] - '0'), 100'000L);
    if (at == first) return bad();
    if (minus) exponent = -exponent;
  }
  if (at != text.size()) return bad();
  if (too_long) return too_large();
  // Written zeros are kept ("4800.00") as far as they fit; the value does not depend on them.
  for (; pending_zeros > 0 && scale < kMaxScale; --pending_zeros, ++scale) {
    if (!shift(coefficient, 1)) break;
  }
  scale -= exponent;
  if (coefficient == 0) {
    scale = std::clamp(scale, 0L, static_cast<long>(kMaxScale));
  } else if (scale < 0) {
    if (scale < -kDigits || !shift(coefficient, static_cast<int>(-scale))) return too_large();
    scale = 0;
  }
  if (scale > kMaxScale) return too_large();
  return Decimal(negative ? -coefficient : coefficient, static_cast<int>(scale));
}

Result<Decimal> Decimal::from_double(double value) {
  if (!std::isfinite(value)) return fail(Errc::malformed, "the number is not finite", "decimal_not_finite");
  std::array<char, 40> buffer{};
  const auto written = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return parse({buffer.data(), static_cast<std::size_t>(written.ptr - buffer.data())});
}

std::string Decimal::to_string() const {
  std::string digits;
  Wide rest = magnitude(coefficient_);
  do {
    digits += static_cast<char>('0' + static_cast<int>(rest % 10));
    rest /= 10;
  } while (rest != 0);
  while (static_cast<int>(digits.size()) <= scale_) digits += '0';
  std::reverse(digits.begin(), digits.end());
  if (scale_ > 0) digits.insert(digits.size() - static_cast<std::size_t>(scale_), ".");
  return coefficient_ < 0 ? "-" + digits : digits;
}

double Decimal::to_double() const {
  const std::string text = to_string();
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Decimal Decimal::normalised() const {
  Decimal result = *this;
  trim(result.coefficient_, result.scale_, 0);
  return result;
}

Result<Decimal> add(const Decimal& a, const Decimal& b) {
  for (const bool shortened : {false, true}) {
    const Decimal x = shortened ? a.normalised() : a;
    const Decimal y = shortened ? b.normalised() : b;
    const int scale = std::max(x.scale_, y.scale_);
    Int left = x.coefficient_;
    Int right = y.coefficient_;
    if (!shift(left, scale - x.scale_) || !shift(right, scale - y.scale_)) continue;
    const bool same_sign = (left < 0) == (right < 0);
    if (same_sign && magnitude(left) + magnitude(right) >= kBound) continue;
    return Decimal(left + right, scale);
  }
  return too_large();
}

Result<Decimal> subtract(const Decimal& a, const Decimal& b) { return add(a, Decimal(-b.coefficient_, b.scale_)); }

Result<Decimal> multiply(const Decimal& a, const Decimal& b) {
  for (const bool shortened : {false, true}) {
    const Decimal x = shortened ? a.normalised() : a;
    const Decimal y = shortened ? b.normalised() : b;
    if (x.coefficient_ == 0 || y.coefficient_ == 0) return Decimal(0, std::min(x.scale_ + y.scale_, kMaxScale));
    if (x.scale_ + y.scale_ > kMaxScale) continue;
    if (magnitude(x.coefficient_) > (kBound - 1) / magnitude(y.coefficient_)) continue;
    return Decimal(x.coefficient_ * y.coefficient_, x.scale_ + y.scale_);
  }
  return too_large();
}

Result<Decimal> divide(const Decimal& a, const Decimal& b, int scale) {
  if (b.coefficient_ == 0) return fail(Errc::usage, "division by zero", "division_by_zero");
  if (scale < 0 || scale > kMaxScale) return fail(Errc::usage, "the number of digits is out of range", "decimal_scale");
  const bool negative = (a.coefficient_ < 0) != (b.coefficient_ < 0);
  const Wide dividend = magnitude(a.coefficient_);
  Wide divisor = magnitude(b.coefficient_);
  int exponent = b.scale_ - a.scale_ + scale;
  for (; exponent < 0; ++exponent) {
    // A divisor of 10^38 and more is over twice any dividend once it grows again: the quotient rounds to zero.
    if (divisor >= kBound) return Decimal(0, scale);
    divisor *= 10;
    if (divisor > kBound * 2) return Decimal(0, scale);
  }
  Wide quotient = dividend / divisor;
  Wide remainder = dividend % divisor;
  for (; exponent > 0; --exponent) {
    if (quotient >= kBound / 10) return too_large();
    // Ten times the remainder can exceed 128 bits, so the next digit is found by ten additions.
    Wide next = 0;
    Wide digit = 0;
    for (int i = 0; i < 10; ++i) {
      next += remainder;
      if (next >= divisor) {
        next -= divisor;
        ++digit;
      }
    }
    quotient = quotient * 10 + digit;
    remainder = next;
  }
  quotient = half_even(quotient, remainder, divisor);
  if (quotient >= kBound) return too_large();
  return Decimal(with_sign(quotient, negative), scale);
}

Result<Decimal> round(const Decimal& a, int scale) {
  if (scale >= a.scale_ && scale <= kMaxScale) {
    Int coefficient = a.coefficient_;
    if (!shift(coefficient, scale - a.scale_)) return too_large();
    return Decimal(coefficient, scale);
  }
  return divide(a, Decimal(1), scale);
}

std::strong_ordering operator<=>(const Decimal& a, const Decimal& b) {
  const int left_sign = (a.coefficient_ > 0) - (a.coefficient_ < 0);
  const int right_sign = (b.coefficient_ > 0) - (b.coefficient_ < 0);
  if (left_sign != right_sign || left_sign == 0) return left_sign <=> right_sign;
  const Decimal x = a.normalised();
  const Decimal y = b.normalised();
  const int scale = std::max(x.scale_, y.scale_);
  Int left = x.coefficient_;
  Int right = y.coefficient_;
  // Only the side with fewer decimals is shifted; when it leaves 38 digits it is the larger magnitude.
  const bool left_fits = shift(left, scale - x.scale_);
  const bool right_fits = shift(right, scale - y.scale_);
  if (!left_fits) return left_sign <=> 0;
  if (!right_fits) return 0 <=> right_sign;
  return left < right ? std::strong_ordering::less : left > right ? std::strong_ordering::greater : std::strong_ordering::equal;
}

}  // namespace kontor
