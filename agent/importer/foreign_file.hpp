#pragma once
// A YAML or JSON file of another program, read with positions.

#include "agent/spec/yaml_document.hpp"
#include "base/error.hpp"

#include <memory>
#include <string>

namespace kontor::agent {

struct ForeignFile {
  std::string name;    ///< As the user named it.
  std::unique_ptr<YamlDocument> document;

  Yaml root() const { return Yaml(*document, document->root); }
};

/// The bounds of agent files hold. Errors: not_found, io; malformed with FILE:LINE:COLUMN in `where`, also when the file
/// is not a mapping.
Result<std::shared_ptr<const ForeignFile>> read_foreign(const std::string& path);
/// The same for bytes at hand.
Result<std::shared_ptr<const ForeignFile>> parse_foreign(std::string text, const std::string& name);

}  // namespace kontor::agent
