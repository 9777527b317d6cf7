#pragma once
// Libraries, programs and data that built-in tools load when they are needed, so that Kontor starts without them.

#include <string>
#include <vector>

namespace kontor::tools {

struct OptionalPart {
  std::string name;     ///< "libcurl"
  bool found = false;
  std::string purpose;  ///< What does not work without it.
  std::string package;  ///< Debian packages that bring it.
};

/// Loads or looks up each of them, as the tools will.
std::vector<OptionalPart> optional_parts();

}  // namespace kontor::tools
