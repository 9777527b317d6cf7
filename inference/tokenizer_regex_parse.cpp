// Reads a pattern by recursive descent straight into steps; a repeated part is written out as often as needed.

#include "inference/tokenizer_regex.hpp"
#include "inference/unicode.hpp"

#include <array>
#include <iterator>
#include <string>

namespace kontor::inference {
namespace {

using Step = Regex::Step;
using Op = Regex::Op;
using Steps = std::vector<Step>;

struct Range {
  std::uint32_t first, last;
};
constexpr Range kWhiteSpace[] = {{9, 13}, {0x20, 0x20}, {0x85, 0x85}, {0xa0, 0xa0}, {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}};
constexpr Range kHan[] = {{0x2e80, 0x2e99}, {0x2e9b, 0x2ef3}, {0x2f00, 0x2fd5}, {0x3005, 0x3005}, {0x3007, 0x3007}, {0x3021, 0x3029}, {0x3038, 0x303b},
                          {0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0xf900, 0xfa6d}, {0xfa70, 0xfad9}, {0x16fe2, 0x16fe3}, {0x16ff0, 0x16ff1}, {0x20000, 0x2a6df},
                          {0x2a700, 0x2b739}, {0x2b740, 0x2b81d}, {0x2b820, 0x2cea1}, {0x2ceb0, 0x2ebe0}, {0x2f800, 0x2fa1d}, {0x30000, 0x3134a}, {0x31350, 0x323af}};
constexpr Range kHiragana[] = {{0x3041, 0x3096}, {0x309d, 0x309f}, {0x1b001, 0x1b11f}, {0x1b132, 0x1b132}, {0x1b150, 0x1b152}, {0x1f200, 0x1f200}};
constexpr Range kKatakana[] = {{0x30a1, 0x30fa}, {0x30fd, 0x30ff}, {0x31f0, 0x31ff}, {0x32d0, 0x32fe}, {0x3300, 0x3357}, {0xff66, 0xff6f}, {0xff71, 0xff9d}, {0x1b000, 0x1b000}};
constexpr Range kHangul[] = {{0x1100, 0x11ff}, {0x302e, 0x302f}, {0x3131, 0x318e}, {0x3200, 0x321e}, {0x3260, 0x327e}, {0xa960, 0xa97c}, {0xac00, 0xd7a3}, {0xd7b0, 0xd7c6}, {0xd7cb, 0xd7fb}, {0xffa0, 0xffbe}, {0xffc2, 0xffc7}, {0xffca, 0xffcf}, {0xffd2, 0xffd7}, {0xffda, 0xffdc}};

template <std::size_t N>
void add_ranges(CharacterSet& set, const Range (&ranges)[N]) {
  for (const Range& range : ranges) set.ranges.emplace_back(range.first, range.last);
}

template <class... Categories>
constexpr std::uint32_t bits(Categories... categories) {
  return (category_bit(categories) | ...);
}
using G = GeneralCategory;
constexpr std::uint32_t kLetters = bits(G::lu, G::ll, G::lt, G::lm, G::lo), kMarks = bits(G::mn, G::mc, G::me), kNumbers = bits(G::nd, G::nl, G::no);

struct Property {
  std::string_view name;
  std::uint32_t categories;
};
constexpr Property kProperties[] = {
    {"L", kLetters}, {"Letter", kLetters}, {"M", kMarks}, {"Mark", kMarks}, {"N", kNumbers}, {"Number", kNumbers},
    {"P", bits(G::pc, G::pd, G::ps, G::pe, G::pi, G::pf, G::po)}, {"Punctuation", bits(G::pc, G::pd, G::ps, G::pe, G::pi, G::pf, G::po)},
    {"S", bits(G::sm, G::sc, G::sk, G::so)}, {"Symbol", bits(G::sm, G::sc, G::sk, G::so)}, {"Z", bits(G::zs, G::zl, G::zp)},
    {"C", bits(G::cn, G::cc, G::cf, G::cs, G::co)}, {"LC", bits(G::lu, G::ll, G::lt)},
    {"Lu", bits(G::lu)}, {"Ll", bits(G::ll)}, {"Lt", bits(G::lt)}, {"Lm", bits(G::lm)}, {"Lo", bits(G::lo)}, {"Mn", bits(G::mn)}, {"Mc", bits(G::mc)},
    {"Me", bits(G::me)}, {"Nd", bits(G::nd)}, {"Nl", bits(G::nl)}, {"No", bits(G::no)}, {"Pc", bits(G::pc)}, {"Pd", bits(G::pd)}, {"Ps", bits(G::ps)},
    {"Pe", bits(G::pe)}, {"Pi", bits(G::pi)}, {"Pf", bits(G::pf)}, {"Po", bits(G::po)}, {"Sm", bits(G::sm)}, {"Sc", bits(G::sc)}, {"Sk", bits(G::sk)},
    {"So", bits(G::so)}, {"Zs", bits(G::zs)}, {"Zl", bits(G::zl)}, {"Zp", bits(G::zp)}, {"Cc", bits(G::cc)}, {"Cf", bits(G::cf)}, {"Cs", bits(G::cs)},
    {"Co", bits(G::co)}, {"Cn", bits(G::cn)},
};

class Parser {
 public:
  explicit Parser(std::string_view pattern) : text_(pattern) {}

