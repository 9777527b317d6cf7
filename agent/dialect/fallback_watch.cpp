#include "agent/dialect/fallback.hpp"
#include "agent/dialect/markers.hpp"

#include <algorithm>

namespace kontor::agent::dialect {
namespace {

/// Does `text` begin with `word`, or could it when more arrives?
Fit begins(std::string_view text, std::string_view word) {
  if (text.substr(0, word.size()) == word) return Fit::full;
  return text.size() < word.size() && word.substr(0, text.size()) == text ? Fit::partial : Fit::none;
}

/// White space in front of a call belongs to neither side of it.
std::size_t without_space(std::string_view text, std::size_t end) {
  while (end > 0 && is_space(text[end - 1])) --end;
  return end;
}

}  // namespace

std::size_t FallbackWatch::safe(std::string_view text, const std::vector<std::string>& tools) {
  while (!stuck_ && pos_ < text.size()) {
    const bool go = in_fence_ ? fence_body(text) : mid_line_ ? line_body(text) : line_start(text, tools);
    if (!go) break;
  }
  return holding_ ? hold_ : without_space(text, std::min(pos_, text.size()));
}

/// False: nothing can be said before more arrives (or ever).
bool FallbackWatch::line_start(std::string_view text, const std::vector<std::string>& tools) {
  const auto hold = [&](std::size_t at) {
    if (!holding_) hold_ = without_space(text, at);
    holding_ = true;
  };
  const std::size_t begin = pos_;
  std::size_t first = begin;
  while (first < text.size() && is_space(text[first]) && text[first] != '\n') ++first;
  if (first >= text.size()) return false;
  if (text[first] == '\n') return pos_ = first + 1, true;
  const std::string_view rest = text.substr(first);
  if (begin == 0) {
    if (rest[0] == '{' || rest[0] == '[') return hold(0), stuck_ = true, false;
    for (const auto& tool : tools) {
      const Fit fit = begins(rest, tool + "(");
      if (fit == Fit::full) return hold(0), stuck_ = true, false;
      if (fit == Fit::partial) return false;
    }
  }
  const Fit action = begins(rest, "Action:");
  if (action == Fit::full) return hold(begin), stuck_ = true, false;
  const Fit fence = begins(rest, "```");
  // A line is searched for its end once, however slowly it grows.
  const auto line_end = [&] {
    const std::size_t line = text.find('\n', std::max(first, search_));
    if (line == std::string_view::npos) search_ = text.size();
    return line;
  };
  if (fence == Fit::full) {
    hold(begin);
    const std::size_t line = line_end();
    if (line == std::string_view::npos) return false;
    in_fence_ = true;
    pos_ = search_ = line + 1;
    return true;
  }
  const Fit intro = begins(rest, "function");
  if (action == Fit::partial || fence == Fit::partial || intro == Fit::partial || rest == "function") return false;
  if (intro == Fit::full) {
    const std::size_t line = line_end();
    if (line != std::string_view::npos && trim(text.substr(first, line - first)) == "function") {
      hold(begin);
      pos_ = line + 1;
      return true;
    }
  }
  // Prose: what came before it was an example.
  holding_ = false;
  mid_line_ = true;
  return true;
}

bool FallbackWatch::line_body(std::string_view text) {
  const std::size_t at = text.find_first_of("<\n", pos_);
  if (at == std::string_view::npos) return pos_ = text.size(), false;
  pos_ = at;
  if (text[at] == '\n') {
    mid_line_ = false;
    return ++pos_, true;
  }
  const Fit tag = begins(text.substr(at), "<tool_call>");
  if (tag == Fit::partial) return false;
  if (tag == Fit::full) {
    hold_ = without_space(text, at);
    holding_ = stuck_ = true;
    return false;
  }
  return ++pos_, true;
}

bool FallbackWatch::fence_body(std::string_view text) {
  const std::size_t line = text.find('\n', search_);
  if (line == std::string_view::npos) return search_ = text.size(), false;
  const std::string_view content = trim(text.substr(pos_, line - pos_));
  if (content.size() >= 3 && content.find_first_not_of('`') == std::string_view::npos) in_fence_ = false;
  pos_ = search_ = line + 1;
  return true;
}

}  // namespace kontor::agent::dialect
