#pragma once
// JSON values as YAML that people can read and change.

#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace kontor::agent {

/// Block style; texts of several lines as literal blocks, short lists of words on one line. Reads back as the same value.
std::string yaml_text(const Json& mapping);

}  // namespace kontor::agent