  bool parse(Steps& out) {
    if (!alternatives(out, 0)) return false;
    if (at_ < text_.size()) return wrong("')' without '('");
    out.push_back({Op::match});
    return fits(out);
  }

  std::vector<CharacterSet> take_sets() { return std::move(sets_); }
  bool looks() const { return looks_; }
  Error error() const { return error_; }

 private:
  bool wrong(const std::string& what, const char* kind = "bad_regex", Errc code = Errc::malformed) {
    if (error_.code == Errc::none) error_ = fail(code, "regular expression, byte " + std::to_string(at_) + ": " + what, kind);
    return false;
  }
  bool unsupported(const std::string& what) { return wrong(what + " is not supported", "unsupported_regex", Errc::unsupported); }
  bool fits(const Steps& steps) {
    return steps.size() <= kMaxRegexSteps || wrong("it is larger than " + std::to_string(kMaxRegexSteps) + " steps when written out", "limit_exceeded", Errc::limit);
  }
  bool has(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  bool take(std::string_view what) {
    if (!has(what)) return false;
    at_ += what.size();
    return true;
  }
  bool done() const { return at_ >= text_.size(); }
  std::uint32_t next_character() {
    const CodePoint point = decode_utf8(text_, at_);
    at_ += point.bytes;
    return point.value;
  }

  Step set_step(CharacterSet set) {
    set.any_case = set.any_case || any_case_;
    set.finish();
    sets_.push_back(std::move(set));
    Step step{Op::set};
    step.set = static_cast<std::uint32_t>(sets_.size() - 1);
    return step;
  }
  static void append(Steps& out, const Steps& more) { out.insert(out.end(), more.begin(), more.end()); }
  static Step branch(std::ptrdiff_t first, std::ptrdiff_t second) {
    Step step{Op::branch};
    step.first = static_cast<std::int32_t>(first);
    step.second = static_cast<std::int32_t>(second);
    return step;
  }
  static Step jump(std::ptrdiff_t target) {
    Step step{Op::jump};
    step.first = static_cast<std::int32_t>(target);
    return step;
  }
  static std::ptrdiff_t length(const Steps& steps) { return static_cast<std::ptrdiff_t>(steps.size()); }

  bool alternatives(Steps& out, int depth) {
    if (depth > kMaxRegexDepth) return wrong("groups are nested deeper than " + std::to_string(kMaxRegexDepth), "limit_exceeded", Errc::limit);
    const bool any_case = any_case_, dot_all = dot_all_;
    std::vector<Steps> parts(1);
    std::size_t total = 0;
    while (!done() && !has(")")) {
      if (take("|")) {
        parts.emplace_back();
        continue;
      }
      const std::size_t before = parts.back().size();
      if (!repeated(parts.back(), depth)) return false;
      total += parts.back().size() - before;
      if (total > kMaxRegexSteps) return wrong("it is larger than " + std::to_string(kMaxRegexSteps) + " steps when written out", "limit_exceeded", Errc::limit);
    }
    any_case_ = any_case;  // (?i) holds to the end of its group
    dot_all_ = dot_all;
    std::ptrdiff_t left = 0;  // steps from here to the end
    for (std::size_t i = 0; i < parts.size(); ++i) left += length(parts[i]) + (i + 1 < parts.size() ? 2 : 0);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      left -= length(parts[i]) + (i + 1 < parts.size() ? 2 : 0);
      if (i + 1 < parts.size()) out.push_back(branch(1, length(parts[i]) + 2));
      append(out, parts[i]);
      if (i + 1 < parts.size()) out.push_back(jump(left + 1));
    }
    return fits(out);
  }

