#pragma once
// `effects:` of an agent file: a tool that counts as having a stronger effect than it declares.

#include "tools/tool.hpp"

#include <memory>

namespace kontor::tools {

/// "none", "idempotent", "once". Errors: malformed.
Result<Effect> effect_named(std::string_view name);

/// The same tool with the stronger effect. Errors: conflict when `effect` is weaker than what the tool declares.
Result<std::shared_ptr<Tool>> tightened(std::shared_ptr<Tool> tool, Effect effect);

}  // namespace kontor::tools
