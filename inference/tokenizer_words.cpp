#include "inference/tokenizer_words.hpp"

#include "inference/unicode.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

namespace kontor::inference {
namespace {

constexpr std::uint8_t kEnd = 128;  // beside the classes of unicode.hpp: behind the last character

struct Character {
  std::uint32_t value = 0;
  std::uint32_t bytes = 0;
  std::uint8_t kind = kEnd;
  bool is(std::uint8_t classes) const { return (kind & classes) != 0; }
  bool newline() const { return value == '\n' || value == '\r'; }
};

/// The whole text.
struct Plain {
  std::string_view text;
  Character at(std::size_t position) const {
    if (position >= text.size()) return {};
    const auto byte = static_cast<unsigned char>(text[position]);
    if (byte < 0x80) return {byte, 1, character_class(byte)};
    const CodePoint point = decode_utf8(text, position);
    return {point.value, point.bytes, character_class(point.value)};
  }
};

bool deepseek_cjk(std::uint32_t c) { return (c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff); }

/// Text in which numbers and Chinese or Japanese characters have been cut out: they look like the end.
struct DeepseekFragment : Plain {
  Character at(std::size_t position) const {
    const Character c = Plain::at(position);
    if (c.is(kNumber) || (c.value >= 0x3040 && deepseek_cjk(c.value))) return {};
    return c;
  }
};

bool default_punctuation(const Character& c) {
  return c.is(kPunctuation) || (c.value < 128 && c.kind == kSymbol && c.value != '`');
}

/// Text in which punctuation has been cut out.
struct DefaultFragment : Plain {
  Character at(std::size_t position) const {
    const Character c = Plain::at(position);
    return default_punctuation(c) ? Character{} : c;
  }
};

template <class Text>
std::size_t run_end(const Text& text, std::size_t at, std::uint8_t classes) {
  for (Character c = text.at(at); c.is(classes); c = text.at(at)) at += c.bytes;
  return at;
}

/// [^ classes ]*, up to the end.
template <class Text>
std::size_t run_without(const Text& text, std::size_t at, std::uint8_t classes) {
  for (Character c = text.at(at); !c.is(static_cast<std::uint8_t>(classes | kEnd)); c = text.at(at)) at += c.bytes;
  return at;
}

std::size_t skip_newlines(std::string_view text, std::size_t at) {
  while (at < text.size() && (text[at] == '\n' || text[at] == '\r')) ++at;
  return at;
}

/// \s*[\r\n]+ (where `newlines`), \s+(?!\S), \s+ in this order, at a space character.
template <class Text>
std::size_t space_end(const Text& text, std::size_t at, bool newlines) {
  std::size_t end = at, last = at, behind_newline = at;
  Character c = text.at(at);
  for (; c.is(kSpace); c = text.at(end)) {
    last = end;
    end += c.bytes;
    if (c.newline()) behind_newline = end;
  }
  if (newlines && behind_newline > at) return behind_newline;
  if (c.is(kEnd) || last == at) return end;
  return last;  // the last space goes with what follows
}

std::size_t number_end(const Plain& text, std::size_t at, int most) {
  for (int i = 0; i < most; ++i) {
    const Character c = text.at(at);
    if (!c.is(kNumber)) break;
    at += c.bytes;
  }
  return at;
}

/// Length of 's 't 're 've 'm 'll 'd at an apostrophe, or 0.
std::size_t contraction(std::string_view text, bool any_case) {
  if (text.size() < 2) return 0;
  const auto lower = [&](std::size_t i) {
    const char c = text[i];
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char a = lower(1);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if (text.size() < 3) return 0;
  const char b = lower(2);
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
  // The long s folds to s.
  if (any_case && text[1] == '\xc5' && text[2] == '\xbf') return 3;
  return 0;
}

// '(?i:s|t|re|ve|m|ll|d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N}{1,digits} | ' '?[^\s\p{L}\p{N}]+[\r\n]* | spaces
std::size_t next_llama3(std::string_view source, std::size_t at, int digits) {
  const Plain text{source};
  const Character c = text.at(at);
  if (c.value == '\'')
    if (const std::size_t length = contraction(source.substr(at), true)) return at + length;
  if (c.is(kLetter)) return run_end(text, at + c.bytes, kLetter);
  if (c.is(kNumber)) return number_end(text, at, digits);
  const Character next = text.at(at + c.bytes);
  if (!c.newline() && next.is(kLetter)) return run_end(text, at + c.bytes + next.bytes, kLetter);
  if (!c.is(kSpace)) return skip_newlines(source, run_without(text, at, kSpace | kLetter | kNumber));
  if (c.value == ' ' && !next.is(kSpace | kLetter | kNumber | kEnd))
    return skip_newlines(source, run_without(text, at + 1, kSpace | kLetter | kNumber));
  return space_end(text, at, true);
}

// 's|'t|'re|'ve|'m|'ll|'d | ' '?\p{L}+ | ' '?\p{N}+ | ' '?[^\s\p{L}\p{N}]+ | spaces
template <class Text>
std::size_t next_gpt2(const Text& text, std::size_t at) {
  Character c = text.at(at);
  if (c.value == '\'' && !c.is(kEnd))
    if (const std::size_t length = contraction(text.text.substr(at), false)) return at + length;
  std::size_t start = at;
  if (c.value == ' ') {
    const Character next = text.at(at + 1);
    if (next.is(kSpace | kEnd)) return space_end(text, at, false);
    c = next;
    start = at + 1;
  }
  if (c.is(kLetter)) return run_end(text, start, kLetter);
  if (c.is(kNumber)) return run_end(text, start, kNumber);
  if (!c.is(kSpace)) return run_without(text, start, kSpace | kLetter | kNumber);
  return space_end(text, at, false);
}

bool three_digits(std::string_view text, std::size_t at) {
  const auto digit = [&](std::size_t i) { return text[i] >= '0' && text[i] <= '9'; };
  return at + 3 <= text.size() && digit(at) && digit(at + 1) && digit(at + 2);
}

// [\p{P}$+<=>^~|]+ , then gpt2, then \p{N}+ , then [0-9][0-9][0-9] , each within the pieces of the one before
std::size_t next_default(std::string_view source, std::size_t at) {
  const DefaultFragment text{{source}};
  Character c = Plain{source}.at(at);
  if (default_punctuation(c)) {
    for (; default_punctuation(c); c = Plain{source}.at(at)) at += c.bytes;
    return at;
  }
  if (c.value == ' ' && text.at(at + 1).is(kNumber)) return at + 1;
  if (!c.is(kNumber)) return next_gpt2(text, at);
  if (three_digits(source, at)) return at + 3;
  while (c.is(kNumber) && !three_digits(source, at)) {
    at += c.bytes;
    c = text.at(at);
  }
  return at;
}

bool ascii_letter(const Character& c) { return c.value < 128 && c.is(kLetter); }

/// End of the match of the third DeepSeek-V3 expression at `at`, or `at` where it does not match:
/// [ASCII punctuation][A-Za-z]+ | [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+ | ' '?[\p{P}\p{S}]+[\r\n]* | spaces
std::size_t match_deepseek_v3(const DeepseekFragment& text, std::size_t at) {
  const Character c = text.at(at);
  const Character next = text.at(at + c.bytes);
  if (c.value < 128 && c.is(kPunctuation | kSymbol) && ascii_letter(next)) {
    at += 1;
    while (ascii_letter(text.at(at))) ++at;
    return at;
  }
  if (c.is(kLetter | kMark)) return run_end(text, at, kLetter | kMark);
  if (!c.newline() && !c.is(kPunctuation | kSymbol) && next.is(kLetter | kMark)) return run_end(text, at + c.bytes, kLetter | kMark);
  const std::size_t start = c.value == ' ' ? at + 1 : at;
  if (text.at(start).is(kPunctuation | kSymbol)) return skip_newlines(text.text, run_end(text, start, kPunctuation | kSymbol));
  if (c.is(kSpace)) return space_end(text, at, true);
  return at;
}

std::size_t next_deepseek_v3(std::string_view source, std::size_t at) {
  const Plain whole{source};
  Character c = whole.at(at);
  if (c.is(kNumber)) return number_end(whole, at, 3);
  if (deepseek_cjk(c.value)) {
    for (; deepseek_cjk(c.value); c = whole.at(at)) at += c.bytes;
    return at;
  }
  const DeepseekFragment text{{source}};
  if (const std::size_t end = match_deepseek_v3(text, at); end > at) return end;
  // Nothing matches here (controls, unassigned): such characters stay together up to the next match.
  do at += c.bytes;
  while (!(c = text.at(at)).is(kEnd) && match_deepseek_v3(text, at) == at);
  return at;
}

// The letters of the DeepSeek-LLM expression, as its tokenizer spells them: cased letters, without Georgian small ones.
constexpr std::pair<std::uint32_t, std::uint32_t> kDeepseekLetters[] = {
    {'A', 'Z'}, {'a', 'z'}, {0xb5, 0xb5}, {0xc0, 0xd6}, {0xd8, 0xf6}, {0xf8, 0x1ba}, {0x1bc, 0x1bf}, {0x1c4, 0x293}, {0x295, 0x2af},
    {0x370, 0x373}, {0x376, 0x377}, {0x37b, 0x37d}, {0x37f, 0x37f}, {0x386, 0x386}, {0x388, 0x38a}, {0x38c, 0x38c}, {0x38e, 0x3a1},
    {0x3a3, 0x3f5}, {0x3f7, 0x481}, {0x48a, 0x52f}, {0x531, 0x556}, {0x10a0, 0x10c5}, {0x13a0, 0x13f5}, {0x13f8, 0x13fd},
    {0x1c90, 0x1cba}, {0x1cbd, 0x1cbf}, {0x1d00, 0x1d2b}, {0x1d6b, 0x1d77}, {0x1d79, 0x1d9a}, {0x1e00, 0x1f15}, {0x1f18, 0x1f1d},
    {0x1f20, 0x1f45}, {0x1f48, 0x1f4d}, {0x1f50, 0x1f57}, {0x1f59, 0x1f59}, {0x1f5b, 0x1f5b}, {0x1f5d, 0x1f5d}, {0x1f5f, 0x1f7d},
    {0x1f80, 0x1fb4}, {0x1fb6, 0x1fbc}, {0x1fbe, 0x1fbe}, {0x1fc2, 0x1fc4}, {0x1fc6, 0x1fcc}, {0x1fd0, 0x1fd3}, {0x1fd6, 0x1fdb},
    {0x1fe0, 0x1fec}, {0x1ff2, 0x1ff4}, {0x1ff6, 0x1ffc}, {0x2102, 0x2102}, {0x2107, 0x2107}, {0x210a, 0x2113}, {0x2115, 0x2115},
    {0x2119, 0x211d}, {0x2124, 0x2124}, {0x2126, 0x2126}, {0x2128, 0x2128}, {0x212a, 0x212d}, {0x212f, 0x2134}, {0x2139, 0x2139},
    {0x213c, 0x213f}, {0x2145, 0x2149}, {0x214e, 0x214e}, {0x2183, 0x2184}, {0x2c00, 0x2c7b}, {0x2c7e, 0x2ce4}, {0x2ceb, 0x2cee},
    {0x2cf2, 0x2cf3}, {0xa640, 0xa66d}, {0xa680, 0xa69b}, {0xa722, 0xa76f}, {0xa771, 0xa787}, {0xa78b, 0xa78e}, {0xab70, 0xabbf},
    {0xfb00, 0xfb06}, {0xfb13, 0xfb17}, {0xff21, 0xff3a}, {0xff41, 0xff5a}, {0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb},
    {0x10c80, 0x10cb2}, {0x10cc0, 0x10cf2}, {0x118a0, 0x118df}, {0x1e900, 0x1e943},
};

bool deepseek_letter(const Character& c) {
  const auto after = std::upper_bound(std::begin(kDeepseekLetters), std::end(kDeepseekLetters), c.value,
                                      [](std::uint32_t value, const auto& range) { return value < range.first; });
  return after != std::begin(kDeepseekLetters) && c.value <= std::prev(after)->second;
}

bool deepseek_punctuation(const Character& c) {
  const std::uint32_t v = c.value;
  // The range from ':' to '~' holds the ASCII letters too, and does so in the original.
  return (v >= '!' && v <= '/') || (v >= ':' && v <= '~') || (v >= 0xff01 && v <= 0xff0f) ||
         (v >= 0xff1a && v <= 0xff5e) || (v >= 0x2018 && v <= 0x201f) || (v >= 0x3000 && v <= 0x3002);
}

/// Length of the match of an expression at `at`, or 0.
using Match = std::size_t (*)(std::string_view piece, std::size_t at);

template <bool (*accept)(const Character&)>
std::size_t match_with_space(std::string_view piece, std::size_t at) {
  const Plain text{piece};
  std::size_t start = at;
  if (const Character c = text.at(at); c.is(kSpace) && accept(text.at(at + c.bytes))) start += c.bytes;
  std::size_t end = start;
  for (Character c = text.at(end); !c.is(kEnd) && accept(c); c = text.at(end)) end += c.bytes;
  return end > start ? end - at : 0;
}

constexpr std::array<Match, 6> kDeepseekLlm = {
    [](std::string_view piece, std::size_t at) -> std::size_t { return piece[at] == '\n' || piece[at] == '\r' ? 1 : 0; },
    match_with_space<deepseek_letter>,
    match_with_space<deepseek_punctuation>,
    [](std::string_view piece, std::size_t at) -> std::size_t {  // \s+$
      const std::size_t end = run_end(Plain{piece}, at, kSpace);
      return end == piece.size() ? end - at : 0;
    },
    [](std::string_view piece, std::size_t at) -> std::size_t {
      std::size_t end = at;
      const auto accept = [](std::uint32_t v) { return (v >= 0x800 && v <= 0x9fa5) || (v >= 0xac00 && v <= 0xd7ff); };
      for (Character c = Plain{piece}.at(end); accept(c.value); c = Plain{piece}.at(end)) end += c.bytes;
      return end - at;
    },
    [](std::string_view piece, std::size_t at) -> std::size_t { return number_end(Plain{piece}, at, 1) - at; },
};

/// Cuts a piece by the expressions one after the other, each within the pieces that the one before left.
std::vector<std::size_t> split_deepseek_llm(std::string_view text) {
  std::vector<std::size_t> ends{text.size()};
  std::vector<std::size_t> finer;
  for (const Match match : kDeepseekLlm) {
    finer.clear();
    std::size_t start = 0;
    for (const std::size_t end : ends) {
      const std::string_view piece = text.substr(start, end - start);
      std::size_t gap = 0;
      for (std::size_t at = 0; at < piece.size();) {
        const std::size_t length = match(piece, at);
        if (length == 0) {
          // A run of spaces that does not reach the end would be measured again from each of its characters.
          const Character c = Plain{piece}.at(at);
          at += c.bytes;
          if (match == kDeepseekLlm[3] && c.is(kSpace)) at = run_end(Plain{piece}, at, kSpace);
          continue;
        }
        if (at > gap) finer.push_back(start + at);
        at += length;
        finer.push_back(start + at);
        gap = at;
      }
      if (gap < piece.size()) finer.push_back(end);
      start = end;
    }
    ends.swap(finer);
  }
  if (text.empty()) ends.clear();
  return ends;
}

}  // namespace

std::optional<WordSplit> find_word_split(std::string_view pre) {
  if (pre == "llama3" || pre == "llama-v3" || pre == "llama-bpe") return WordSplit::llama3;
  if (pre == "qwen2" || pre == "deepseek-r1-qwen") return WordSplit::qwen2;
  if (pre == "deepseek-v3") return WordSplit::deepseek_v3;
  if (pre == "deepseek-llm") return WordSplit::deepseek_llm;
  if (pre == "gpt-2" || pre == "gpt2") return WordSplit::gpt2;
  if (pre == "default") return WordSplit::default_bpe;
  return std::nullopt;
}

std::size_t next_word(WordSplit split, std::string_view text, std::size_t at) {
  switch (split) {
    case WordSplit::gpt2: return next_gpt2(Plain{text}, at);
    case WordSplit::default_bpe: return next_default(text, at);
    case WordSplit::llama3: return next_llama3(text, at, 3);
    case WordSplit::qwen2: return next_llama3(text, at, 1);
    case WordSplit::deepseek_v3: return next_deepseek_v3(text, at);
    case WordSplit::deepseek_llm: break;
  }
  return text.size();
}

std::vector<std::size_t> word_ends(WordSplit split, std::string_view text) {
  if (split == WordSplit::deepseek_llm) return split_deepseek_llm(text);
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < text.size(); ends.push_back(at)) at = next_word(split, text, at);
  return ends;
}

}  // namespace kontor::inference