  bool repeated(Steps& out, int depth) {
    Steps part;
    bool can_repeat = true;
    if (!atom(part, depth, can_repeat)) return false;
    for (;;) {
      int least = 0, most = -1;
      bool counted = false;
      if (take("*")) least = 0;
      else if (take("+")) least = 1;
      else if (take("?")) most = 1;
      else if (!count(least, most, counted)) break;
      if (error_.code != Errc::none) return false;
      if (!can_repeat) return wrong("nothing to repeat here");
      const bool lazy = take("?");
      const bool possessive = !counted && !lazy && take("+");
      if (possessive) {
        if (part.size() != 1 || part[0].op != Op::set) return unsupported("possessive repetition of more than one character set");
        part[0].op = Op::run;
        part[0].first = least;
        part[0].second = most;
        continue;
      }
      Steps whole;
      if (!repeat(part, least, most, lazy, whole)) return false;
      part = std::move(whole);
    }
    if (error_.code != Errc::none) return false;
    append(out, part);
    return true;
  }

  bool repeat(const Steps& part, int least, int most, bool lazy, Steps& out) {
    const auto choose = [lazy](std::ptrdiff_t inside, std::ptrdiff_t outside) { return lazy ? branch(outside, inside) : branch(inside, outside); };
    const std::size_t copies = static_cast<std::size_t>(std::max(most < 0 ? least + 1 : most, 1));
    if (copies * (part.size() + 2) > kMaxRegexSteps) return wrong("it is larger than " + std::to_string(kMaxRegexSteps) + " steps when written out", "limit_exceeded", Errc::limit);
    if (most < 0) {
      for (int i = 1; i < least; ++i) append(out, part);
      if (least > 0) {
        append(out, part);
        out.push_back(choose(-length(part), 1));
      } else {
        out.push_back(choose(1, length(part) + 2));
        append(out, part);
        out.push_back(jump(-length(part) - 1));
      }
      return true;
    }
    for (int i = 0; i < least; ++i) append(out, part);
    for (int i = least; i < most; ++i) {
      out.push_back(choose(1, (length(part) + 1) * (most - i)));
      append(out, part);
    }
    return true;
  }

  /// {n}, {n,}, {n,m}, {,m}; false where there is none or it is wrong (then there is an error).
  bool count(int& least, int& most, bool& counted) {
    if (!has("{")) return false;
    std::size_t at = at_ + 1;
    const auto number = [&](int& value) {
      const std::size_t start = at;
      value = 0;
      for (; at < text_.size() && text_[at] >= '0' && text_[at] <= '9'; ++at) value = std::min(value * 10 + (text_[at] - '0'), 100000);
      return at > start;
    };
    const bool from = number(least);
    most = least;
    if (at < text_.size() && text_[at] == ',') {
      ++at;
      if (!number(most)) most = from ? -1 : -2;
    } else if (!from) {
      most = -2;
    }
    if (most == -2 || at >= text_.size() || text_[at] != '}') return false;  // an ordinary brace
    at_ = at + 1;
    counted = true;
    if (least > kMaxRegexRepeat || most > kMaxRegexRepeat) return wrong("repetition above " + std::to_string(kMaxRegexRepeat), "limit_exceeded", Errc::limit);
    if (most >= 0 && least > most) return wrong("the least number is above the greatest");
    return true;
  }

  bool atom(Steps& out, int depth, bool& can_repeat) {
    if (take("(")) return group(out, depth, can_repeat);
    if (has("*") || has("+") || has("?")) return wrong("nothing to repeat here");
    if (has("[")) {
      CharacterSet set;
      if (!bracket(set, depth)) return false;
      out.push_back(set_step(std::move(set)));
      return true;
    }
    if (take("^")) return assertion(out, Op::line_start, can_repeat);
    if (take("$")) return assertion(out, Op::line_end, can_repeat);
    CharacterSet set;
    if (take(".")) {
      set.negated = true;
      if (!dot_all_) set.ranges.emplace_back('\n', '\n');
      out.push_back(set_step(std::move(set)));
      return true;
    }
    if (has("\\")) {
      for (const auto& [name, op] : {std::pair("\\A", Op::text_start), std::pair("\\z", Op::text_end), std::pair("\\Z", Op::text_end_line), std::pair("\\b", Op::word_edge), std::pair("\\B", Op::no_word_edge)})
        if (take(name)) return assertion(out, op, can_repeat);
      if (!escape(set)) return false;
    } else {
      const std::uint32_t value = next_character();
      set.ranges.emplace_back(value, value);
    }
    out.push_back(set_step(std::move(set)));
    return true;
  }

  bool assertion(Steps& out, Op op, bool& can_repeat) {
    out.push_back({op});
    can_repeat = false;
    return true;
  }

