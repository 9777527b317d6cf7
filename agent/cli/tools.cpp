// kontor tools: what can be called, and calling it by hand.

#include "agent/cli/command.hpp"
#include "agent/spec/spec.hpp"
#include "base/json.hpp"
#include "tools/builtin/builtin.hpp"
#include "tools/registry.hpp"
#include "tools/tightened.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>

namespace kontor::agent::cli {
namespace {

struct Options {
  std::string file, name, arguments = "{}", root = ".", write;
  bool json = false;
};

Json spec_json(const tools::ToolSpec& spec, const std::string& use) {
  return {{"name", spec.name}, {"use", use}, {"description", spec.description}, {"effect", std::string(to_string(spec.effect))},
          {"untrusted_output", spec.untrusted_output}, {"timeout_ms", spec.timeout_ms}, {"parameters", spec.parameters}, {"result", spec.result}};
}

std::string text_of(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// "(path, pattern?)"
std::string signature(const tools::ToolSpec& spec) {
  std::string out = "(";
  const auto properties = spec.parameters.find("properties");
  if (properties == spec.parameters.end()) return out + ")";
  for (const auto& property : properties->items()) {
    bool required = false;
    for (const auto& name : spec.parameters.value("required", Json::array())) required = required || name == property.key();
    out += (out.size() > 1 ? ", " : "") + property.key() + (required ? "" : "?");
  }
  return out + ")";
}

struct Listed {
  tools::ToolSpec spec;
  std::string use;
};

int list(const Options& options) {
  std::vector<Listed> all;
  Json others = Json::array();  // Groups whose functions are only known by running code.
  if (options.file.empty()) {
    for (const auto& use : tools::builtin_names()) {
      const auto specs = tools::describe_builtin(use, use.substr(use.find('.') + 1));
      for (const auto& spec : *specs) all.push_back({spec, use});
    }
  } else {
    const auto checked = check_file(options.file);
    if (!checked.spec) {
      for (const auto& diagnostic : checked.diagnostics) {
        std::fprintf(stderr, "%s:%lld:%lld: %s\n", options.file.c_str(), static_cast<long long>(diagnostic.line), static_cast<long long>(diagnostic.column), diagnostic.message.c_str());
      }
      return kUsage;
    }
    for (const auto& entry : checked.spec->tools) {
      const auto specs = tools::describe_builtin(entry.use, entry.name);
      if (!specs) {
        others.push_back(Json{{"group", entry.name}, {"use", entry.use}});
        continue;
      }
      for (auto spec : *specs) {
        if (const auto tight = entry.effects.find(spec.name.substr(entry.name.size() + 1)); tight != entry.effects.end()) {
          if (const auto effect = tools::effect_named(tight->second)) spec.effect = *effect;
        }
        all.push_back({spec, entry.use});
      }
    }
  }
  if (options.json) {
    Json tools = Json::array();
    for (const auto& entry : all) tools.push_back(spec_json(entry.spec, entry.use));
    Json result{{"tools", std::move(tools)}};
    if (!others.empty()) result["groups"] = std::move(others);
    print_json(text_of(result));
    return kDone;
  }
  for (const auto& entry : all) {
    std::printf("%s%s  [%s]\n    %s\n", entry.spec.name.c_str(), signature(entry.spec).c_str(), std::string(to_string(entry.spec.effect)).c_str(), entry.spec.description.c_str());
  }
  for (const auto& other : others) std::printf("%s.*  (%s: its functions are known when it runs)\n", other["group"].get<std::string>().c_str(), other["use"].get<std::string>().c_str());
  return kDone;
}

Result<Json> read_arguments(const std::string& text) {
  if (!text.starts_with('@')) return parse_json(text);
  std::ifstream file(text.substr(1), std::ios::binary);
  if (!file) return fail(Errc::not_found, "open " + text.substr(1) + ": not readable");
  return parse_json(std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>()));
}

int call(const Options& options) {
  const auto arguments = read_arguments(options.arguments);
  if (!arguments) {
    print_error("the arguments are not JSON: " + arguments.error().describe());
    return kUsage;
  }
  tools::Registry registry;
  tools::BuiltinContext context;
  context.folder = options.root;
  for (const auto& use : tools::builtin_names()) {
    if (use == "builtin.memory") continue;  // Has verbs of its own.
    Json settings = Json::object();
    if (use == "builtin.files" && !options.write.empty()) settings["write"] = options.write;
    const auto made = tools::make_builtin(use, use.substr(use.find('.') + 1), settings, context);
    if (!made) {
      print_error(made.error().describe());
      return kUsage;
    }
    for (const auto& tool : *made) {
      if (const auto added = registry.add(tool); !added) {
        print_error(added.error().describe());
        return kFailed;
      }
    }
  }
  tools::CallContext call_context;
  call_context.run_id = "command-line";
  call_context.call_id = "1";
  const auto result = registry.call(options.name, *arguments, call_context);
  if (options.json) {
    Json out{{"ok", !result.is_error}};
    if (result.is_error) out["error"] = Json{{"kind", result.error_kind}, {"message", result.value.value("error", std::string())}};
    else out["value"] = result.value;
    print_json(text_of(out));
  } else if (result.is_error) {
    print_error(options.name + ": " + result.value.value("error", std::string()));
  } else {
    print_json(result.value.dump(2, ' ', false, Json::error_handler_t::replace));
  }
  if (!result.is_error) return kDone;
  return result.error_kind == "unknown_tool" || result.error_kind == "invalid_arguments" ? kUsage : kFailed;
}

const Verb verb{"tools", "list tools and call them by hand", [](CLI::App& app) -> Action {
  add_leaf(app, "list", "list the built-in tools, or those of an agent file", [](CLI::App& leaf) -> Action {
    auto options = std::make_shared<Options>();
    leaf.add_option("file", options->file, "Agent file");
    leaf.add_flag("--json", options->json, "Print JSON with the schemas");
    return [options] { return list(*options); };
  });
  add_leaf(app, "call", "call a built-in tool", [](CLI::App& leaf) -> Action {
    auto options = std::make_shared<Options>();
    leaf.add_option("name", options->name, "For example files.list")->required();
    leaf.add_option("arguments", options->arguments, "A JSON object, or @FILE")->capture_default_str();
    leaf.add_option("--root", options->root, "Folder that tools may read")->capture_default_str();
    leaf.add_option("--write", options->write, "Folder that tools may write, relative to the root (default: none)");
    leaf.add_flag("--json", options->json, "Print JSON with ok and value or error");
    return [options] { return call(*options); };
  });
  return {};
}};

}  // namespace
}  // namespace kontor::agent::cli
