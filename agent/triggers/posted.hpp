#pragma once
// What a webhook's body becomes: inputs of the run it starts.

#include "agent/spec/spec.hpp"
#include "base/error.hpp"

#include <string>
#include <string_view>

namespace kontor::agent {

/// The body is a JSON object. Where the file has an input `body` of type object, the whole object becomes that input;
/// otherwise its members are inputs by their names. What the trigger's `inputs:` say cannot be replaced, and places on
/// this machine (types file and dir) come only from there. Errors: malformed (not a JSON object), limit (too deep),
/// usage (unknown, fixed or wrong input).
Result<Json> posted_inputs(const Spec& spec, const TriggerSpec& trigger, std::string_view body);

}  // namespace kontor::agent
