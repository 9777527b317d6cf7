#pragma once
// Suggestions for mistyped names.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// Edits (insert, delete, replace, swap neighbours) that turn a into b, in code points, letters of ASCII without case and
/// '-' as '_'. Stops at `limit` and returns limit + 1, as for texts of more than 200 code points, so the cost is bounded.
std::size_t edit_distance(std::string_view a, std::string_view b, std::size_t limit);

/// The nearest of `names`, or "" when none is near enough to be meant.
std::string nearest(std::string_view word, const std::vector<std::string>& names);

/// While one lives, nearest() compares a bounded number of names on this thread and then finds none, so that thousands of
/// mistakes among thousands of names stay cheap.
class SuggestionBudget {
 public:
  SuggestionBudget();
  ~SuggestionBudget();
  SuggestionBudget(const SuggestionBudget&) = delete;
  SuggestionBudget& operator=(const SuggestionBudget&) = delete;
};

}  // namespace kontor::tools
