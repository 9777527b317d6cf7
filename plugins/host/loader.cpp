#include "plugins/host/loader.hpp"

#include "plugins/host/library.hpp"
#include "plugins/host/network.hpp"
#include "plugins/host/plugin_tool.hpp"
#include "tools/schema.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <optional>

namespace kontor::plugins {
namespace {

constexpr std::int64_t kTimeoutMs = 30'000;

std::optional<tools::Effect> effect_named(std::string_view word) {
  if (word == "none") return tools::Effect::none;
  if (word == "idempotent") return tools::Effect::idempotent;
  if (word == "once") return tools::Effect::once;
  return std::nullopt;
}

bool is_hash(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

Result<Json> read_schema(const std::string& text, const std::string& place) {
  auto schema = parse_json(text);
  if (!schema) return fail(Errc::malformed, place + " is not valid JSON: " + schema.error().describe(), "schema");
  if (!schema->is_object()) return fail(Errc::malformed, place + " is not a JSON object", "schema");
  if (const auto compiled = tools::Schema::compile(*schema); !compiled) {
    return fail(Errc::malformed, place + " cannot be used: " + compiled.error().describe(), "schema");
  }
  return schema;
}

/// `here`: the plugin's code runs in this process.
Result<tools::ToolSpec> make_spec(const DeclaredTool& tool, const std::string& group, bool here) {
  const std::string place = "tool \"" + tool.name + "\": ";
  tools::ToolSpec spec;
  spec.name = group + "." + tool.name;
  spec.description = tool.description;
  auto parameters = read_schema(tool.parameters, place + "the schema of its parameters");
  if (!parameters) return parameters.error();
  if (const auto type = parameters->find("type"); type == parameters->end() || !type->is_string() || *type != "object") {
    return fail(Errc::malformed, place + "the schema of its parameters does not say \"type\": \"object\"", "schema");
  }
  spec.parameters = std::move(*parameters);
  if (!tool.result.empty()) {
    auto result = read_schema(tool.result, place + "the schema of its result");
    if (!result) return result.error();
    spec.result = std::move(*result);
  }
  spec.effect = static_cast<tools::Effect>(tool.effect);
  spec.has_probe = tool.has_probe;
  spec.untrusted_output = tool.untrusted_output;
  spec.at_once = here && tool.at_once;
  spec.timeout_ms = tool.timeout_ms > 0 ? tool.timeout_ms : kTimeoutMs;
  return spec;
}

Result<void> tighten(std::vector<tools::ToolSpec>& specs, const std::string& group, const std::map<std::string, std::string>& effects) {
  for (const auto& [function, word] : effects) {
    const auto effect = effect_named(word);
    if (!effect) return fail(Errc::usage, "effect \"" + word + "\" is not none, idempotent or once", "unknown_value");
    const auto spec = std::find_if(specs.begin(), specs.end(), [full = group + "." + function](const auto& s) { return s.name == full; });
    if (spec == specs.end()) return fail(Errc::usage, "effects: the plugin has no tool \"" + function + "\"", "unknown_tool");
    if (*effect < spec->effect) {
      return fail(Errc::denied, "effects: " + spec->name + " declares a stricter effect than " + word + "; a setting may only tighten it", "loosened_effect");
    }
    spec->effect = *effect;
  }
  return {};
}

Result<std::shared_ptr<Instance>> start(LibraryImage image, const PluginOptions& options) {
  InstanceSetup setup{options.config.dump(-1, ' ', false, Json::error_handler_t::replace), options.data_dir, options.base_dir, options.log_path, {}, false, options.egress};
  if (!options.data_dir.empty()) {
    std::error_code status;
    std::filesystem::create_directories(options.data_dir, status);
    if (status) return fail(Errc::io, "make folder " + options.data_dir + ": " + status.message(), "system");
    if (setup.log_path.empty()) setup.log_path = options.data_dir + "/plugin.log";
  }
  if (options.isolation == Isolation::process) {
    auto instance = start_process(std::move(image), setup, options.process);
    if (!instance) return instance.error();
    return std::shared_ptr<Instance>(std::move(*instance));
  }
  const auto entry = open_in_process(image);
  if (!entry) return entry.error();
  const auto declared = read_declaration(**entry);
  if (!declared) return declared.error();
  const auto rules = resolve_permissions(declared->permissions, setup.config, setup.base_dir, setup.data_dir);
  if (!rules) return rules.error();
  if (!rules->hosts.empty()) {
    setup.connect = [hosts = rules->hosts, egress = options.egress](const std::string& name, std::uint16_t port, std::int64_t timeout_ms) { return connect_declared(hosts, egress, name, port, timeout_ms); };
  }
  auto instance = create_instance(**entry, setup);
  if (!instance) return instance.error();
  return std::shared_ptr<Instance>(std::move(*instance));
}

Result<LibraryImage> read_image(const PluginOptions& options) {
  if (!options.sha256.empty() && !is_hash(options.sha256)) {
    return fail(Errc::usage, "the pin of plugin " + options.path + " is not a SHA-256 of 64 hexadecimal digits", "bad_format");
  }
  if (!options.config.is_object()) return fail(Errc::usage, "the config of plugin " + options.path + " is not a mapping", "wrong_type");
  return LibraryImage::read(options.path, options.sha256);
}

Result<LoadedPlugin> describe(const Declaration& declaration, const PluginOptions& options, std::string sha256) {
  LoadedPlugin loaded;
  loaded.name = declaration.name;
  loaded.version = declaration.version;
  loaded.description = declaration.description;
  loaded.sha256 = std::move(sha256);
  loaded.permissions = declaration.permissions;
  const std::string group = options.group.empty() ? declaration.name : options.group;
  for (const auto& tool : declaration.tools) {
    // Calls of a serial plugin wait for each other.
    auto spec = make_spec(tool, group, options.isolation == Isolation::in_process && !declaration.serial);
    if (!spec) return spec.error();
    spec->ends_on_stop = options.isolation == Isolation::process;
    loaded.specs.push_back(std::move(*spec));
  }
  if (auto tightened = tighten(loaded.specs, group, options.effects); !tightened) return tightened.error();
  return loaded;
}

}  // namespace

Result<PluginOptions> plugin_options(const std::string& group, const Json& settings) {
  PluginOptions options;
  options.group = group;
  if (!settings.is_object()) return fail(Errc::usage, "the settings of plugin " + group + " are not a mapping", "wrong_type");
  for (const auto& [key, value] : settings.items()) {
    const std::string place = "tools." + group + "." + key;
    if (key == "config") {
      if (!value.is_object() && !value.is_null()) return fail(Errc::usage, place + " is not a mapping", "wrong_type");
      if (value.is_object()) options.config = value;
      continue;
    }
    if (key == "use" || key == "effects") continue;
    if (key != "library" && key != "sha256" && key != "isolation") return fail(Errc::usage, place + " is not known for plugins", "unknown_key");
    if (!value.is_string()) return fail(Errc::usage, place + " is not a text", "wrong_type");
    const auto text = value.get<std::string>();
    if (key == "library") options.path = text;
    if (key == "sha256") options.sha256 = text;
    if (key == "isolation" && text != "process" && text != "in_process") {
      return fail(Errc::usage, place + " is \"" + text + "\", not process or in_process", "unknown_value");
    }
    if (key == "isolation" && text == "in_process") options.isolation = Isolation::in_process;
  }
  if (options.path.empty()) return fail(Errc::usage, "tools." + group + ".library is missing", "missing_key");
  return options;
}

Result<LoadedPlugin> load_plugin(const PluginOptions& options) {
  auto image = read_image(options);
  if (!image) return image.error();
  if (options.isolation == Isolation::in_process && options.sha256.empty()) {
    return fail(Errc::denied, "plugin " + options.path + " would run inside Kontor without a pin; add \"sha256: " + image->sha256() +
                "\" when this is the file you trust, or use isolation: process", "pin_missing");
  }
  const std::string sha256 = image->sha256();
  auto started = start(std::move(*image), options);
  if (!started) return started.error();
  const std::shared_ptr<Instance> instance = std::move(*started);
  auto loaded = describe(instance->declaration(), options, sha256);
  if (!loaded) return loaded.error();
  for (std::size_t i = 0; i < loaded->specs.size(); ++i) loaded->tools.push_back(make_plugin_tool(instance, i, loaded->specs[i]));
  loaded->instance = instance;
  return loaded;
}

Result<LoadedPlugin> inspect_plugin(const PluginOptions& options) {
  auto image = read_image(options);
  if (!image) return image.error();
  const std::string sha256 = image->sha256();
  InstanceSetup setup;
  setup.declare_only = true;
  const auto instance = start_process(std::move(*image), setup, options.process);
  if (!instance) return instance.error();
  return describe((*instance)->declaration(), options, sha256);
}

}  // namespace kontor::plugins
