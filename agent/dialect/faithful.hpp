#pragma once
// The official chat templates and encoders, reproduced byte for byte with their defects, without a template engine:
// what a checkpoint was trained on can be compared and tested. Kontor's own prompts come from renderer.hpp.

#include "base/error.hpp"
#include "base/json.hpp"

#include <string>
#include <vector>

namespace kontor::agent {

/// Renders one line shaped as tests/corpora/r1/render.jsonl: {"model", "messages", "tools"?, "add_generation_prompt",
/// "kwargs", "bos_token", "eos_token"}. Errors: usage (unknown model key, with the known ones), malformed (the official
/// template would abort on these messages).
Result<std::string> render_faithful(const Json& request);

/// Keys that render_faithful() knows.
const std::vector<std::string>& faithful_keys();

}  // namespace kontor::agent
