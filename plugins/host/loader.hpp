#pragma once
// From a line of the user's YAML to tools in the registry.

#include "base/error.hpp"
#include "base/json.hpp"
#include "plugins/host/process.hpp"
#include "tools/egress.hpp"
#include "tools/tool.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kontor::plugins {

enum class Isolation {
  process,     ///< A host process of its own (default); a pin is checked when given.
  in_process,  ///< Inside this process; refused without a pin.
};

struct PluginOptions {
  std::string path;                             ///< The shared library.
  std::string group;                            ///< Tools are called GROUP.FUNCTION; "" takes the plugin's own name.
  std::string sha256;                           ///< Pin: 64 hexadecimal digits, or "".
  Isolation isolation = Isolation::process;
  Json config = Json::object();                 ///< Handed to the plugin as JSON text. Secrets are already resolved.
  std::map<std::string, std::string> effects;   ///< FUNCTION -> none | idempotent | once; may only tighten.
  std::string base_dir;                         ///< What relative paths in `config` are relative to: the YAML's folder.
  std::string data_dir;                         ///< Created when it does not exist; "" gives the plugin none.
  std::string log_path;                         ///< Prints and log lines of the plugin; "": data_dir/plugin.log, or none.
  tools::Egress egress;                         ///< Which of the declared hosts may be reached.
  ProcessOptions process;
};

struct LoadedPlugin {
  std::string name, version, description;
  std::string sha256;                           ///< Of the file that was loaded.
  std::vector<std::string> permissions;
  std::vector<tools::ToolSpec> specs;           ///< Of the tools, in the plugin's order.
  std::vector<std::shared_ptr<tools::Tool>> tools;  ///< Share the instance; it ends with the last of them.
  std::shared_ptr<Instance> instance;           ///< What they share; empty for an inspected plugin.
};

/// Options from the settings of a `use: plugin` entry: library, sha256, isolation, config. `effects` and folders are
/// left for the caller. Errors: usage (kind unknown_key, wrong_type, unknown_value).
Result<PluginOptions> plugin_options(const std::string& group, const Json& settings);

/// Reads, checks and starts the plugin. Nothing of its code runs before the pin has been compared. Blocks for the time
/// the plugin takes to start.
/// Errors: denied (kind pin_missing, pin_mismatch, loosened_effect), not_found, malformed (kind not_elf, load, no_entry,
/// declaration, schema), unsupported (kind abi_version, abi_size), usage (kind refused, unknown_tool), timeout, io.
Result<LoadedPlugin> load_plugin(const PluginOptions& options);

/// What the plugin declares, read in a host process whatever the isolation; no instance is made, `tools` stays empty.
/// Errors: as load_plugin, without the demand for a pin.
Result<LoadedPlugin> inspect_plugin(const PluginOptions& options);

}  // namespace kontor::plugins
