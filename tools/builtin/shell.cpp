// builtin.shell: programs by name and argument list. There is no shell: nothing is expanded, piped or redirected.

#include "tools/builtin/child.hpp"
#include "tools/builtin/confined.hpp"
#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"
#include "tools/nearest.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>

namespace kontor::tools {
namespace {

constexpr std::size_t kArgumentsMax = 256;

struct Shell {
  std::map<std::string, std::string> programs;  ///< Allowed names to absolute paths.
  Root folder;
  std::vector<std::string> readable, writable;
  std::map<std::string, std::string> environment;
  bool network = false;
  ChildLimits limits;
};

ToolSpec run_spec(const std::string& group) {
  ToolSpec spec;
  spec.name = group + ".run";
  spec.description = "Runs a program with arguments and returns what it wrote. There is no shell: no pipes, variables, wildcards or redirection.";
  spec.parameters = schema(R"({"type":"object","properties":{
    "argv":{"type":"array","items":{"type":"string","maxLength":65536},"minItems":1,"maxItems":256,"description":"The program and its arguments, for example [\"git\", \"log\", \"-1\"]"},
    "input":{"type":"string","description":"Text for its standard input"},
    "folder":{"type":"string","description":"Where it starts, relative to the tool's folder"}},
    "required":["argv"],"additionalProperties":false})");
  spec.result = schema(R"({"type":"object","properties":{"stdout":{"type":"string"},"stderr":{"type":"string"},"exit_code":{"type":"integer"},
    "cut":{"type":"boolean"}},"required":["stdout","stderr","exit_code","cut"]})");
  spec.effect = Effect::once;
  spec.untrusted_output = true;
  spec.timeout_ms = 600'000;
  return spec;
}

/// Bytes that are not UTF-8 become U+FFFD: results are JSON.
std::string as_utf8(std::string_view text) {
  std::string out;
  while (const auto bad = invalid_utf8(text)) {
    out.append(text.substr(0, *bad)).append("\xef\xbf\xbd");
    text.remove_prefix(*bad + 1);
  }
  return out.append(text);
}

constexpr std::size_t kToldBytes = 256;

ToolResult run(const Shell& shell, const Json& arguments, const CallContext& context) {
  const auto argv = arguments["argv"].get<std::vector<std::string>>();
  const auto program = shell.programs.find(argv[0]);
  if (program == shell.programs.end()) {
    std::vector<std::string> names;
    for (const auto& [name, path] : shell.programs) names.push_back(name);
    std::string message = "argument 'argv[0]': '" + argv[0].substr(0, 80) + "' is not among the allowed commands (";
    for (std::size_t i = 0; i < names.size(); ++i) message += (i > 0 ? ", " : "") + names[i];
    return ToolResult::error("denied", message + ")");
  }
  for (const auto& argument : argv)
    if (argument.find('\0') != std::string::npos) return ToolResult::error("invalid_arguments", "argument 'argv': a NUL character cannot be passed to a program");
  ChildSetup setup;
  setup.program = program->second;
  setup.arguments.assign(argv.begin() + 1, argv.end());
  setup.folder = shell.folder.path;
  if (arguments.contains("folder")) {
    const auto inside = normal_path(arguments["folder"].get<std::string>());
    if (!inside) return error_result(inside.error());
    if (inside->starts_with('/')) return ToolResult::error("denied", "argument 'folder': a path relative to the tool's folder was expected");
    setup.folder += "/" + *inside;
    std::error_code unreadable;
    const auto real = std::filesystem::canonical(setup.folder, unreadable);
    const auto root = std::filesystem::canonical(shell.folder.path, unreadable);
    if (unreadable || std::mismatch(root.begin(), root.end(), real.begin(), real.end()).first != root.end())
      return ToolResult::error("denied", "argument 'folder': '" + *inside + "' is not a folder below the tool's folder");
    if (!std::filesystem::is_directory(real, unreadable)) return ToolResult::error("not_found", "argument 'folder': '" + *inside + "' is not a folder");
    setup.folder = real.string();
  }
  setup.environment = shell.environment;
  setup.readable = shell.readable;
  setup.writable = shell.writable;
  setup.network = shell.network;
  setup.limits = shell.limits;
  if (arguments.contains("input")) setup.input_text = arguments["input"].get<std::string>();
  // Whole lines are told: the result begins with them, whatever comes.
  std::size_t told = 0;
  if (context.partial)
    setup.on_output = [&context, &told](std::string_view out) {
      const auto line_end = out.rfind('\n');
      // Seldom enough that long outputs are not written again for each of their lines.
      if (line_end == std::string_view::npos || line_end < told + std::max(kToldBytes, told / 8)) return;
      told = line_end;
      const std::string text = spaced_json(Json{{"stdout", as_utf8(out.substr(0, line_end + 1))}});
      context.partial(std::string_view(text).substr(0, text.size() - 2));  // Without the quote and the brace.
    };
  auto result = run_child(setup, context.stop);
  if (!result) return error_result(result.error());
  return ToolResult::ok(Json{{"stdout", as_utf8(result->out)}, {"stderr", as_utf8(result->err)}, {"exit_code", result->exit_code}, {"cut", result->cut}});
}

