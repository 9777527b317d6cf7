#include "base/decimal.hpp"

#include "tests/support/catch.hpp"

#include <cmath>

namespace {

using kontor::Decimal;

Decimal number(const char* text) {
  const auto parsed = Decimal::parse(text);
  INFO(text);
  REQUIRE(parsed.has_value());
  return *parsed;
}

std::string text(const kontor::Result<Decimal>& value) { return value ? value->to_string() : value.error().kind; }

constexpr const char* kLargest = "99999999999999999999999999999999999999";  // 38 nines

}  // namespace

TEST_CASE("a decimal keeps the digits it was written with", "[decimal]") {
  CHECK(number("4800.00").to_string() == "4800.00");
  CHECK(number("-0.5").to_string() == "-0.5");
  CHECK(number("+7").to_string() == "7");
  CHECK(number("0012.50").to_string() == "12.50");
  CHECK(number("1.5e3").to_string() == "1500");
  CHECK(number("15E-4").to_string() == "0.0015");
  CHECK(number("0e999999999999").to_string() == "0");
  CHECK(number(kLargest).to_string() == kLargest);
  CHECK(number("-0").is_zero());
  CHECK_FALSE(number("-0").is_negative());
  CHECK(number("12.500").normalised().to_string() == "12.5");
}

TEST_CASE("malformed and oversized numbers are errors", "[decimal]") {
  for (const char* bad : {"", "-", ".5", "1.", "1e", "1e+", "0x10", "1,5", "1 ", " 1", "NaN", "1.2.3", "--1", "1_000"}) {
    INFO(bad);
    CHECK(text(Decimal::parse(bad)) == "decimal_syntax");
  }
  CHECK(text(Decimal::parse("100000000000000000000000000000000000000")) == "decimal_overflow");
  CHECK(text(Decimal::parse("1e38")) == "decimal_overflow");
  CHECK(text(Decimal::parse("1e99999999999999999999")) == "decimal_overflow");
  CHECK(text(Decimal::parse("1e-99999999999999999999")) == "decimal_overflow");
  // Zeros at the end of the fraction do not change the value and are dropped when they do not fit.
  CHECK(number("1.00000000000000000000000000000000000000000000000000") == Decimal(1));
}

TEST_CASE("doubles come in through their shortest decimal", "[decimal]") {
  CHECK(text(Decimal::from_double(0.1)) == "0.1");
  CHECK(text(Decimal::from_double(5e-324)).size() == 326);
  CHECK(text(Decimal::from_double(-2500.75)) == "-2500.75");
  CHECK(text(Decimal::from_double(1e22)) == "10000000000000000000000");
  CHECK(text(Decimal::from_double(NAN)) == "decimal_not_finite");
  CHECK(text(Decimal::from_double(INFINITY)) == "decimal_not_finite");
  CHECK(text(Decimal::from_double(1e300)) == "decimal_overflow");
  CHECK(number("0.30").to_double() == 0.3);
}

TEST_CASE("arithmetic is exact or an error", "[decimal]") {
  CHECK(text(add(number("0.1"), number("0.2"))) == "0.3");
  CHECK(text(add(number("4800.00"), number("0.5"))) == "4800.50");
  CHECK(text(subtract(number("1"), number("1.00"))) == "0.00");
  CHECK(text(multiply(number("19.99"), number("-3"))) == "-59.97");
  CHECK(text(multiply(number("0.00"), number(kLargest))) == "0.00");
  CHECK(text(add(number(kLargest), number("1"))) == "decimal_overflow");
  CHECK(text(add(number(kLargest), number("-1"))) == "99999999999999999999999999999999999998");
  CHECK(text(add(number(kLargest), number("0.1"))) == "decimal_overflow");
  CHECK(text(multiply(number(kLargest), number("2"))) == "decimal_overflow");
  CHECK(text(multiply(number("10000000000000000000.000"), number("1000000000000000.000000"))) == "10000000000000000000000000000000000");
}

TEST_CASE("division and rounding go half to even", "[decimal]") {
  CHECK(text(divide(number("1"), number("3"), 4)) == "0.3333");
  CHECK(text(divide(number("2"), number("3"), 4)) == "0.6667");
  CHECK(text(divide(number("-1"), number("8"), 2)) == "-0.12");
  CHECK(text(divide(number("3"), number("8"), 2)) == "0.38");
  CHECK(text(divide(number("1"), number("0.00"), 2)) == "division_by_zero");
  CHECK(text(divide(number(kLargest), number(kLargest), 10)) == "1.0000000000");
  CHECK(text(divide(number("1"), number(kLargest), 2)) == "0.00");
  CHECK(text(divide(number(kLargest), number("0.1"), 0)) == "decimal_overflow");
  CHECK(text(divide(number("0.000000000000000000000000000000000001"), number(kLargest), 0)) == "0");
  CHECK(text(round(number("2.5"), 0)) == "2");
  CHECK(text(round(number("3.5"), 0)) == "4");
  CHECK(text(round(number("-2.675"), 2)) == "-2.68");
  CHECK(text(round(number("7"), 2)) == "7.00");
}

TEST_CASE("values compare whatever their scale", "[decimal]") {
  CHECK(number("1.0") == number("1.00"));
  CHECK(number("-2") < number("1"));
  CHECK(number("-2") < number("-1.999"));
  CHECK(number(kLargest) > number("0.00000000000000000000000000000000000001"));
  CHECK(number("-99999999999999999999999999999999999999") < number("-0.00000000000000000000000000000000000001"));
  CHECK(number("0.00") == Decimal());
  CHECK(number("100") < number("100.0000000000000000000000000000001"));
}
