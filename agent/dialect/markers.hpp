#pragma once
// The control markup of the model families: which markers exist, how they may be spelt, and whether one stands at a
// place of the output. Internal to agent/dialect.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent::dialect {

/// Stands in the buffered text for one maximal ill-formed UTF-8 subsequence; never part of valid UTF-8. Shown as U+FFFD.
inline constexpr char kInvalidByte = '\xFF';

/// Kinds of markers, combined to masks.
enum Marker : std::uint32_t {
  kCallsBegin = 1u << 0,
  kCallsEnd = 1u << 1,
  kCallBegin = 1u << 2,
  kCallEnd = 1u << 3,
  kSep = 1u << 4,
  kTurn = 1u << 5,            ///< Another's turn: user, assistant, begin of sentence, results.
  kEos = 1u << 6,
  kThinkOpen = 1u << 7,
  kThinkClose = 1u << 8,
  kToolCallOpen = 1u << 9,    ///< <tool_call>
  kToolCallClose = 1u << 10,
  kDsmlCallsOpen = 1u << 11,  ///< <｜DSML｜function_calls> or tool_calls
  kDsmlCallsClose = 1u << 12,
  kDsmlInvokeOpen = 1u << 13, ///< <｜DSML｜invoke, attributes follow
  kDsmlInvokeClose = 1u << 14,
  kDsmlParamOpen = 1u << 15,
  kDsmlParamClose = 1u << 16,
};
inline constexpr std::uint32_t kOutputEnd = kTurn | kEos;

enum class Fit { none, partial, full };

struct Match {
  Fit fit = Fit::none;
  std::uint32_t kind = 0;
  std::size_t length = 0;
};

inline bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/// The output as far as it has arrived: valid UTF-8 with kInvalidByte in place of ill-formed parts. Grows at the end.
struct Source {
  struct Span {
    std::size_t begin;
    std::size_t length;
  };
  std::string text;
  bool final = false;           ///< Nothing will follow.
  bool lenient = true;          ///< Look-alike spellings count.
  bool token_policy = false;    ///< Only text inside `control` counts as markup.
  std::vector<Span> control;    ///< Control tokens, in order. Kept under token_policy only.

  /// Is one of the markers of `mask` at `pos`? partial: more bytes could complete one (never once `final` is set).
  Match match(std::size_t pos, std::uint32_t mask) const;
  /// Does the whole output break off at `pos` inside one of the markers of `mask`, or inside a character of it?
  bool ends_inside(std::size_t pos, std::uint32_t mask) const;
  /// First position from `pos` on that is not white space (the size when there is none yet).
  std::size_t skip_space(std::size_t pos) const;
  std::size_t size() const { return text.size(); }
  std::string_view slice(std::size_t begin, std::size_t end) const {
    return std::string_view(text).substr(begin, end - begin);
  }
};

/// [A-Za-z_][A-Za-z0-9_.:-]{0,127}
bool is_tool_name(std::string_view name);
bool is_name_char(char c);

std::string_view trim(std::string_view text);

/// The text as it is shown: ill-formed parts become U+FFFD.
void append_shown(std::string& out, std::string_view text);

}  // namespace kontor::agent::dialect
