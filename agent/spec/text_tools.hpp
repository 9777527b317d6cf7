#pragma once
// Text as people see it: code points, escaped display, nearest names.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

/// Length in bytes of the code point at `at` (at least 1; 1 for malformed bytes).
std::size_t code_point_length(std::string_view text, std::size_t at);

/// Number of code points before byte `end`.
std::size_t count_code_points(std::string_view text, std::size_t end);

/// Safe to print: control, invisible and direction characters as \u{...}; cut after `limit` code points.
std::string shown_text(std::string_view text, std::size_t limit = 60);

/// Edits (insert, delete, replace, swap neighbours) that turn a into b, in code points, letters without case.
/// Stops at `limit` and returns limit + 1.
std::size_t edit_distance(std::string_view a, std::string_view b, std::size_t limit);

/// The nearest of `names`, or "" when none is near enough to be meant.
std::string nearest(std::string_view word, const std::vector<std::string>& names);

/// " (did you mean 'x'?)", or "" for "".
std::string did_you_mean(std::string_view suggestion);

/// While one lives, nearest() compares a bounded number of names on this thread and then finds none, so that thousands of
/// mistakes among thousands of names stay cheap.
class SuggestionBudget {
 public:
  SuggestionBudget();
  ~SuggestionBudget();
  SuggestionBudget(const SuggestionBudget&) = delete;
  SuggestionBudget& operator=(const SuggestionBudget&) = delete;
};

}  // namespace kontor::agent
