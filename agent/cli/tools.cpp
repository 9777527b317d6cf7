// kontor tools: what can be called, and calling it by hand.

#include "agent/assembly.hpp"
#include "agent/cli/command.hpp"
#include "agent/cli/mcp_group.hpp"
#include "agent/cli/run_support.hpp"
#include "agent/cli/run_world.hpp"
#include "agent/cli/shared_options.hpp"
#include "agent/cli/terminal.hpp"
#include "agent/cli/tool_listing.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"
#include "tools/builtin/builtin.hpp"
#include "tools/nearest.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>

namespace kontor::agent::cli {
namespace {

struct Options {
  std::string file, name, arguments = "{}", settings, root = ".", write, out, runs = default_state_folder();
  std::vector<std::string> inputs;
  bool json = false, airgap = false;
};

Json spec_json(const tools::ToolSpec& spec, const std::string& use) {
  return {{"name", spec.name}, {"use", use}, {"description", spec.description}, {"effect", std::string(to_string(spec.effect))},
          {"untrusted_output", spec.untrusted_output}, {"timeout_ms", spec.timeout_ms}, {"parameters", spec.parameters}, {"result", spec.result}};
}

std::string text_of(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

struct Listed {
  tools::ToolSpec spec;
  std::string use;
};

Result<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) return fail(Errc::not_found, path + " is no file that can be read", "missing_file");
  return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

/// One group of tools of a file, by the name of its entry.
struct Group {
  std::string name, use;
  std::function<Result<std::shared_ptr<tools::Registry>>()> open;
};

Result<std::shared_ptr<tools::Registry>> registry_of(const std::vector<std::shared_ptr<tools::Tool>>& made) {
  auto registry = std::make_shared<tools::Registry>();
  for (const auto& tool : made) {
    if (auto added = registry->add(tool); !added) return added.error();
  }
  return registry;
}

/// What an entry of an agent file becomes, alone: groups do not depend on each other.
Result<std::shared_ptr<tools::Registry>> open_entry(const Options& options, Spec spec, const ToolEntry& entry, const ToolMaker& maker) {
  spec.tools = {entry};
  std::map<std::string, std::string> given;
  for (const auto& word : options.inputs) {
    const auto equals = word.find('=');
    if (equals == std::string::npos || equals == 0) return fail(Errc::usage, "--input takes NAME=VALUE, not '" + word + "'");
    given[word.substr(0, equals)] = word.substr(equals + 1);
  }
  std::error_code code;
  auto inputs = resolve_inputs(spec, given, std::filesystem::current_path(code).string());
  // Inputs that are not given matter only where a configuration uses them.
  if (!inputs && !given.empty()) return inputs.error();
  auto secrets = load_secrets(spec);
  if (!secrets) return secrets.error();
  RegistryOptions registry;
  registry.state_folder = options.runs;
  registry.make_tools = maker;
  auto egress = build_egress(spec.policy, options.airgap);
  if (!egress) return egress.error();
  registry.egress = std::move(*egress);
  auto store = std::make_shared<std::unique_ptr<memory::Store>>();
  registry.memory = [store, folder = options.runs]() -> Result<memory::Store*> {
    auto opened = memory::Store::open(folder + "/memory.db", system_clock());
    if (!opened) return opened.error();
    *store = std::move(*opened);
    return store->get();
  };
  auto built = build_registry(spec, inputs ? *inputs : Json::object(), *secrets, registry);
  if (!built) return built.error();
  return std::shared_ptr<tools::Registry>(built->get(), [keep = *built, store](tools::Registry*) {});
}

ToolMaker maker_with_terminal() {
  return [](const ToolRequest& request) -> Result<std::vector<std::shared_ptr<tools::Tool>>> {
    if (request.entry->use != "mcp") return make_tools(request);
    auto config = mcp_config(request);
    add_terminal_hooks(config);
    return tools::mcp::make_server_tools(config);
  };
}

/// The checked agent file, or a JSON file with `mcpServers` read as an agent file that includes it. nullopt: it was said
/// what is wrong with it.
std::optional<Spec> read_groups(const std::string& path) {
  if (!path.ends_with(".json")) return read_spec(path);
  const auto file = std::filesystem::absolute(path);
  std::error_code code;
  if (!std::filesystem::is_regular_file(file, code)) {
    print_error("'" + printable(path, 300) + "' is no file that can be read");
    return std::nullopt;
  }
  // Its name is part of where first-use pins are kept, so that two maps do not share them.
  const std::string name = "servers-" + sha256_hex(file.string()).substr(0, 16);
  const Json text{{"kontor", 1}, {"name", name}, {"include", file.filename().string()}, {"workflow", Json::array({Json{{"wait", "1s"}}})}};
  auto checked = check_text(text_of(text), path + " (included)", file.parent_path().string());
  for (const auto& finding : checked.diagnostics) {
    std::string message = finding.message;
    if (const std::string included = "in the included file " + finding.file + ": "; message.starts_with(included)) message.erase(0, included.size());
    print_error(printable(finding.file.empty() ? path : finding.file, 300) + ":" + std::to_string(finding.line) + ":" + std::to_string(finding.column) + ": " + finding.kind + ": " + printable(message, 1000));
  }
  if (!checked.diagnostics.empty()) std::fprintf(stderr, "`kontor import mcp` carries over what it can of a map that other programs wrote\n");
  return std::move(checked.spec);
}

/// Groups of an agent file, or of a JSON file with `mcpServers`. An error without a message was printed.
Result<std::vector<Group>> groups_of(const Options& options) {
  auto spec = read_groups(options.file);
  if (!spec) return fail(Errc::usage, "");
  std::vector<Group> groups;
  for (const auto& entry : spec->tools) {
    groups.push_back({entry.name, entry.use, [options, spec = *spec, entry] { return open_entry(options, spec, entry, maker_with_terminal()); }});
  }
  return groups;
}

/// The built-ins; of one group, or one tool, when it is named.
std::vector<Listed> listed_builtins(const std::string& name) {
  std::vector<Listed> all;
  for (const auto& use : tools::builtin_names()) {
    const std::string group = use.substr(use.find('.') + 1);
    const auto specs = tools::describe_builtin(use, group);
    for (const auto& spec : *specs) {
      if (name.empty() || name == use || name == group || name == spec.name) all.push_back({spec, use});
    }
  }
  return all;
}

int list(const Options& options) {
  std::error_code code;
  std::vector<Listed> all;
  int exit_code = kDone;
  const bool is_file = !options.file.empty() && (std::filesystem::is_regular_file(options.file, code) || listed_builtins(options.file).empty());
  if (!is_file) {
    all = listed_builtins(options.file);
  } else {
    auto groups = groups_of(options);
    if (!groups) {
      if (!groups.error().message.empty()) print_error(printable(groups.error().describe(), 4000));
      return kUsage;
    }
    for (const auto& group : *groups) {
      auto registry = group.open();
      if (!registry) {
        print_error(group.name + ": " + printable(registry.error().describe(), 4000));
        exit_code = kFailed;
        continue;
      }
      for (const auto& name : (*registry)->names()) all.push_back({(*registry)->find(name)->spec(), group.use});
    }
  }
  if (options.json) {
    Json tools = Json::array();
    for (const auto& entry : all) tools.push_back(spec_json(entry.spec, entry.use));
    print_json(text_of(Json{{"tools", std::move(tools)}}));
    return exit_code;
  }
  for (const auto& entry : all) {
    std::fputs(tool_text(entry.spec, !options.file.empty() && !is_file).c_str(), stdout);
  }
  return exit_code;
}

/// JSON from the command line, or of @FILE.
Result<Json> read_json(const std::string& what, const std::string& given) {
  const bool is_file = given.starts_with('@');
  const auto text = is_file ? read_text(given.substr(1)) : Result<std::string>(given);
  if (!text) return fail(Errc::usage, what + ": " + text.error().describe(), "invalid_arguments");
  auto parsed = parse_json(*text);
  if (parsed) return parsed;
  return fail(Errc::usage, what + " are not JSON: " + parsed.error().describe() + (is_file ? "" : "; write them as '{\"name\": \"value\"}', or as @FILE"), "invalid_arguments");
}

Result<std::shared_ptr<tools::Registry>> builtin_registry(const Options& options) {
  if (options.name.starts_with("memory.")) {
    return fail(Errc::usage, options.name + " is called with --file (an agent file with a group of `use: builtin.memory`); without one there is `kontor memory`", "unknown_tool");
  }
  std::error_code code;
  if (!std::filesystem::is_directory(options.root, code)) return fail(Errc::usage, "--root: there is no folder '" + options.root + "'", "missing_file");
  Json given = Json::object();
  if (!options.settings.empty()) {
    auto read = read_json("the settings", options.settings);
    if (!read) return read.error();
    if (!read->is_object()) return fail(Errc::usage, "the settings are one JSON object", "invalid_arguments");
    given = std::move(*read);
  }
  std::vector<std::shared_ptr<tools::Tool>> all;
  tools::BuiltinContext context;
  context.folder = options.root;
  for (const auto& use : tools::builtin_names()) {
    if (use == "builtin.memory") continue;  // Has verbs of its own.
    Json settings = Json::object();
    if (use == "builtin.files" && !options.write.empty()) settings["write"] = options.write;
    const std::string group = use.substr(use.find('.') + 1);
    const bool meant = options.name.starts_with(group + ".");
    if (meant) settings.update(given);
    auto made = tools::make_builtin(use, group, settings, context);
    if (!made && meant) return fail(Errc::usage, options.name + " needs other settings, given as --settings '{...}' or in an agent file with --file: " + made.error().describe(), "tool_settings");
    if (!made) continue;  // It has settings without a default.
    all.insert(all.end(), made->begin(), made->end());
  }
  return registry_of(all);
}

/// The registry that has the tool of that name. Errors: usage for everything that another command line would mend.
Result<std::shared_ptr<tools::Registry>> registry_for(const Options& options) {
  if (options.file.empty()) return builtin_registry(options);
  if (!options.settings.empty()) return fail(Errc::usage, "--settings is for built-in tools without a file; those of a file have the file's", "invalid_arguments");
  auto groups = groups_of(options);
  if (!groups) return fail(Errc::usage, groups.error().message.empty() ? options.file + " is no agent file without mistakes" : groups.error().describe(), "bad_file");
  std::vector<std::string> names;
  for (const auto& group : *groups) {
    if (options.name.starts_with(group.name + ".")) return group.open();
    names.push_back(group.name);
  }
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + name;
  const auto near = tools::nearest(options.name.substr(0, options.name.find('.')), names);
  return fail(Errc::usage, "'" + options.name + "' is of none of the groups in " + options.file + ": " + (list.empty() ? "there are none" : list) + (near.empty() ? "" : " (did you mean '" + near + "'?)"), "unknown_tool");
}

/// Tells what went wrong before there was a call.
int refuse(const Options& options, const Error& error) {
  if (options.json) print_json(text_of(Json{{"ok", false}, {"error", {{"kind", error.kind.empty() ? std::string(to_string(error.code)) : error.kind}, {"message", error.describe()}}}}));
  else print_error(printable(error.describe(), 4000));
  return error.code == Errc::usage ? kUsage : kFailed;
}

/// "math.eval(expression)" for a wrong call of it; the functions of a group that was named alone.
std::string hint(const tools::Registry& registry, const std::string& name) {
  if (const auto* tool = registry.find(name)) return "it is called as " + tool_signature(tool->spec());
  std::string names;
  for (const auto& known : registry.match({name + ".*"})) names += (names.empty() ? "there are: " : ", ") + known;
  return names;
}

int call(const Options& options) {
  const auto arguments = read_json("the arguments", options.arguments);
  if (!arguments) return refuse(options, arguments.error());
  const auto registry = registry_for(options);
  if (!registry) return refuse(options, registry.error());
  tools::CallContext call_context;
  call_context.run_id = "command-line";
  call_context.call_id = "1";
  if (!options.json) {
    call_context.progress = [](double fraction, const std::string& note) {
      if (fraction < 0) std::fprintf(stderr, "  %s\n", printable(note, 200).c_str());
      else std::fprintf(stderr, "  %3.0f %%  %s\n", fraction * 100, printable(note, 200).c_str());
    };
  }
  const auto result = (*registry)->call(options.name, *arguments, call_context);
  if (options.json) {
    Json out{{"ok", !result.is_error}};
    if (result.is_error) out["error"] = Json{{"kind", result.error_kind}, {"message", result.value.value("error", std::string())}};
    else out["value"] = result.value;
    print_json(text_of(out));
  } else if (result.is_error) {
    print_error(options.name + ": " + printable(result.value.value("error", std::string()), 4000));
  } else {
    print_json(result.value.dump(2, ' ', false, Json::error_handler_t::replace));
  }
  if (!result.is_error) return kDone;
  if (result.error_kind != "unknown_tool" && result.error_kind != "invalid_arguments") return kFailed;
  if (const auto words = hint(**registry, options.name); !options.json && !words.empty()) std::fprintf(stderr, "%s\n", words.c_str());
  return kUsage;
}

/// Writes down what a server says about its tools, after showing what changed.
Result<void> write_pin(const Options& options, const tools::mcp::ServerConfig& config) {
  const std::string path = !options.out.empty() ? options.out : !config.pin_path.empty() ? config.pin_path : tools::mcp::first_use_pins(config);
  auto server = tools::mcp::Server::open(config);
  if (!server) return server.error();
  const auto& live = (*server)->definitions();
  if (const auto before = tools::mcp::read_pins(path)) {
    const auto found = tools::mcp::compare_pins(*before, live);
    for (const auto& name : found.changed) std::printf("changed  %s\n", printable(name, 128).c_str());
    for (const auto& name : found.added) std::printf("new      %s\n", printable(name, 128).c_str());
    for (const auto& name : found.gone) std::printf("gone     %s\n", printable(name, 128).c_str());
  }
  for (const auto& reason : (*server)->left_out()) std::fprintf(stderr, "left out: %s\n", printable(reason, 400).c_str());
  if (auto written = tools::mcp::write_pins(path, live); !written) return written.error();
  std::printf("%zu tools pinned in %s; read them before you rely on them\n", live.size(), path.c_str());
  return {};
}

int pin(const Options& options) {
  Result<void> done = fail(Errc::usage, "there is no MCP server '" + options.name + "' in " + options.file);
  const auto spec = read_groups(options.file);
  if (!spec) return kUsage;
  for (const auto& entry : spec->tools) {
    if (entry.name != options.name || entry.use != "mcp") continue;
    done = {};
    auto opened = open_entry(options, *spec, entry, [&](const ToolRequest& request) -> Result<std::vector<std::shared_ptr<tools::Tool>>> {
      auto config = mcp_config(request);
      add_terminal_hooks(config);
      if (auto written = write_pin(options, config); !written) return written.error();
      return std::vector<std::shared_ptr<tools::Tool>>();
    });
    if (!opened) done = opened.error();
  }
  if (done) return kDone;
  print_error(printable(done.error().describe(), 4000));
  return done.error().code == Errc::usage ? kUsage : kFailed;
}

void add_file_options(CLI::App& leaf, const std::shared_ptr<Options>& options) {
  leaf.add_option("--input", options->inputs, "NAME=VALUE for inputs that the tools' configuration uses")->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_runs_option(leaf, options->runs);
  add_airgap_flag(leaf, options->airgap);
}

const Verb verb{"tools", "list tools and call them by hand", [](CLI::App& app) -> Action {
  add_leaf(app, "list", "list the built-in tools, or those of an agent file or an mcpServers map (JSON)", [](CLI::App& leaf) -> Action {
    auto options = std::make_shared<Options>();
    leaf.add_option("FILE", options->file, "agent file, or a JSON file with mcpServers; its plugins and servers are started. Or a built-in (table, table.query): its arguments");
    leaf.add_flag("--json", options->json, "print JSON with the schemas");
    add_file_options(leaf, options);
    return [options] { return list(*options); };
  });
  add_leaf(app, "call", "call a built-in tool, or a tool of a file", [](CLI::App& leaf) -> Action {
    auto options = std::make_shared<Options>();
    leaf.add_option("NAME", options->name, "for example files.list")->required();
    leaf.add_option("ARGUMENTS", options->arguments, "a JSON object, or @FILE")->capture_default_str();
    leaf.add_option("--file", options->file, "agent file, or a JSON file with mcpServers, that the tool belongs to");
    leaf.add_option("--settings", options->settings, "a JSON object, or @FILE: settings of a built-in, as in the `tools:` section")->type_name("JSON");
    leaf.add_option("--root", options->root, "folder that built-in tools may read")->capture_default_str();
    leaf.add_option("--write", options->write, "folder that built-in tools may write, relative to the root (default: none)");
    leaf.add_flag("--json", options->json, "print JSON with ok and value or error");
    add_file_options(leaf, options);
    return [options] { return call(*options); };
  });
  add_leaf(app, "pin", "write down what an MCP server says about its tools", [](CLI::App& leaf) -> Action {
    auto options = std::make_shared<Options>();
    leaf.add_option("FILE", options->file, "agent file, or a JSON file with mcpServers")->required();
    leaf.add_option("GROUP", options->name, "name of the server's entry")->required();
    leaf.add_option("--out", options->out, "pin file (default: the one of the entry, else the one of the first use)");
    add_file_options(leaf, options);
    return [options] { return pin(*options); };
  });
  return {};
}};

}  // namespace
}  // namespace kontor::agent::cli
