#pragma once
// Regular expressions as tokenizer.json files use them to cut text: Unicode classes, greedy, lazy and possessive
// repetition, alternatives, look-ahead. Written for expressions from strangers: their size is bounded, and matching
// takes time and memory linear in the text (each branching point is tried at most once at each character; see the
// bit-state matcher of RE2). No captures, no back references.
//
// Meant to agree with Oniguruma in its Ruby syntax, which the published tokenizers run on: \s is White_Space, ^ and $
// are ends of lines, && intersects classes. A byte that is not UTF-8 counts as a character of no class.

#include "base/error.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace kontor::inference {

inline constexpr std::size_t kMaxRegexBytes = 16u << 10;
inline constexpr std::size_t kMaxRegexSteps = 8192;   ///< Instructions after repetition is written out.
inline constexpr std::size_t kMaxRegexBranches = 1024;
inline constexpr int kMaxRegexDepth = 32;             ///< Groups within groups.
inline constexpr int kMaxRegexRepeat = 256;           ///< Of {n,m}.

/// Numbers of Latin-1 that Oniguruma's \w takes beside word characters.
inline constexpr std::pair<std::uint32_t, std::uint32_t> kLatinNumbers[] = {{0xb2, 0xb3}, {0xb9, 0xb9}, {0xbc, 0xbe}};

/// A set of characters.
struct CharacterSet {
  bool negated = false;
  bool any_case = false;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges;  // sorted once finished
  std::uint32_t categories = 0;                                  // bits as unicode.hpp numbers general categories
  std::vector<CharacterSet> unions, intersections;
  std::array<std::uint64_t, 2> ascii{};  // the answer for characters below 128

  bool has(std::uint32_t value) const { return value < 128 ? (ascii[value >> 6] >> (value & 63) & 1) != 0 : test(value); }
  /// Sorts the ranges and fills in `ascii`.
  void finish();

 private:
  bool test(std::uint32_t value) const;
  bool test_exactly(std::uint32_t value) const;
};

class Regex {
 public:
  /// Errors: malformed (kind bad_regex), unsupported (kind unsupported_regex), limit (kind limit_exceeded). The message
  /// names the place in the pattern.
  static Result<Regex> compile(std::string_view pattern);

  enum class Op : std::uint8_t { set, branch, jump, run, look_set, look, line_start, line_end, text_start, text_end, text_end_line, word_edge, no_word_edge, match };
  struct Step {
    Op op;
    bool flag = false;           // look_set: behind; look: negative
    bool negative = false;       // look_set
    std::uint32_t set = 0;       // set, run, look_set: index of the set; branch: its number
    std::int32_t first = 0;      // branch, jump: relative target; run: least number; look: length of the inner steps
    std::int32_t second = 0;     // branch: relative target tried next; run: greatest number, -1 for any
  };
  const std::vector<Step>& steps() const { return steps_; }
  const std::vector<CharacterSet>& sets() const { return sets_; }
  std::size_t branches() const { return branches_; }
  bool looks() const { return looks_; }

 private:
  std::vector<Step> steps_;
  std::vector<CharacterSet> sets_;
  std::size_t branches_ = 0;
  bool looks_ = false;
};

/// Searches one text after the other; keeps its memory. Not for use by two threads at once.
class RegexMatcher {
 public:
  explicit RegexMatcher(const Regex& regex);
  /// The text must stay until the next call.
  void start(std::string_view text);

  struct Match {
    std::size_t start, end;
  };
  /// First match that starts at `at` or later (`at` must not go back between calls). May be empty.
  std::optional<Match> find(std::size_t at);

 private:
  struct Pending {
    std::size_t step, position, trail;
  };
  struct RunEnd {
    std::size_t start = 1, end = 0;
  };
  /// False where the branch was tried at this position before; `known` tells what came of it inside a look-ahead.
  bool enter(std::uint32_t branch, std::size_t position, bool& known);
  void clear(std::size_t position);
  bool run(std::size_t step, std::size_t position, bool looking, std::size_t& end);
  bool look(std::size_t step, std::size_t position);
  bool holds(const Regex::Step& step, std::size_t position) const;
  std::size_t run_end(std::size_t step, std::size_t position);

  const Regex* regex_;
  std::string_view text_;
  std::size_t stride_;                 // words a position
  std::vector<std::uint64_t> tried_;   // bit for each branch at each position
  std::vector<std::uint64_t> worked_;  // inside look-aheads: the branch led to a match
  std::vector<Pending> pending_;
  std::vector<std::pair<std::uint32_t, std::size_t>> trail_;  // branches on the path of a look-ahead
  std::vector<RunEnd> runs_;           // last run measured, for each step
};

}  // namespace kontor::inference
