#pragma once
// Results of tools/call as results of a Kontor tool.

#include "tools/mcp/message.hpp"
#include "tools/tool.hpp"

#include <string>
#include <vector>

namespace kontor::tools::mcp {

/// `structuredContent` is the value where there is one. Else the value is {"text": ...}: the texts of all blocks, one
/// below the other, with "attachments" that name what is no text (kind, type, size, address) without its bytes.
/// `isError` makes it an error (kind tool_error).
/// Errors of the form (kind bad_result) are error results too.
ToolResult result_of(const Json& call_result);

/// The other way: a Kontor result as the result of tools/call, without what depends on the revision. `content`: blocks
/// that the tool made itself, or null.
Json call_result_of(const ToolResult& result, const Json& content);

}  // namespace kontor::tools::mcp