  bool group(Steps& out, int depth, bool& can_repeat) {
    const auto close = [&] { return take(")") || wrong("a group is not closed"); };
    if (!take("?")) return alternatives(out, depth + 1) && close();
    if (take(":")) return alternatives(out, depth + 1) && close();
    for (const auto& [name, behind, negative] : {std::tuple("=", false, false), std::tuple("!", false, true), std::tuple("<=", true, false), std::tuple("<!", true, true)}) {
      if (!take(name)) continue;
      Steps inner;
      if (!alternatives(inner, depth + 1) || !close()) return false;
      can_repeat = false;
      return look(out, inner, behind, negative);
    }
    if (has(">")) return unsupported("an atomic group");
    if (has("<") || has("P") || has("'")) return unsupported("a named group");
    return flags(out, depth, can_repeat);
  }

  bool look(Steps& out, const Steps& inner, bool behind, bool negative) {
    if (inner.size() == 1 && inner[0].op == Op::set) {
      Step step = inner[0];
      step.op = Op::look_set;
      step.flag = behind;
      step.negative = negative;
      out.push_back(step);
      return true;
    }
    if (behind) return unsupported("looking behind by more than one character");
    Step step{Op::look};
    step.flag = negative;
    step.first = static_cast<std::int32_t>(inner.size() + 1);
    out.push_back(step);
    append(out, inner);
    out.push_back({Op::match});
    looks_ = true;
    return true;
  }

  /// (?i) and (?i:...), also with m (the dot matches newlines) and switched off behind a minus.
  bool flags(Steps& out, int depth, bool& can_repeat) {
    bool any_case = any_case_, dot_all = dot_all_, on = true;
    while (!done() && !has(":") && !has(")")) {
      if (take("-")) on = false;
      else if (take("i")) any_case = on;
      else if (take("m")) dot_all = on;
      else return unsupported(std::string("the group option '") + text_[at_] + "'");
    }
    if (take(")")) {
      any_case_ = any_case;
      dot_all_ = dot_all;
      can_repeat = false;
      return true;
    }
    if (!take(":")) return wrong("a group is not closed");
    std::swap(any_case, any_case_);
    std::swap(dot_all, dot_all_);
    const bool good = alternatives(out, depth + 1);
    any_case_ = any_case;
    dot_all_ = dot_all;
    return good && (take(")") || wrong("a group is not closed"));
  }

  /// Behind a backslash: adds a class or one character to the set. `single` gets the character.
  bool escape(CharacterSet& set, std::uint32_t* single = nullptr) {
    ++at_;
    if (done()) return wrong("it ends in a backslash");
    const char c = text_[at_];
    const auto one = [&](std::uint32_t value) {
      set.ranges.emplace_back(value, value);
      if (single) *single = value;
      return true;
    };
    const auto add = [&](CharacterSet part, bool negated) {
      ++at_;
      if (!negated) {
        set.ranges.insert(set.ranges.end(), part.ranges.begin(), part.ranges.end());
        set.categories |= part.categories;
      } else {
        part.negated = true;
        set.unions.push_back(std::move(part));
      }
      return true;
    };
    CharacterSet part;
    switch (c) {
      case 's':
      case 'S': add_ranges(part, kWhiteSpace); return add(std::move(part), c == 'S');
      case 'd':
      case 'D': part.categories = bits(G::nd); return add(std::move(part), c == 'D');
      case 'w':
      case 'W':
        part.categories = kWordCategories;
        part.ranges.insert(part.ranges.end(), std::begin(kEnclosedLetters), std::end(kEnclosedLetters));
        part.ranges.insert(part.ranges.end(), std::begin(kLatinNumbers), std::end(kLatinNumbers));
        return add(std::move(part), c == 'W');
      case 'p':
      case 'P': return property(set, c == 'P');
      case 'n': ++at_; return one('\n');
      case 'r': ++at_; return one('\r');
      case 't': ++at_; return one('\t');
      case 'f': ++at_; return one('\f');
      case 'v': ++at_; return one('\v');
      case 'a': ++at_; return one('\a');
      case 'e': ++at_; return one(27);
      case 'u':
      case 'x': return number(one);
      default: break;
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return unsupported(std::string("'\\") + c + "'");
    return one(next_character());
  }

  /// \uHHHH, \xHH, \x{H...}, at the letter.
  template <class One>
  bool number(const One& one) {
    const bool braces = text_.substr(at_ + 1).starts_with("{");
    const std::size_t most = braces ? 6 : text_[at_] == 'u' ? 4 : 2;
    at_ += braces ? 2 : 1;
    std::uint32_t value = 0;
    std::size_t digits = 0;
    for (; digits < most && !done(); ++digits, ++at_) {
      const char c = text_[at_];
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) break;
      value = 16 * value + static_cast<std::uint32_t>(digit);
    }
    if (digits == 0 || (!braces && digits != most) || (braces && !take("}")) || value > 0x10ffff) return wrong("a character number is not complete");
    return one(value);
  }

