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

}  // namespace kontor::tools
