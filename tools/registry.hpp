#pragma once
// The tools of one run by name. Built once, then read-only.

#include "tools/tool.hpp"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// "*" matches any run of characters, dots too; everything else itself.
bool glob_match(std::string_view pattern, std::string_view name);

class Registry {
 public:
  /// Errors: conflict when the name is taken, malformed when name or schema are not valid.
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
  ToolResult call(std::string_view name, const Json& arguments, const CallContext& context) const;

 private:
  std::map<std::string, std::shared_ptr<Tool>, std::less<>> tools_;
};

}  // namespace kontor::tools
