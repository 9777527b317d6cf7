#pragma once
// The tools of one run by name. Built once, then read-only.

#include "tools/schema.hpp"
#include "tools/tool.hpp"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// "*" matches any run of characters, dots too; everything else itself.
bool glob_match(std::string_view pattern, std::string_view name);

class Registry {
 public:
  /// Names are parts of letters, digits, '_' and '-', joined by dots, at most 128 bytes.
  /// Errors: conflict when the name is taken, malformed when name or schema are not valid, and those of
  /// Schema::compile for the parameters.
  Result<void> add(std::shared_ptr<Tool> tool);
  /// nullptr when there is none. Valid as long as the registry.
  Tool* find(std::string_view name) const;
  /// Names in ascending order that match at least one of the globs.
  std::vector<std::string> match(const std::vector<std::string>& globs) const;
  std::vector<std::string> names() const;
  /// The name nearest to a mistyped one, or "".
  std::string suggest(std::string_view name) const;

  /// Checks the arguments against the tool's schema, then calls it. Unknown tool and schema violations are error
  /// results (kinds unknown_tool, invalid_arguments) whose text names the argument and what was expected.
  /// A tool that throws is an error result of kind crashed.
  ToolResult call(std::string_view name, const Json& arguments, const CallContext& context) const;

  /// The check that `call` makes, alone: nothing when the arguments are valid, else what is wrong in words, e.g.
  /// "argument 'lines[0].amount': expected a string, got a number". Unknown tools are the caller's to handle.
  std::optional<std::string> check_arguments(std::string_view name, const Json& arguments) const;

 private:
  struct Entry {
    std::shared_ptr<Tool> tool;
    Schema parameters;
  };
  std::map<std::string, Entry, std::less<>> tools_;
};

}  // namespace kontor::tools
