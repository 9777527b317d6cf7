#include "agent/grammar/regex.hpp"

#include "agent/grammar/determinize.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

namespace kontor::agent {
namespace {

constexpr std::size_t kPatternBytesMax = 8192, kNfaMax = 60'000, kNestingMax = 200;
constexpr std::uint32_t kLastCode = 0x10FFFF;

using Code = std::uint32_t;
using Ranges = std::vector<std::pair<Code, Code>>;

Ranges normalized(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end());
  Ranges out;
  for (const auto& [low, high] : ranges) {
    if (!out.empty() && low <= out.back().second + 1) out.back().second = std::max(out.back().second, high);
    else out.emplace_back(low, high);
  }
  return out;
}

Ranges complement(Ranges ranges) {
  Ranges out;
  Code from = 0;
  for (const auto& [low, high] : normalized(std::move(ranges))) {
    if (low > from) out.emplace_back(from, low - 1);
    from = high + 1;
  }
  if (from <= kLastCode) out.emplace_back(from, kLastCode);
  return out;
}

const Ranges kDigit{{'0', '9'}};
const Ranges kWord{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kSpace{{9, 13}, {' ', ' '}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Ranges kLineEnd{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

struct Part {
  std::uint32_t start, end;
};

class Compiler {
 public:
  explicit Compiler(std::string_view text) : text_(text) {}

  Result<ByteDfa> run() {
    if (text_.size() > kPatternBytesMax) return fail(Errc::limit, "the pattern is longer than " + std::to_string(kPatternBytesMax) + " bytes", "dfa_size");
    auto part = alternatives(0);
    if (!error_ && at_ < text_.size()) stop(Errc::malformed, "an unmatched ')'");
    if (error_) return *error_;
    // Anything before, anything behind.
    const Part before = star(charset({{0, kLastCode}})), after = star(charset({{0, kLastCode}}));
    join(before.end, part.start);
    join(part.end, after.start);
    if (error_) return *error_;
    return determinize({std::move(nodes_), before.start, after.start, after.end});
  }

 private:
  // Errors are remembered; parsing runs on to nowhere.
  Part stop(Errc code, const std::string& message) {
    if (!error_) error_ = fail(code, message + " at byte " + std::to_string(at_) + " of the pattern", "pattern");
    at_ = text_.size();
    return empty();
  }
  bool more() const { return at_ < text_.size() && !error_; }
  bool next_is(std::string_view word) const { return text_.substr(at_).starts_with(word); }
  bool take(std::string_view word) {
    if (!next_is(word)) return false;
    at_ += word.size();
    return true;
  }

  std::uint32_t node(NfaNode value = {}) {
    if (nodes_.size() >= kNfaMax) {
      if (!error_) error_ = fail(Errc::limit, "the pattern is too large", "dfa_size");
      at_ = text_.size();
      return 0;
    }
    nodes_.push_back(value);
    return static_cast<std::uint32_t>(nodes_.size() - 1);
  }
  Part empty() {
    const auto only = node();
    return {only, only};
  }
  /// A jump from the end of one part.
  void join(std::uint32_t from, std::uint32_t to) {
    if (error_) return;
    if (nodes_[from].a == kNoNfaNode) nodes_[from].a = to;
    else if (nodes_[from].b == kNoNfaNode) nodes_[from].b = to;
    else {
      const auto extra = node({1, 0, nodes_[from].b, to});
      nodes_[from].b = extra;
    }
  }
  Part sequence(Part a, Part b) {
    join(a.end, b.start);
    return {a.start, b.end};
  }
  Part star(Part part) {
    const auto start = node(), end = node();
    join(start, part.start);
    join(start, end);
    join(part.end, start);
    return {start, end};
  }
  Part optional(Part part) {
    const auto start = node(), end = node();
    join(start, part.start);
    join(start, end);
    join(part.end, end);
    return {start, end};
  }
  using Bytes = std::vector<std::pair<std::uint8_t, std::uint8_t>>;

  // Code points to UTF-8: a range is cut where the length changes, then at the borders of aligned blocks.
  void utf8(Code low, Code high, std::vector<Bytes>& out) {
    constexpr Code kBorders[] = {0x7F, 0x7FF, 0xFFFF, kLastCode};
    for (const Code border : kBorders)
      if (low <= border && high > border) return utf8(low, border, out), utf8(border + 1, high, out);
    if (low <= 0xDFFF && high >= 0xD800) {
      if (low < 0xD800) utf8(low, 0xD7FF, out);
      if (high > 0xDFFF) utf8(0xE000, high, out);
      return;
    }
    const int length = high <= 0x7F ? 1 : high <= 0x7FF ? 2 : high <= 0xFFFF ? 3 : 4;
    for (int i = 1; i < length; ++i) {
      const Code mask = (Code{1} << (6 * i)) - 1;
      if ((low & ~mask) == (high & ~mask)) continue;
      if (low & mask) return utf8(low, low | mask, out), utf8((low | mask) + 1, high, out);
      if ((high & mask) != mask) return utf8(low, (high & ~mask) - 1, out), utf8(high & ~mask, high, out);
    }
    const auto byte_of = [&](Code code, int i) {
      if (length == 1) return static_cast<std::uint8_t>(code);
      const int shift = 6 * (length - 1 - i);
      if (i > 0) return static_cast<std::uint8_t>(0x80 | (code >> shift & 0x3F));
      constexpr std::uint8_t kLead[] = {0, 0, 0xC0, 0xE0, 0xF0};
      return static_cast<std::uint8_t>(kLead[length] | code >> shift);
    };
    Bytes& bytes = out.emplace_back();
    for (int i = 0; i < length; ++i) bytes.emplace_back(byte_of(low, i), byte_of(high, i));
  }

  /// What characters have in common at their ends is there once.
  Part charset(Ranges ranges) {
    std::vector<Bytes> characters;
    for (const auto& [low, high] : normalized(std::move(ranges))) utf8(low, high, characters);
    const auto start = node(), end = node();
    std::map<std::tuple<std::uint8_t, std::uint8_t, std::uint32_t>, std::uint32_t> known;
    for (const Bytes& bytes : characters) {
      std::uint32_t at = end;
      for (std::size_t i = bytes.size(); i-- > 0;) {
        const auto [low, high] = bytes[i];
        const auto [it, fresh] = known.try_emplace({low, high, at}, 0);
        if (fresh) it->second = node({low, high, at});
        if (fresh && i == 0) join(start, it->second);
        at = it->second;
      }
    }
    return {start, end};
  }

  Part alternatives(std::size_t depth) {
    if (depth > kNestingMax) return stop(Errc::limit, "groups nested too deeply");
    std::vector<Part> parts{terms(depth)};
    while (more() && take("|")) parts.push_back(terms(depth));
    if (parts.size() == 1) return parts.front();
    const auto start = node(), end = node();
    for (const Part& part : parts) {
      join(start, part.start);
      join(part.end, end);
    }
    return {start, end};
  }

  Part terms(std::size_t depth) {
    Part all = empty();
    while (more() && !next_is("|") && !next_is(")")) all = sequence(all, term(depth));
    return all;
  }

  Part term(std::size_t depth) {
    const std::size_t from = at_;
    if (take("^") || take("$")) {
      Part part = empty();
      nodes_[part.start].assertion = text_[from] == '^' ? NfaNode::Assert::begin : NfaNode::Assert::end;
      const auto end = node();
      join(part.start, end);
      return {part.start, end};
    }
    Part part = atom(depth);
    const std::size_t to = at_;
    for (bool again = true; again && more();) {
      again = false;
      std::uint32_t least = 0, most = 0;
      if (take("*")) least = 0, most = kNoNfaNode;
      else if (take("+")) least = 1, most = kNoNfaNode;
      else if (take("?")) least = 0, most = 1;
      else if (!braces(least, most)) break;
      take("?");  // Lazy or greedy: the same texts.
      part = repeat(part, least, most, from, to, depth);
    }
    return part;
  }

  bool braces(std::uint32_t& least, std::uint32_t& most) {
    if (!next_is("{")) return false;
    std::size_t at = at_ + 1;
    const auto number = [&](std::uint32_t& value) {
      const std::size_t from = at;
      std::uint64_t n = 0;
      for (; at < text_.size() && text_[at] >= '0' && text_[at] <= '9'; ++at) n = std::min<std::uint64_t>(n * 10 + static_cast<std::uint64_t>(text_[at] - '0'), 1'000'000);
      value = static_cast<std::uint32_t>(n);
      return at > from;
    };
    if (!number(least)) return false;
    most = least;
    if (at < text_.size() && text_[at] == ',') {
      ++at;
      if (!number(most)) most = kNoNfaNode;
    }
    if (at >= text_.size() || text_[at] != '}') return false;
    at_ = at + 1;
    if (most != kNoNfaNode && most < least) stop(Errc::malformed, "a repeat of more than it may have");
    return true;
  }

  /// Repeats read the atom's text again for every copy.
  Part repeat(Part first, std::uint32_t least, std::uint32_t most, std::size_t from, std::size_t to, std::size_t depth) {
    const std::size_t behind = at_;
    bool used = false;
    const auto copy = [&]() -> Part {
      if (!used) return used = true, first;
      at_ = from;
      const std::string_view whole = text_;
      text_ = text_.substr(0, to);
      const Part part = error_ ? empty() : atom(depth);
      text_ = whole;
      return part;
    };
    Part all = empty();
    for (std::uint32_t i = 0; i < least && !error_; ++i) all = sequence(all, copy());
    if (most == kNoNfaNode) {
      all = sequence(all, star(copy()));
    } else {
      // Nested options: skipping one skips the rest.
      std::vector<Part> options;
      for (std::uint32_t i = least; i < most && !error_; ++i) options.push_back(copy());
      const auto end = node();
      for (const Part& part : options) {
        join(all.end, end);
        all = sequence(all, part);
      }
      join(all.end, end);
      all.end = end;
    }
    if (!error_) at_ = behind;
    return all;
  }

  Part atom(std::size_t depth) {
    if (take("(")) {
      if (next_is("?=") || next_is("?!") || next_is("?<=") || next_is("?<!")) return stop(Errc::unsupported, "look-around cannot be generated");
      if (next_is("?<")) {
        const auto close = text_.find('>', at_);
        if (close == std::string_view::npos) return stop(Errc::malformed, "an unfinished group name");
        at_ = close + 1;
      } else if (!take("?:") && next_is("?")) {
        return stop(Errc::unsupported, "inline flags cannot be generated");
      }
      const Part part = alternatives(depth + 1);
      if (!error_ && !take(")")) return stop(Errc::malformed, "an unclosed '('");
      return part;
    }
    if (take(".")) return charset(complement(kLineEnd));
    if (take("[")) return bracket();
    if (next_is("\\")) {
      Ranges set;
      if (const auto code = escape(set, false)) set = {{*code, *code}};
      return charset(std::move(set));
    }
    if (next_is("*") || next_is("+") || next_is("?")) return stop(Errc::malformed, "nothing to repeat");
    const auto code = character();
    return charset({{code, code}});
  }

  Code character() {
    const auto lead = static_cast<std::uint8_t>(text_[at_]);
    const std::size_t length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 0;
    if (length == 0 || at_ + length > text_.size()) return stop(Errc::malformed, "bytes that are not UTF-8"), 0;
    Code code = length == 1 ? lead : lead & (0x7Fu >> length);
    for (std::size_t i = 1; i < length; ++i) code = code << 6 | (static_cast<std::uint8_t>(text_[at_ + i]) & 0x3F);
    at_ += length;
    return code;
  }

  /// Reads an escape: one character, or a class into `set`.
  std::optional<Code> escape(Ranges& set, bool in_bracket) {
    ++at_;
    if (at_ >= text_.size()) return stop(Errc::malformed, "an unfinished escape"), std::nullopt;
    const char c = text_[at_++];
    switch (c) {
      case 'd': return set = kDigit, std::nullopt;
      case 'D': return set = complement(kDigit), std::nullopt;
      case 'w': return set = kWord, std::nullopt;
      case 'W': return set = complement(kWord), std::nullopt;
      case 's': return set = kSpace, std::nullopt;
      case 'S': return set = complement(kSpace), std::nullopt;
      case 't': return Code{'\t'};
      case 'n': return Code{'\n'};
      case 'v': return Code{'\v'};
      case 'f': return Code{'\f'};
      case 'r': return Code{'\r'};
      case '0': return Code{0};
      case 'c': {
        const char letter = at_ < text_.size() ? text_[at_] : '\0';
        if (!((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z'))) return stop(Errc::malformed, "a bad \\c"), std::nullopt;
        ++at_;
        return static_cast<Code>(letter & 31);
      }
      case 'x': return hex(2);
      case 'u': return take("{") ? braced_hex() : unicode();
      case 'b':
        if (in_bracket) return Code{'\b'};
        [[fallthrough]];
      case 'B': return stop(Errc::unsupported, "word boundaries cannot be generated"), std::nullopt;
      case 'p':
      case 'P': return stop(Errc::unsupported, "\\p classes cannot be generated"), std::nullopt;
      case 'k': return stop(Errc::unsupported, "back-references cannot be generated"), std::nullopt;
      default: break;
    }
    if (c >= '1' && c <= '9') return stop(Errc::unsupported, "back-references cannot be generated"), std::nullopt;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return stop(Errc::malformed, "an unknown escape"), std::nullopt;
    --at_;
    return character();
  }

  Code hex(std::size_t digits) {
    Code value = 0;
    for (std::size_t i = 0; i < digits; ++i, ++at_) {
      const char c = at_ < text_.size() ? text_[at_] : '\0';
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) return stop(Errc::malformed, "bad hexadecimal digits"), 0;
      value = value * 16 + static_cast<Code>(digit);
    }
    return value;
  }
  Code braced_hex() {
    const auto close = text_.find('}', at_);
    if (close == std::string_view::npos || close == at_ || close - at_ > 6) return stop(Errc::malformed, "a bad \\u{...}"), 0;
    const Code value = hex(close - at_);
    if (!error_) ++at_;
    if (value > kLastCode) return stop(Errc::malformed, "a bad \\u{...}"), 0;
    return value;
  }
  Code unicode() {
    const Code first = hex(4);
    if (first < 0xD800 || first > 0xDBFF || !take("\\u")) return first;
    const Code second = hex(4);
    if (second < 0xDC00 || second > 0xDFFF) return stop(Errc::malformed, "a lone surrogate"), 0;
    return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
  }

  Part bracket() {
    const bool negated = take("^");
    Ranges set;
    while (more() && !next_is("]")) {
      Ranges group;
      const auto low = next_is("\\") ? escape(group, true) : std::optional<Code>(character());
      if (!low) {
        set.insert(set.end(), group.begin(), group.end());
        continue;
      }
      Code high = *low;
      if (next_is("-") && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        const std::size_t dash = at_++;
        Ranges other;
        const auto end = next_is("\\") ? escape(other, true) : std::optional<Code>(character());
        if (!end) at_ = dash + 1, set.emplace_back('-', '-');
        else high = *end;
        if (high < *low) return stop(Errc::malformed, "a range from high to low");
      }
      set.emplace_back(*low, high);
    }
    if (!take("]")) return stop(Errc::malformed, "an unclosed '['");
    return charset(negated ? complement(std::move(set)) : std::move(set));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::optional<Error> error_;
  std::vector<NfaNode> nodes_;
};

/// All of the process.
class KnownPatterns {
 public:
  std::shared_ptr<const ByteDfa> find(std::string_view pattern) {
    const std::lock_guard lock(mutex_);
    const auto found = known_.find(pattern);
    return found == known_.end() ? nullptr : found->second;
  }
  void insert(std::string_view pattern, std::shared_ptr<const ByteDfa> dfa) {
    constexpr std::size_t kStatesKeptMax = 100'000;
    const std::lock_guard lock(mutex_);
    if (states_ + dfa->states.size() + 1 > kStatesKeptMax) known_.clear(), states_ = 0;
    states_ += dfa->states.size() + 1;
    known_.emplace(pattern, std::move(dfa));
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const ByteDfa>, std::less<>> known_;
  std::size_t states_ = 0;
};

}  // namespace

Result<std::shared_ptr<const ByteDfa>> compile_regex(std::string_view pattern) {
  static KnownPatterns known;
  if (auto found = known.find(pattern)) return found;
  auto dfa = Compiler(pattern).run();
  if (!dfa) return dfa.error();
  auto made = std::make_shared<const ByteDfa>(std::move(*dfa));
  known.insert(pattern, made);
  return std::shared_ptr<const ByteDfa>(std::move(made));
}

}  // namespace kontor::agent
