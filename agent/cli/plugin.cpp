// `kontor plugin new|check|list`: for people who write and install plugins.

#include "agent/cli/command.hpp"
#include "agent/cli/terminal.hpp"
#include "base/json.hpp"
#include "plugins/host/loader.hpp"
#include "plugins/host/project.hpp"
#include "tools/registry.hpp"
#include "tools/schema.hpp"

#include <nlohmann/json.hpp>

#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

namespace kontor::agent::cli {
namespace {

namespace fs = std::filesystem;

Json describe(const std::string& file, const plugins::LoadedPlugin& plugin) {
  Json tools = Json::array();
  for (const auto& spec : plugin.specs) {
    tools.push_back(Json{{"name", spec.name}, {"description", spec.description}, {"effect", std::string(tools::to_string(spec.effect))},
                         {"has_probe", spec.has_probe}, {"untrusted_output", spec.untrusted_output}, {"timeout_ms", spec.timeout_ms},
                         {"parameters", spec.parameters}, {"result", spec.result}});
  }
  return Json{{"file", file}, {"ok", true}, {"name", plugin.name}, {"version", plugin.version}, {"description", plugin.description},
              {"sha256", plugin.sha256}, {"permissions", plugin.permissions}, {"tools", std::move(tools)}};
}

Json describe(const std::string& file, const Error& error) {
  return Json{{"file", file}, {"ok", false}, {"error", {{"kind", error.kind}, {"message", error.describe()}}}};
}

std::string print(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// Text of a plugin on a terminal: no control characters, which could rewrite the screen.
std::string shown(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return text;
}

void print_plugin(const plugins::LoadedPlugin& plugin) {
  std::printf("%s %s: %s\n", plugin.name.c_str(), shown(plugin.version).c_str(), shown(plugin.description).c_str());
  std::printf("sha256: %s\n", plugin.sha256.c_str());
  for (const auto& permission : plugin.permissions) std::printf("needs:  %s\n", shown(permission).c_str());
  std::size_t width = 0;
  for (const auto& spec : plugin.specs) width = std::max(width, spec.name.size());
  for (const auto& spec : plugin.specs) {
    std::string effect(tools::to_string(spec.effect));
    if (spec.has_probe) effect += ", probe";
    std::printf("  %-*s  %-12s  %s\n", static_cast<int>(width), spec.name.c_str(), effect.c_str(), shown(spec.description).c_str());
  }
}

Result<Json> read_config(const std::string& given) {
  if (given.empty() || given[0] != '@') return parse_json(given);
  std::ifstream file(given.substr(1), std::ios::binary);
  if (!file) return fail_errno("open", given.substr(1));
  return parse_json(std::string{std::istreambuf_iterator<char>(file), {}});
}

struct CheckOptions {
  std::string file, sha256, config;
  bool json = false;
};

int check(const CheckOptions& given) {
  plugins::PluginOptions options;
  options.path = given.file;
  options.sha256 = given.sha256;
  if (!given.config.empty()) {
    auto config = read_config(given.config);
    if (!config || !config->is_object()) {
      print_error("--config: " + (config ? std::string("not a JSON object") : config.error().describe()));
      return kUsage;
    }
    options.config = std::move(*config);
  }
  // Declarations need no configuration; with one, the plugin is started too.
  const auto plugin = given.config.empty() ? plugins::inspect_plugin(options) : plugins::load_plugin(options);
  if (given.json) print_json(print(plugin ? describe(given.file, *plugin) : describe(given.file, plugin.error())));
  else if (plugin) print_plugin(*plugin);
  if (plugin) return kDone;
  if (!given.json) print_error(plugin.error().describe());
  return plugin.error().code == Errc::not_found ? kUsage : kFailed;
}

struct CallOptions {
  std::string file, function, arguments, config = "{}";
};

int call(const CallOptions& given) {
  plugins::PluginOptions options;
  options.path = given.file;
  const auto config = read_config(given.config), arguments = read_config(given.arguments);
  for (const auto* json : {&config, &arguments}) {
    if (*json && (*json)->is_object()) continue;
    print_error(std::string(json == &config ? "--config" : "ARGUMENTS") + ": " + (*json ? std::string("not a JSON object") : json->error().describe()));
    return kUsage;
  }
  options.config = *config;
  const auto plugin = plugins::load_plugin(options);
  if (!plugin) {
    print_error(plugin.error().describe());
    return plugin.error().code == Errc::not_found ? kUsage : kFailed;
  }
  tools::Registry registry;
  for (const auto& tool : plugin->tools) {
    if (const auto added = registry.add(tool); !added) return print_error(added.error().describe()), kFailed;
  }
  const auto result = registry.call(plugin->name + "." + given.function, *arguments, {});
  if (result.is_error && result.error_kind == "unknown_tool") {
    print_error(result.value.value("error", std::string("no such function")));
    return kUsage;
  }
  print_json(result.text.empty() ? spaced_json(result.value) : result.text);
  if (result.is_error) return kFailed;
  // Expressions in agent files are checked against what the plugin declares, so its author wants to know.
  const auto* tool = registry.find(plugin->name + "." + given.function);
  const auto schema = tool && !tool->spec().result.is_null() ? tools::Schema::compile(tool->spec().result) : Result<tools::Schema>(fail(Errc::not_found, ""));
  if (!schema) return kDone;
  const auto wrong = schema->validate(result.value, 5);
  for (const auto& violation : wrong) print_error("the result is not what the plugin declares: " + (violation.pointer.empty() ? "" : printable(violation.pointer, 200) + ": ") + printable(violation.message, 400));
  return wrong.empty() ? kDone : kFailed;
}

/// Where installed plugins are looked for.
std::vector<std::string> plugin_folders() {
  std::vector<std::string> folders;
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && data[0] == '/') folders.push_back(std::string(data) + "/kontor/plugins");
  else if (const char* home = std::getenv("HOME"); home != nullptr && home[0] == '/') folders.push_back(std::string(home) + "/.local/share/kontor/plugins");
  std::error_code ignored;
  const auto program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  folders.push_back((program / "plugins").string());
  folders.push_back((program.parent_path() / "lib" / "kontor" / "plugins").string());
  return folders;
}

int list(const std::vector<std::string>& given, bool json) {
  std::vector<std::string> files;
  for (const auto& folder : given.empty() ? plugin_folders() : given) {
    std::error_code status;
    for (const auto& entry : fs::directory_iterator(folder, status)) {
      if (entry.path().extension() == ".so") files.push_back(entry.path().string());
    }
    if (status && !given.empty()) {
      print_error(folder + ": " + status.message());
      return kUsage;
    }
  }
  std::sort(files.begin(), files.end());
  Json found = Json::array();
  bool ok = true;
  for (const auto& file : files) {
    plugins::PluginOptions options;
    options.path = file;
    const auto plugin = plugins::inspect_plugin(options);
    ok = ok && plugin.has_value();
    if (json) found.push_back(plugin ? describe(file, *plugin) : describe(file, plugin.error()));
    else if (plugin) std::printf("%-16s %-10s %2zu tools  %s\n", plugin->name.c_str(), shown(plugin->version).c_str(), plugin->specs.size(), file.c_str());
    else std::printf("%-16s %s\n", "(broken)", plugin.error().describe().c_str());
  }
  if (json) print_json(print(Json{{"plugins", std::move(found)}}));
  else if (files.empty()) std::puts("no plugins found; 'kontor plugin list FOLDER' looks elsewhere");
  return ok ? kDone : kFailed;
}

int create(const std::string& name, const std::string& folder, plugins::Language language, bool json) {
  const auto files = plugins::write_project(name, folder.empty() ? name : folder, language);
  if (!files) {
    print_error(files.error().describe());
    return files.error().code == Errc::io ? kFailed : kUsage;
  }
  if (json) {
    print_json(print(Json{{"files", *files}}));
    return kDone;
  }
  for (const auto& file : *files) std::printf("wrote %s\n", file.c_str());
  const std::string where = folder.empty() ? name : folder;
  std::printf("next: kontor plugin build %s && kontor run %s/agent.yaml --task \"%s\"\n", where.c_str(), where.c_str(), language == plugins::Language::c ? "Say 'one two three'." : "How many words has 'one two three'?");
  return kDone;
}

/// Runs a program with our streams; its exit code, or -1.
int run_program(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  if (::posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), environ) != 0) return -1;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// CMake, told where this Kontor is installed.
int build(const std::string& folder) {
  std::error_code ignored;
  if (!fs::is_regular_file(fs::path(folder) / "CMakeLists.txt", ignored)) {
    print_error("there is no plugin project in '" + folder + "' (no CMakeLists.txt); 'kontor plugin new NAME' writes one");
    return kUsage;
  }
  const auto prefix = fs::read_symlink("/proc/self/exe", ignored).parent_path().parent_path();
  std::vector<std::string> configure = {"cmake", "-S", folder, "-B", folder + "/build", "-DCMAKE_BUILD_TYPE=Release"};
  const bool is_installed = fs::exists(prefix / "include/kontor/plugins/abi/kontor_plugin.h", ignored);
  if (is_installed) configure.push_back("-DCMAKE_PREFIX_PATH=" + prefix.string());
  const int configured = run_program(configure);
  if (configured < 0) print_error("cmake could not be started; install it (apt-get install cmake g++)");
  else if (configured != 0 && !is_installed) print_error("this kontor is not installed, so CMake may not have found it: ./dev install PREFIX, then call PREFIX/bin/kontor");
  if (configured != 0) return kFailed;
  return run_program({"cmake", "--build", folder + "/build"}) == 0 ? kDone : kFailed;
}

const Verb verb{"plugin", "write, check and list plugins", [](CLI::App& app) -> Action {
  add_leaf(app, "check", "load a plugin in a process of its own and check what it declares", [](CLI::App& leaf) -> Action {
    auto options = std::make_shared<CheckOptions>();
    leaf.add_option("FILE", options->file, "the shared library")->required();
    leaf.add_option("--sha256", options->sha256, "demand that the file has this hash");
    leaf.add_option("--config", options->config, "JSON object, or @FILE; starts the plugin with it");
    leaf.add_flag("--json", options->json, "print one JSON document");
    return [options] { return check(*options); };
  });
  add_leaf(app, "call", "call one function of a plugin and print its answer", [](CLI::App& leaf) -> Action {
    auto options = std::make_shared<CallOptions>();
    leaf.add_option("FILE", options->file, "the shared library")->required();
    leaf.add_option("FUNCTION", options->function, "name of the tool without its group")->required();
    leaf.add_option("ARGUMENTS", options->arguments, "JSON object, or @FILE")->required();
    leaf.add_option("--config", options->config, "JSON object, or @FILE");
    return [options] { return call(*options); };
  });
  add_leaf(app, "list", "list the plugins in the given folders, or the installed ones", [](CLI::App& leaf) -> Action {
    auto folders = std::make_shared<std::vector<std::string>>();
    auto json = std::make_shared<bool>(false);
    leaf.add_option("FOLDER", *folders, "where to look");
    leaf.add_flag("--json", *json, "print one JSON document");
    return [folders, json] { return list(*folders, *json); };
  });
  add_leaf(app, "new", "write a plugin project that builds and tests alone", [](CLI::App& leaf) -> Action {
    auto name = std::make_shared<std::string>();
    auto folder = std::make_shared<std::string>();
    auto json = std::make_shared<bool>(false);
    leaf.add_option("NAME", *name, "name of the plugin: [a-z][a-z0-9_]*")->required();
    leaf.add_option("--dir", *folder, "folder to write to (default: NAME)");
    auto in_c = std::make_shared<bool>(false);
    leaf.add_flag("--c", *in_c, "in C over the ABI itself, not in C++ over the SDK");
    leaf.add_flag("--json", *json, "print one JSON document");
    return [name, folder, in_c, json] { return create(*name, *folder, *in_c ? plugins::Language::c : plugins::Language::cpp, *json); };
  });
  add_leaf(app, "build", "build a plugin project with CMake, in its folder build/", [](CLI::App& leaf) -> Action {
    auto folder = std::make_shared<std::string>();
    leaf.add_option("FOLDER", *folder, "the project")->required();
    return [folder] { return build(*folder); };
  });
  return {};
}};

}  // namespace
}  // namespace kontor::agent::cli
