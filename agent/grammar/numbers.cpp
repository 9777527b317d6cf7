#include "agent/grammar/numbers.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <map>

namespace kontor::agent {
namespace {

constexpr int kDoubleDigits = 15, kIntegerDigits = 19;
constexpr const char* kLargest = "9223372036854775807";

/// A bound on the magnitude and how the digits read so far compare with its first ones.
struct Side {
  PlainDecimal value;
  bool exclusive = false;
};

enum Phase : std::uint8_t { kStart, kMinus, kZero, kInteger, kPoint, kFraction, kExponent, kExponentSign, kExponentDigit, kExponentDone };

struct State {
  Phase phase = kStart;
  bool negative = false;
  std::uint8_t digits = 0;       ///< In front of the point.
  std::uint8_t behind = 0;
  std::array<std::int8_t, 4> compared{};  ///< With each bound of this sign, over the digits read.
  std::uint16_t remainder = 0;
  auto operator<=>(const State&) const = default;
};

class Machine {
 public:
  explicit Machine(const NumberRange& range) : range_(range) {}

  Result<ByteDfa> run() {
    if (const auto ready = prepare(); !ready) return ready.error();
    ByteDfa dfa;
    id(State{}, dfa);
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (i >= kDfaStatesMax) return fail(Errc::limit, "the range needs too many states", "dfa_size");
      const State from = states_[i];
      dfa.states[i].accepts = accepts(from);
      std::vector<ByteDfa::Range> ranges;
      for (const char c : std::string_view("+-.0123456789e")) {
        State to = from;
        if (!step(to, c)) continue;
        ranges.push_back({static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), id(to, dfa)});
      }
      dfa.states[i].ranges = std::move(ranges);
    }
    reduce(dfa);
    return dfa;
  }

