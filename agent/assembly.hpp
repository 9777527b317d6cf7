#pragma once
// From a checked agent file to what a run needs: inputs with their types, secrets, policy, tools.

#include "agent/run_context.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kontor::agent {

/// What the maker of a group of tools is told.
struct ToolRequest {
  const ToolEntry* entry = nullptr;
  Json settings = Json::object();            ///< `entry->settings` with `${inputs...}` and secrets filled in.
  const Spec* spec = nullptr;
  std::string base_folder;                   ///< What relative paths in `config` are relative to.
  std::string data_folder;                   ///< Where a plugin may keep its own files.
  std::vector<std::string> read_roots;       ///< Inputs of type file and dir: readable beside `root`.
  std::function<Result<memory::Store*>()> memory;
  EmbedderSource embedder;                   ///< May be empty: no model is there.
  const Clock* clock = nullptr;              ///< The run's clock; outlives the tools.
  tools::Egress egress;                      ///< What the group may reach.
};
using ToolMaker = std::function<Result<std::vector<std::shared_ptr<tools::Tool>>>(const ToolRequest&)>;

/// Texts from the command line as typed values; defaults for the rest. Paths become absolute: relative ones are looked
/// up in `working_folder` first, then beside the agent file. Errors: usage (unknown name with a suggestion, missing
/// input, wrong type, file that does not exist).
Result<Json> resolve_inputs(const Spec& spec, const std::map<std::string, std::string>& given, const std::string& working_folder);
/// The same for typed values (`tests:`); paths are relative to the agent file.
Result<Json> resolve_inputs(const Spec& spec, const Json& given);

/// What a procedure is given, with defaults. Errors: usage (missing, wrong type).
Result<Json> procedure_inputs(const ProcedureSpec& procedure, const Json& with);

/// Values of `secrets:` from the environment or from files beside the agent file. Errors: not_found.
Result<std::map<std::string, std::string>> load_secrets(const Spec& spec);

/// Fills `model.api_key` in where the model has one; for the copy it is opened with. Errors: not_found (kind secret).
Result<void> give_key(ModelSpec& model, const Spec& spec, const std::map<std::string, std::string>& secrets);

/// `inputs` must outlive the policy.
tools::Policy build_policy(const Spec& spec, const Json& inputs, std::shared_ptr<std::map<std::string, double>> confidence);

/// `policy.egress` and --airgap. Errors: usage for what is no host (a checked file has none).
Result<tools::Egress> build_egress(const PolicySpec& policy, bool airgap, tools::Egress::Listener listener = {});

struct RegistryOptions {
  std::string shadow_folder;                 ///< Not empty: everything written goes there instead of beside the file.
  std::string state_folder;                  ///< Plugins keep their data below.
  ToolMaker make_tools;
  std::function<Result<memory::Store*>()> memory;
  EmbedderSource embedder;
  const Clock* clock = nullptr;
  tools::Egress egress;                      ///< From build_egress.
};
/// Errors: those of the maker, conflict for two tools of one name, usage for a loosened effect.
Result<std::shared_ptr<tools::Registry>> build_registry(const Spec& spec, const Json& inputs, const std::map<std::string, std::string>& secrets,
                                                        const RegistryOptions& options);

}  // namespace kontor::agent
