#pragma once
// YAML as data: the reader of agent files for any other file.

#include "base/error.hpp"
#include "agent/spec/yaml_document.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace kontor::agent {

/// Bounds of files that are data: OpenAPI documents and tables are larger than agent files.
inline constexpr YamlLimits kDataLimits{.bytes = 8u << 20, .nodes = 1'000'000};

/// YAML 1.2 core schema. Errors: malformed with "LINE:COLUMN" in `where`.
Result<Json> yaml_as_json(const std::string& text, const YamlLimits& limits = {});

}  // namespace kontor::agent
