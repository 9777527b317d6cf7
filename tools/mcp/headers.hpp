#pragma once
// Values of the headers Mcp-Name and Mcp-Param-*: as they are where that is safe, else =?base64?...?=.

#include <optional>
#include <string>
#include <string_view>

namespace kontor::tools::mcp {

std::string header_value(const std::string& text);
/// Nothing when it is marked as Base64 and is none.
std::optional<std::string> from_header_value(std::string_view value);

}  // namespace kontor::tools::mcp
