#pragma once
// YAML as data: the reader of agent files for any other file.

#include "base/error.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace kontor::agent {

/// YAML 1.2 core schema; the bounds of agent files hold. Errors: malformed with "LINE:COLUMN" in `where`, limit.
Result<Json> yaml_as_json(const std::string& text);

}  // namespace kontor::agent
