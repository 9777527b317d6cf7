#pragma once
// `use: openapi`: the operations of an OpenAPI document as tools, called through guarded requests.

#include "tools/builtin/builtin.hpp"

#include <memory>
#include <string>
#include <vector>

namespace kontor::tools {

/// Tools are named GROUP.OPERATION. `settings`: document, server, only, and those of builtin.http. Errors: usage, those of
/// reading the document, not_found.
Result<std::vector<std::shared_ptr<Tool>>> make_openapi(const std::string& group, const Json& settings, const BuiltinContext& context);

}  // namespace kontor::tools
