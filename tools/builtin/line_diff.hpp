#pragma once
// Differences of two texts by lines.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

struct LineDiff {
  std::string unified;       ///< As `diff -u` writes it, without the two name lines; "" for equal texts.
  std::size_t added = 0, removed = 0;
};

/// Shortest edit script (Myers 1986, "An O(ND) Difference Algorithm") while at most `most_edits` are needed; texts that
/// differ more are compared coarsely: what lies between their common beginning and end counts as replaced.
LineDiff diff_lines(std::string_view before, std::string_view after, std::size_t context, std::size_t most_edits = 2000);

/// Lines without their ends; a text that ends in a newline has no empty last line.
std::vector<std::string_view> lines_of(std::string_view text);

}  // namespace kontor::tools
