#include "tools/json_value.hpp"

#include "base/decimal.hpp"

#include <nlohmann/json.hpp>

#include <bit>
#include <cmath>
#include <unordered_map>
#include <vector>

namespace kontor::tools {
namespace {

constexpr std::size_t kDepthMax = 256;

/// Sign-and-magnitude view of an integer.
struct Whole {
  bool negative;
  std::uint64_t magnitude;
};

Whole whole(const Json& number) {
  if (number.is_number_unsigned()) return {false, number.get<std::uint64_t>()};
  const auto value = number.get<std::int64_t>();
  return {value < 0, value < 0 ? std::uint64_t{0} - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value)};
}

int compare_whole(Whole a, Whole b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  if (a.magnitude == b.magnitude) return 0;
  return (a.magnitude < b.magnitude) != a.negative ? -1 : 1;
}

/// An integer against a double without rounding either.
int compare_whole(Whole a, double b) {
  if (std::isnan(b)) return 1;
  const double truncated = std::trunc(b);
  const double magnitude = std::fabs(truncated);
  if (magnitude >= 18446744073709551616.0) return b > 0 ? -1 : 1;
  const int order = compare_whole(a, Whole{truncated < 0, static_cast<std::uint64_t>(magnitude)});
  if (order != 0) return order;
  return truncated < b ? -1 : truncated > b ? 1 : 0;
}

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdULL;
}

std::uint64_t hash_number(const Json& value) {
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::trunc(number) == number && std::fabs(number) < 18446744073709551616.0) {
      return mix(number < 0, static_cast<std::uint64_t>(std::fabs(number)));
    }
    return mix(2, std::bit_cast<std::uint64_t>(number));
  }
  const Whole number = whole(value);
  return mix(number.negative, number.magnitude);
}

std::uint64_t hash_value(const Json& value, std::size_t depth) {
  switch (value.type()) {
    case Json::value_t::null: return 11;
    case Json::value_t::boolean: return value.get<bool>() ? 13 : 17;
    case Json::value_t::string: return mix(19, std::hash<std::string>{}(value.get_ref<const std::string&>()));
    case Json::value_t::array: {
      std::uint64_t hash = 23;
      if (depth < kDepthMax) {
        for (const auto& element : value) hash = mix(hash, hash_value(element, depth + 1));
      }
      return hash;
    }
    case Json::value_t::object: {
      std::uint64_t sum = 29;  // Commutative: the order of members does not matter.
      if (depth < kDepthMax) {
        for (const auto& member : value.items()) {
          sum += mix(std::hash<std::string>{}(member.key()), hash_value(member.value(), depth + 1));
        }
      }
      return mix(31, sum);
    }
    default: return value.is_number() ? hash_number(value) : 37;
  }
}

bool equal_objects(const Json& a, const Json& b, std::size_t depth);

bool equal_at(const Json& a, const Json& b, std::size_t depth) {
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.type() != b.type()) return false;
  if (a.is_string()) return a.get_ref<const std::string&>() == b.get_ref<const std::string&>();
  if (a.is_boolean()) return a.get<bool>() == b.get<bool>();
  if (a.is_null()) return true;
  if (depth >= kDepthMax || a.size() != b.size()) return false;
  if (a.is_array()) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!equal_at(a[i], b[i], depth + 1)) return false;
    }
    return true;
  }
  return a.is_object() && equal_objects(a, b, depth);
}

bool equal_objects(const Json& a, const Json& b, std::size_t depth) {
  std::unordered_map<std::string_view, const Json*> members;
  for (const auto& member : b.items()) members.emplace(member.key(), &member.value());
  for (const auto& member : a.items()) {
    const auto found = members.find(member.key());
    if (found == members.end() || !equal_at(member.value(), *found->second, depth + 1)) return false;
  }
  return true;
}

Result<Decimal> decimal(const Json& number) {
  if (number.is_number_float()) return Decimal::from_double(number.get<double>());
  return Decimal::parse(number.dump());
}

}  // namespace

bool json_equal(const Json& a, const Json& b) { return equal_at(a, b, 0); }

std::uint64_t json_hash(const Json& value) { return hash_value(value, 0); }

int compare_numbers(const Json& a, const Json& b) {
  if (a.is_number_float() && b.is_number_float()) {
    const double x = a.get<double>(), y = b.get<double>();
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.is_number_float()) return -compare_whole(whole(b), a.get<double>());
  if (b.is_number_float()) return compare_whole(whole(a), b.get<double>());
  return compare_whole(whole(a), whole(b));
}

bool is_whole_number(const Json& number) {
  if (!number.is_number_float()) return number.is_number();
  const double value = number.get<double>();
  return std::isfinite(value) && std::trunc(value) == value;
}

bool is_multiple_of(const Json& value, const Json& step) {
  if (!value.is_number_float() && !step.is_number_float()) {
    const auto divisor = whole(step).magnitude;
    return divisor != 0 && whole(value).magnitude % divisor == 0;
  }
  const auto dividend = decimal(value), divisor = decimal(step);
  if (dividend && divisor) {
    if (const auto quotient = divide(*dividend, *divisor, 0)) {
      if (const auto product = multiply(*quotient, *divisor)) return *product == *dividend;
    }
  }
  // Beyond 38 digits: the binary values are all that is left.
  return std::fmod(value.get<double>(), step.get<double>()) == 0;
}

std::size_t json_depth(const Json& value, std::size_t limit) {
  struct Frame {
    Json::const_iterator at, end;
  };
  std::vector<Frame> stack;
  std::size_t deepest = 0;
  if (value.is_structured()) stack.push_back({value.begin(), value.end()});
  while (!stack.empty()) {
    deepest = std::max(deepest, stack.size());
    if (deepest >= limit) return limit;
    auto& top = stack.back();
    if (top.at == top.end) {
      stack.pop_back();
      continue;
    }
    const Json& child = *top.at;
    ++top.at;
    if (child.is_structured()) stack.push_back({child.begin(), child.end()});
  }
  return deepest;
}

std::string kind_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null: return "null";
    case Json::value_t::boolean: return "a boolean";
    case Json::value_t::string: return "a string";
    case Json::value_t::array: return "a list";
    case Json::value_t::object: return "an object";
    default: return "a number";
  }
}

}  // namespace kontor::tools