  /// \p{Name}, \p{^Name}, \pL, at the letter p.
  bool property(CharacterSet& set, bool negated) {
    ++at_;
    std::string_view name;
    if (take("{")) {
      if (take("^")) negated = !negated;
      const std::size_t end = text_.find('}', at_);
      if (end == std::string_view::npos) return wrong("'{' is not closed");
      name = text_.substr(at_, end - at_);
      at_ = end + 1;
    } else {
      if (done()) return wrong("it ends in '\\p'");
      name = text_.substr(at_++, 1);
    }
    if (name.starts_with("Script=")) name.remove_prefix(7);
    CharacterSet part;
    const auto* const known = std::find_if(std::begin(kProperties), std::end(kProperties), [&](const Property& p) { return p.name == name; });
    if (known != std::end(kProperties)) part.categories = known->categories;
    else if (name == "Han") add_ranges(part, kHan);
    else if (name == "Hiragana") add_ranges(part, kHiragana);
    else if (name == "Katakana") add_ranges(part, kKatakana);
    else if (name == "Hangul") add_ranges(part, kHangul);
    else if (name == "White_Space" || name == "space" || name == "Space") add_ranges(part, kWhiteSpace);
    else return unsupported("the character property of this name");
    part.negated = negated;
    set.unions.push_back(std::move(part));
    return true;
  }

  bool bracket(CharacterSet& set, int depth) {
    if (depth > kMaxRegexDepth) return wrong("sets are nested deeper than " + std::to_string(kMaxRegexDepth), "limit_exceeded", Errc::limit);
    if (has("[:")) return unsupported("a POSIX bracket");
    ++at_;
    set.negated = take("^");
    set.any_case = any_case_;
    CharacterSet* into = &set;
    std::vector<CharacterSet> operands;  // of &&, but for the first
    for (bool first = true;; first = false) {
      if (done()) return wrong("'[' is not closed");
      if (has("]") && !first) break;
      if (take("&&")) {
        operands.emplace_back();
        into = &operands.back();
        continue;
      }
      if (has("[")) {
        if (text_.substr(at_).starts_with("[:")) return unsupported("a POSIX bracket");
        CharacterSet inner;
        if (!bracket(inner, depth + 1)) return false;
        into->unions.push_back(std::move(inner));
        continue;
      }
      if (!member(*into)) return false;
    }
    ++at_;
    set.intersections = std::move(operands);
    return true;
  }

  /// A character, a range or a class inside brackets.
  bool member(CharacterSet& set) {
    constexpr std::uint32_t kNone = 0xfffffffe;
    const auto one = [&](CharacterSet& into, std::uint32_t& value) {
      if (has("\\")) return escape(into, &value);
      value = next_character();
      into.ranges.emplace_back(value, value);
      return true;
    };
    std::uint32_t from = kNone;
    if (!one(set, from)) return false;
    if (from == kNone || !has("-") || text_.substr(at_).starts_with("-]") || at_ + 1 >= text_.size() || text_.substr(at_).starts_with("-[")) return true;
    ++at_;
    std::uint32_t to = kNone;
    CharacterSet ignored;
    if (!one(ignored, to)) return false;
    if (to == kNone || to < from) return wrong("a range of characters runs backwards");
    set.ranges.emplace_back(from, to);
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  bool any_case_ = false, dot_all_ = false, looks_ = false;
  std::vector<CharacterSet> sets_;
  Error error_;
};

}  // namespace

Result<Regex> Regex::compile(std::string_view pattern) {
  if (pattern.size() > kMaxRegexBytes)
    return fail(Errc::limit, "regular expression of " + std::to_string(pattern.size()) + " bytes, more than " + std::to_string(kMaxRegexBytes), "limit_exceeded");
  if (!is_valid_utf8(pattern)) return fail(Errc::malformed, "regular expression that is not UTF-8", "bad_regex");
  Regex out;
  Parser parser(pattern);
  if (!parser.parse(out.steps_)) return parser.error();
  out.sets_ = parser.take_sets();
  out.looks_ = parser.looks();
  for (Step& step : out.steps_)
    if (step.op == Op::branch) step.set = static_cast<std::uint32_t>(out.branches_++);
  if (out.branches_ > kMaxRegexBranches)
    return fail(Errc::limit, "regular expression with more than " + std::to_string(kMaxRegexBranches) + " branches when written out", "limit_exceeded");
  return out;
}

}  // namespace kontor::inference
