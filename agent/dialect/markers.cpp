#include "agent/dialect/markers.hpp"

#include <algorithm>

namespace kontor::agent::dialect {
namespace {

// In patterns \1 is the fullwidth bar and \2 the SentencePiece blank; their ASCII look-alikes count in lenient mode.
constexpr std::string_view kBar = "\xEF\xBD\x9C";
constexpr std::string_view kBlank = "\xE2\x96\x81";

struct Pattern {
  std::string_view text;
  std::uint32_t kind;
  bool exact = false;    ///< Look-alikes never count: a turn must not end on a guess.
  bool variant = false;  ///< Not the canonical spelling: lenient only.
};

constexpr Pattern kBarPatterns[] = {
    {"<\1tool\2calls\2begin\1>", kCallsBegin},
    {"<\1tool\2calls\1>", kCallsBegin, false, true},
    {"<\1tool\2calls\2end\1>", kCallsEnd},
    {"<\1tool\2call\2begin\1>", kCallBegin},
    {"<\1tool\2call\2end\1>", kCallEnd},
    {"<\1tool\2sep\1>", kSep},
    {"<\1tool\2outputs\2begin\1>", kTurn},
    {"<\1tool\2outputs\2end\1>", kTurn},
    {"<\1tool\2output\2begin\1>", kTurn},
    {"<\1tool\2output\2end\1>", kTurn},
    {"<\1User\1>", kTurn, true},
    {"<\1Assistant\1>", kTurn, true},
    {"<\1begin\2of\2sentence\1>", kTurn, true},
    {"<\1end\2of\2sentence\1>", kEos, true},
    {"<|im_end|>", kEos, true},
    {"<|endoftext|>", kEos, true},
    {"<\1DSML\1function_calls>", kDsmlCallsOpen},
    {"<\1DSML\1tool_calls>", kDsmlCallsOpen},
    {"<\1DSML\1invoke", kDsmlInvokeOpen},
    {"<\1DSML\1parameter", kDsmlParamOpen},
};
constexpr Pattern kSlashPatterns[] = {
    {"</think>", kThinkClose, true},
    {"</tool_call>", kToolCallClose, true},
    {"</\1DSML\1function_calls>", kDsmlCallsClose},
    {"</\1DSML\1tool_calls>", kDsmlCallsClose},
    {"</\1DSML\1invoke>", kDsmlInvokeClose},
    {"</\1DSML\1parameter>", kDsmlParamClose},
};
constexpr Pattern kWordPatterns[] = {
    {"<think>", kThinkOpen, true},
    {"<tool_call>", kToolCallOpen, true},
};

/// Compares `word` with the text at `at`. Returns its length, 0 for no match, or npos when the text ends inside it.
std::size_t literal_at(std::string_view text, std::size_t at, std::string_view word) {
  const std::string_view rest = text.substr(at, word.size());
  if (rest == word) return word.size();
  return rest.size() < word.size() && word.substr(0, rest.size()) == rest ? std::string_view::npos : 0;
}

/// Length of a bar or blank (`sign` \1 or \2) at `at`, 0, or npos when the text ends inside it.
std::size_t sign_at(std::string_view text, std::size_t at, char sign, bool variants) {
  std::size_t found = literal_at(text, at, sign == '\1' ? kBar : kBlank);
  if (found != 0 || !variants) return found;
  const char c = text[at];
  if (sign == '\1') return c == '|' ? 1 : 0;
  if (c == '_' || c == ' ') return 1;
  return c == '\\' ? literal_at(text, at, "\\_") : 0;
}

Match fit(std::string_view text, std::size_t pos, const Pattern& pattern, bool lenient) {
  const bool variants = lenient && !pattern.exact;
  std::size_t at = pos;
  for (const char c : pattern.text) {
    if (at >= text.size()) return {Fit::partial, pattern.kind, 0};
    if (c > '\2') {
      if (text[at] != c) return {};
      ++at;
      continue;
    }
    const std::size_t step = sign_at(text, at, c, variants);
    if (step == 0) return {};
    if (step == std::string_view::npos) return {Fit::partial, pattern.kind, 0};
    at += step;
  }
  return {Fit::full, pattern.kind, at - pos};
}

constexpr std::uint32_t kDsml = kDsmlCallsOpen | kDsmlCallsClose | kDsmlInvokeOpen | kDsmlInvokeClose | kDsmlParamOpen | kDsmlParamClose;

/// Under the token policy: is the match made of control tokens? Of DSML tags only the sign in the middle is one.
bool is_control(const std::vector<Source::Span>& spans, std::size_t pos, const Match& match) {
  const auto at_or_behind = [&](std::size_t where) {
    return std::lower_bound(spans.begin(), spans.end(), where,
                            [](const Source::Span& span, std::size_t value) { return span.begin < value; });
  };
  const auto span = at_or_behind(pos);
  if (span == spans.end()) return false;
  if (match.kind & kDsml) return span->begin <= pos + 2;
  return span->begin == pos && span->length == match.length;
}

}  // namespace

Match Source::match(std::size_t pos, std::uint32_t mask) const {
  if (pos >= text.size()) return {final ? Fit::none : Fit::partial, 0, 0};
  if (text[pos] != '<') return {};
  if (pos + 1 >= text.size()) return {final ? Fit::none : Fit::partial, 0, 0};
  bool partial = false;
  Match found;
  const auto among = [&](const auto& patterns) {
    for (const Pattern& pattern : patterns) {
      if (!(pattern.kind & mask) || (pattern.variant && !lenient)) continue;
      const Match match = fit(text, pos, pattern, lenient);
      if (match.fit == Fit::full) {
        found = match;
        return;
      }
      partial |= match.fit == Fit::partial;
    }
  };
  const char next = text[pos + 1];
  if (next == '/') among(kSlashPatterns);
  else if (next == 't') among(kWordPatterns);
  else if (next == '|' || next == kBar[0]) among(kBarPatterns);
  if (found.fit == Fit::full) return !token_policy || is_control(control, pos, found) ? found : Match{};
  return {partial && !final ? Fit::partial : Fit::none, 0, 0};
}

bool Source::ends_inside(std::size_t pos, std::uint32_t mask) const {
  constexpr std::size_t kLongest = 64;
  if (!final || token_policy || pos >= text.size() || text.size() - pos > kLongest) return false;
  Source open;
  open.text = text.substr(pos);
  if (open.text.back() == kInvalidByte && open.text.size() > 1) open.text.pop_back();
  open.lenient = lenient;
  return open.match(0, mask).fit == Fit::partial;
}

std::size_t Source::skip_space(std::size_t pos) const {
  while (pos < text.size() && is_space(text[pos])) ++pos;
  return pos;
}

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == ':' ||
         c == '-';
}

bool is_tool_name(std::string_view name) {
  if (name.empty() || name.size() > 128) return false;
  const char first = name.front();
  if (first != '_' && !(first >= 'a' && first <= 'z') && !(first >= 'A' && first <= 'Z')) return false;
  return std::all_of(name.begin(), name.end(), is_name_char);
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

void append_shown(std::string& out, std::string_view text) {
  for (;;) {
    const std::size_t bad = text.find(kInvalidByte);
    out.append(text.substr(0, bad));
    if (bad == std::string_view::npos) return;
    out.append("\xEF\xBF\xBD");
    text.remove_prefix(bad + 1);
  }
}

}  // namespace kontor::agent::dialect