Error wrong(const std::string& group, const std::string& what) { return fail(Errc::usage, "tools." + group + "." + what, "tool_settings"); }

Result<std::vector<std::string>> texts_setting(const Json& settings, const std::string& group, const std::string& key) {
  std::vector<std::string> out;
  const auto found = settings.find(key);
  if (found == settings.end() || found->is_null()) return out;
  if (!found->is_array()) return wrong(group, key + " is a list of texts");
  for (const auto& text : *found) {
    if (!text.is_string()) return wrong(group, key + " is a list of texts");
    out.push_back(text.get<std::string>());
  }
  return out;
}

}  // namespace

std::vector<ToolSpec> describe_shell(const std::string& group) { return {run_spec(group)}; }

Result<Tools> make_shell(const std::string& group, const Json& settings, const BuiltinContext& context) {
  if (auto checked = check_settings(settings, group, {"commands", "root", "write", "network", "environment", "timeout_ms", "max_output", "memory_mb"}); !checked) return checked.error();
  auto shell = std::make_shared<Shell>();
  const auto commands = texts_setting(settings, group, "commands");
  if (!commands) return commands.error();
  if (commands->empty()) return wrong(group, "commands has to name the programs that may run, for example [git, grep]");
  for (const auto& command : *commands) {
    const bool absolute = command.starts_with('/');
    const std::string path = absolute ? command : find_program(command);
    if (path.empty()) return wrong(group, "commands: there is no program '" + command.substr(0, 80) + "' in /usr/local/bin, /usr/bin, /bin, /usr/sbin or /sbin");
    shell->programs[command] = path;
    if (absolute) shell->readable.push_back(path);
  }
  const auto root = text_setting(settings, group, "root", "."), write = text_setting(settings, group, "write", "");
  if (!root || !write) return root ? write.error() : root.error();
  shell->folder = make_root(context.folder, *root);
  shell->readable.push_back(shell->folder.path);
  for (const auto& extra : context.read_roots) shell->readable.push_back(extra);
  if (!write->empty()) shell->writable.push_back(make_root(context.folder, *write).path);
  std::vector<std::string> seen = shell->readable;
  seen.insert(seen.end(), shell->writable.begin(), shell->writable.end());
  for (const auto& secret : context.hidden)
    for (const auto& path : seen)
      if (secret == path || secret.starts_with(path + "/"))
        return wrong(group, "root: a program could read the secret in " + secret + " below " + path + "; choose another folder, or keep the secret elsewhere");
  if (const auto found = settings.find("network"); found != settings.end()) {
    if (!found->is_boolean()) return wrong(group, "network is true or false");
    // Sockets of its own are beyond what `policy.egress` and --airgap can judge.
    shell->network = found->get<bool>() && !context.egress.restricted();
  }
  const auto names = texts_setting(settings, group, "environment");
  if (!names) return names.error();
  shell->environment = {{"PATH", "/usr/local/bin:/usr/bin:/bin"}, {"LANG", "C.UTF-8"}, {"HOME", shell->folder.path}};
  for (const auto& name : *names)
    if (const char* value = std::getenv(name.c_str())) shell->environment[name] = value;
  const auto timeout = number_setting(settings, group, "timeout_ms", 30'000, 600'000), output = number_setting(settings, group, "max_output", 1 << 20, 16 << 20),
             memory = number_setting(settings, group, "memory_mb", 2048, 1 << 20);
  if (!timeout) return timeout.error();
  if (!output) return output.error();
  if (!memory) return memory.error();
  shell->limits.timeout_ms = *timeout;
  shell->limits.output_bytes = static_cast<std::size_t>(*output);
  shell->limits.memory_bytes = static_cast<std::size_t>(*memory) << 20;
  Tools tools;
  tools.push_back(std::make_shared<FunctionTool>(run_spec(group), [shell](const Json& arguments, const CallContext& call) { return run(*shell, arguments, call); }));
  return tools;
}

}  // namespace kontor::tools