 private:
  Result<void> prepare() {
    const auto add = [](std::vector<Side>& sides, const PlainDecimal& value, bool exclusive) { sides.push_back({value, exclusive}); };
    const PlainDecimal largest{false, kLargest, {}};
    for (const bool negative : {false, true}) {
      auto& lower = lower_[negative];
      auto& upper = upper_[negative];
      // Of negative numbers the magnitudes are bounded the other way round.
      for (const auto& bound : negative ? range_.upper : range_.lower) {
        if (bound.value.negative == negative || bound.value.zero()) add(lower, bound.value, bound.exclusive);
        else if (negative) continue;  // below a positive bound anyway
      }
      for (const auto& bound : negative ? range_.lower : range_.upper) {
        if (bound.value.negative == negative || bound.value.zero()) add(upper, bound.value, bound.exclusive);
        else allowed_[negative] = false;
      }
      tighten(lower, true);
      tighten(upper, false);
      upper.push_back({largest, false});
      tighten(upper, false);
      for (const Side& side : lower) sides_[negative].emplace_back(&side, true);
      for (const Side& side : upper) sides_[negative].emplace_back(&side, false);
    }
    restricted_ = range_.integer || !range_.lower.empty() || !range_.upper.empty() || !range_.multiples.empty();
    if (range_.multiples.size() > 1) return fail(Errc::unsupported, "more than one multipleOf", "number_range");
    if (range_.multiples.empty()) return {};
    const PlainDecimal& unit = range_.multiples.front();
    std::string digits = (unit.digits == "0" ? "" : unit.digits) + unit.fraction;
    digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
    if (digits.empty() || digits.size() > 5 || std::stoi(digits) > 10'000) return fail(Errc::unsupported, "a multipleOf of 0 or of more than 10,000 units", "number_range");
    modulus_ = std::stoi(digits);
    places_ = static_cast<int>(unit.fraction.size());
    return {};
  }

  static int compare(const PlainDecimal& a, const PlainDecimal& b) {
    if (a.digits.size() != b.digits.size()) return a.digits.size() < b.digits.size() ? -1 : 1;
    if (const int order = a.digits.compare(b.digits); order != 0) return order;
    return a.fraction.compare(b.fraction);
  }

  /// One bound is enough: the tightest.
  static void tighten(std::vector<Side>& sides, bool lower) {
    if (sides.size() < 2) return;
    auto best = sides.front();
    for (const Side& side : sides) {
      const int order = compare(side.value, best.value);
      if (order == 0) best.exclusive |= side.exclusive;
      else if ((order > 0) == lower) best = side;
    }
    sides.assign(1, best);
  }

  /// Bounds of the sign, in a fixed order: the lower one, if any, then the upper one.
  const std::vector<std::pair<const Side*, bool>>& sides(bool negative) const { return sides_[negative]; }

  /// Order of the number in `state`, complete as it stands, and the bound.
  static int order(const State& state, const Side& side, int compared) {
    const int length = static_cast<int>(side.value.digits.size());
    if (state.phase != kFraction) {
      if (state.digits != length) return state.digits < length ? -1 : 1;
      return compared != 0 ? compared : side.value.fraction.empty() ? 0 : -1;
    }
    if (compared != 0) return compared;
    return state.behind < side.value.fraction.size() ? -1 : 0;
  }

  bool accepts(const State& state) const {
    if (state.phase == kExponentDigit || state.phase == kExponentDone) return true;
    if (state.phase != kZero && state.phase != kInteger && state.phase != kFraction) return false;
    const auto& bounds = sides(state.negative);
    for (std::size_t i = 0; i < bounds.size(); ++i) {
      const auto [side, lower] = bounds[i];
      const int result = order(state, *side, state.compared[i]);
      if (result == 0 ? side->exclusive : (result < 0) == lower) return false;
    }
    if (state.negative && state.phase == kZero) return false;
    if (modulus_ == 0) return true;
    int remainder = state.remainder;
    for (int i = state.behind; i < places_; ++i) remainder = remainder * 10 % modulus_;
    return remainder == 0;
  }

  bool step(State& state, char c) const {
    const bool digit = c >= '0' && c <= '9';
    switch (state.phase) {
      case kStart:
        if (c == '-' && allowed_[1]) return state.phase = kMinus, state.negative = true, true;
        [[fallthrough]];
      case kMinus:
        if (!digit || (!state.negative && !allowed_[0])) return false;
        state.phase = c == '0' ? kZero : kInteger;
        return read_front(state, c);
      case kInteger:
        if (digit) return state.digits < kIntegerDigits && read_front(state, c);
        [[fallthrough]];
      case kZero:
        if (c == '.' && !range_.integer && state.digits < kDoubleDigits && (modulus_ == 0 || places_ > 0)) {
          const auto& bounds = sides(state.negative);
          for (std::size_t i = 0; i < bounds.size(); ++i) {
            const int length = static_cast<int>(bounds[i].first->value.digits.size());
            if (state.digits != length) state.compared[i] = state.digits < length ? -1 : 1;
          }
          return state.phase = kPoint, true;
        }
        if (c == 'e' && !restricted_ && !(state.phase == kZero && state.negative)) return exponent(state);
        return false;
      case kPoint:
      case kFraction:
        if (digit) return read_behind(state, c);
        if (c == 'e' && !restricted_ && state.phase == kFraction) return exponent(state);
        return false;
      case kExponent:
        if (c == '+' || c == '-') return state.phase = kExponentSign, true;
        [[fallthrough]];
      case kExponentSign: return digit && (state.phase = kExponentDigit, true);
      case kExponentDigit: return digit && (state.phase = kExponentDone, true);
      default: return false;
    }
  }

  static bool exponent(State& state) {
    state = State{};
    state.phase = kExponent;
    return true;
  }

  bool read_front(State& state, char c) const {
    const auto& bounds = sides(state.negative);
    for (std::size_t i = 0; i < bounds.size(); ++i) {
      const std::string& digits = bounds[i].first->value.digits;
      if (state.compared[i] != 0 || state.digits >= digits.size()) continue;
      const char other = digits[state.digits];
      state.compared[i] = static_cast<std::int8_t>(c < other ? -1 : c > other ? 1 : 0);
    }
    ++state.digits;
    if (modulus_ != 0) state.remainder = static_cast<std::uint16_t>((state.remainder * 10 + (c - '0')) % modulus_);
    // Longer than the upper bound already: no digit makes it smaller.
    return state.digits <= upper_[state.negative].front().value.digits.size();
  }

  bool read_behind(State& state, char c) const {
    if (state.digits + state.behind >= kDoubleDigits || (modulus_ != 0 && state.behind >= places_)) return false;
    const auto& bounds = sides(state.negative);
    for (std::size_t i = 0; i < bounds.size(); ++i) {
      if (state.compared[i] != 0) continue;
      const std::string& fraction = bounds[i].first->value.fraction;
      const char other = state.behind < fraction.size() ? fraction[state.behind] : '0';
      state.compared[i] = static_cast<std::int8_t>(c < other ? -1 : c > other ? 1 : 0);
    }
    state.phase = kFraction;
    ++state.behind;
    if (modulus_ != 0) state.remainder = static_cast<std::uint16_t>((state.remainder * 10 + (c - '0')) % modulus_);
    return true;
  }

  std::uint32_t id(const State& state, ByteDfa& dfa) {
    const auto [it, fresh] = ids_.try_emplace(state, static_cast<std::uint32_t>(states_.size()));
    if (fresh) {
      states_.push_back(state);
      dfa.states.emplace_back();
    }
    return it->second;
  }

  const NumberRange& range_;
  std::vector<Side> lower_[2], upper_[2];
  std::vector<std::pair<const Side*, bool>> sides_[2];
  bool allowed_[2] = {true, true};
  bool restricted_ = false;
  int modulus_ = 0, places_ = 0;
  std::map<State, std::uint32_t> ids_;
  std::vector<State> states_;
};

}  // namespace

Result<PlainDecimal> plain_decimal(const Json& number) {
  constexpr std::size_t kDigitsMax = 40;
  const auto too_wide = [] { return fail(Errc::unsupported, "a number of more than 40 digits", "number_range"); };
  std::string text = number.dump();
  PlainDecimal out;
  if (text.starts_with('-')) out.negative = true, text.erase(0, 1);
  long exponent = 0;
  if (const auto e = text.find_first_of("eE"); e != std::string::npos) {
    exponent = std::strtol(text.c_str() + e + 1, nullptr, 10);
    text.resize(e);
  }
  if (exponent > 400 || exponent < -400) return too_wide();
  const auto point = text.find('.');
  std::string front = text.substr(0, point), behind = point == std::string::npos ? "" : text.substr(point + 1);
  for (; exponent > 0; --exponent) {
    front += behind.empty() ? '0' : behind.front();
    if (!behind.empty()) behind.erase(0, 1);
  }
  for (; exponent < 0; ++exponent) {
    behind.insert(0, 1, front.empty() ? '0' : front.back());
    if (!front.empty()) front.pop_back();
  }
  front.erase(0, std::min(front.find_first_not_of('0'), front.size()));
  while (!behind.empty() && behind.back() == '0') behind.pop_back();
  if (front.size() > kDigitsMax || behind.size() > kDigitsMax) return too_wide();
  out.digits = front.empty() ? "0" : front;
  out.fraction = behind;
  if (out.zero()) out.negative = false;
  return out;
}

Result<ByteDfa> number_dfa(const NumberRange& range) { return Machine(range).run(); }

}  // namespace kontor::agent
