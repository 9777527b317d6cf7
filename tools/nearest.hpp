#pragma once
// Suggestions for mistyped names.

#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// The name with the fewest single-character edits (a swap of neighbours counts as one) from `word`, when it is near
/// enough to be what was meant: at most a third of the word, and always below 4. "" when none is. Names and words over
/// 64 bytes are never suggested, so the cost is bounded.
std::string nearest(std::string_view word, const std::vector<std::string>& names);

}  // namespace kontor::tools
