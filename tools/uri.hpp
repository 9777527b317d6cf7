#pragma once
// References between schemas (RFC 3986, section 5).

#include <string>
#include <string_view>

namespace kontor::tools {

/// The absolute URI that a reference means where `base` is the base URI.
std::string resolve_uri(std::string_view base, std::string_view reference);

/// %41 becomes A; what is no escape stays.
std::string percent_decoded(std::string_view text);

}  // namespace kontor::tools
