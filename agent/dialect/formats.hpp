#pragma once
// Which notation of calls a format of model output uses. Internal to agent/dialect, but for known_format().

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent::dialect {

struct Notation {
  std::uint32_t openers = 0;  ///< Markers that can begin calls.
  bool v31 = false;           ///< Strict mode expects NAME<SEP>{...} instead of R1 notation.
};

/// Unknown names read R1 notation; callers check with known_format() first.
Notation notation_of(std::string_view format);

/// All names, for messages and suggestions.
const std::vector<std::string>& format_names();
bool known_format(std::string_view format);

}  // namespace kontor::agent::dialect
