#pragma once
// The tools that come with Kontor. One entry of an agent file's `tools:` section makes a group of functions.

#include "base/clock.hpp"
#include "tools/builtin/memory_tool.hpp"
#include "tools/egress.hpp"
#include "tools/tool.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// Reads YAML as JSON; whoever has a YAML reader hands it in. Errors: malformed with the place.
using YamlReader = std::function<Result<Json>(const std::string& text)>;

/// What the tools of one run may touch.
struct BuiltinContext {
  std::string folder;                    ///< Absolute folder of the agent file; settings' paths are relative to it.
  std::vector<std::string> read_roots;   ///< Absolute: inputs of type dir or file; files and table may read them too.
  std::vector<std::string> hidden;       ///< Absolute: files that are never opened (secrets).
  std::shared_ptr<MemoryAccess> memory;  ///< Needed by builtin.memory only.
  YamlReader read_yaml;                  ///< May be empty: then no YAML is read.
  Egress egress;                         ///< What may be reached beside what the settings say.
  const Clock* clock = nullptr;          ///< Null: the machine's clock. Outlives the tools.
};

/// "builtin.files", "builtin.math", and so on, sorted.
std::vector<std::string> builtin_names();

/// The functions that `use` has in the group, without making anything. Errors: not_found with a suggestion.
Result<std::vector<ToolSpec>> describe_builtin(std::string_view use, const std::string& group);

/// Makes the tools of one entry; functions are named GROUP.FUNCTION. `settings` holds the entry's other keys; paths in
/// it may be relative to `context.folder`. Errors: not_found (no such built-in), usage (unknown or unfit setting).
Result<std::vector<std::shared_ptr<Tool>>> make_builtin(std::string_view use, const std::string& group, const Json& settings,
                                                        const BuiltinContext& context);

}  // namespace kontor::tools
