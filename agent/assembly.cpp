#include "agent/assembly.hpp"

#include "base/decimal.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace kontor::agent {
namespace {

namespace fs = std::filesystem;

bool is_path_type(const InputSpec& input) { return input.type == "file" || input.type == "dir"; }

Result<Json> resolve_path(const InputSpec& input, const std::string& text, const std::vector<std::string>& folders) {
  std::string tried;
  for (const auto& folder : folders) {
    const fs::path path = fs::path(text).is_absolute() ? fs::path(text) : fs::path(folder) / text;
    std::error_code code;
    const bool fits = input.type == "dir" ? fs::is_directory(path, code) : fs::is_regular_file(path, code);
    if (fits) {
      const fs::path real = fs::canonical(path, code);
      return Json((code ? path : real).string());
    }
    tried += (tried.empty() ? "" : " or ") + path.lexically_normal().string();
    if (fs::path(text).is_absolute()) break;
  }
  return fail(Errc::not_found, "input '" + input.name + "': no such " + (input.type == "dir" ? "folder: " : "file: ") + tried, "input");
}

Result<Json> wrong(const InputSpec& input, const std::string& got) {
  return fail(Errc::usage, "input '" + input.name + "' is a " + input.type + ", not " + got, "input");
}

/// A text of the command line as a value of the input's type.
Result<Json> typed(const InputSpec& input, const std::string& text) {
  if (input.type == "string" || is_path_type(input)) return Json(text);
  if (input.type == "boolean") {
    if (text == "true") return Json(true);
    if (text == "false") return Json(false);
    return wrong(input, "'" + text + "' (true or false)");
  }
  if (input.type == "number" || input.type == "integer") {
    const auto number = Decimal::parse(text);
    auto value = number ? parse_json(number->to_string()) : Result<Json>(number.error());
    if (!value || !value->is_number() || (input.type == "integer" && !value->is_number_integer())) return wrong(input, "'" + text + "'");
    return value;
  }
  auto value = parse_json(text);
  if (!value || (input.type == "list" ? !value->is_array() : !value->is_object())) return wrong(input, "'" + text + "' (write it as JSON)");
  return value;
}

bool fits(const InputSpec& input, const Json& value) {
  if (input.type == "string" || is_path_type(input)) return value.is_string();
  if (input.type == "boolean") return value.is_boolean();
  if (input.type == "integer") return value.is_number_integer();
  if (input.type == "number") return value.is_number();
  if (input.type == "list") return value.is_array();
  if (input.type == "object") return value.is_object();
  return true;
}

Result<Json> finish_inputs(const Spec& spec, const std::map<std::string, Json>& given, const std::vector<std::string>& folders) {
  Json inputs = Json::object();
  for (const auto& input : spec.inputs) {
    const auto found = given.find(input.name);
    Json value = nullptr;
    bool from_file = false;
    if (found != given.end()) {
      value = found->second;
    } else if (input.default_value) {
      value = *input.default_value;
      from_file = true;
    } else if (input.required) {
      return fail(Errc::usage, "input '" + input.name + "' is missing; give it with --input " + input.name + "=...", "input");
    } else {
      inputs[input.name] = nullptr;
      continue;
    }
    if (!fits(input, value)) return wrong(input, spaced_json(value));
    if (is_path_type(input)) {
      auto path = resolve_path(input, value.get<std::string>(), from_file ? std::vector<std::string>{spec.folder} : folders);
      if (!path) return path.error();
      value = std::move(*path);
    }
    inputs[input.name] = std::move(value);
  }
  return inputs;
}

Error unknown_input(const Spec& spec, const std::string& name) {
  std::string known;
  for (const auto& input : spec.inputs) known += (known.empty() ? "" : ", ") + input.name;
  return fail(Errc::usage, "there is no input '" + name + "'; " + (known.empty() ? "the file declares none" : "the inputs are " + known), "input");
}

/// Replaces {{secret:NAME}} in every text of a value; false when one of them has no value.
bool fill_secrets(Json& value, const std::map<std::string, std::string>& secrets) {
  if (value.is_string()) {
    std::string text = value.get<std::string>();
    for (const auto& [name, secret] : secrets) {
      const std::string handle = "{{secret:" + name + "}}";
      for (auto at = text.find(handle); at != std::string::npos; at = text.find(handle, at + secret.size())) text.replace(at, handle.size(), secret);
    }
    value = text;
    return text.find("{{secret:") == std::string::npos;
  }
  bool complete = true;
  if (value.is_structured()) {
    for (auto& member : value) complete = fill_secrets(member, secrets) && complete;
  }
  return complete;
}

/// The same path below another folder, when it lies below `from`.
std::string rebased(const std::string& path, const std::string& from, const std::string& to) {
  const fs::path relative = fs::path(path).lexically_normal().lexically_relative(fs::path(from).lexically_normal());
  if (relative.empty() || *relative.begin() == "..") return path;
  return (fs::path(to) / relative).string();
}

/// A tool whose effect the agent file made stricter.
class Tightened final : public tools::Tool {
 public:
  Tightened(std::shared_ptr<tools::Tool> tool, tools::Effect effect) : tool_(std::move(tool)), spec_(tool_->spec()) { spec_.effect = effect; }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::ToolResult call(const Json& arguments, const tools::CallContext& context) override { return tool_->call(arguments, context); }
  tools::Probe probe(const Json& arguments, const tools::CallContext& context) override { return tool_->probe(arguments, context); }

 private:
  std::shared_ptr<tools::Tool> tool_;
  tools::ToolSpec spec_;
};

Result<std::shared_ptr<tools::Tool>> tightened(const ToolEntry& entry, std::shared_ptr<tools::Tool> tool) {
  const std::string& name = tool->spec().name;
  const auto wanted = entry.effects.find(name.size() > entry.name.size() ? name.substr(entry.name.size() + 1) : name);
  if (wanted == entry.effects.end()) return tool;
  const auto effect = wanted->second == "once" ? tools::Effect::once : wanted->second == "idempotent" ? tools::Effect::idempotent : tools::Effect::none;
  if (effect < tool->spec().effect) {
    return fail(Errc::usage, name + ": its effect is " + std::string(tools::to_string(tool->spec().effect)) + " and cannot be loosened to " + wanted->second, "loosened_effect");
  }
  if (effect == tool->spec().effect) return tool;
  return std::shared_ptr<tools::Tool>(std::make_shared<Tightened>(std::move(tool), effect));
}

}  // namespace

Result<Json> resolve_inputs(const Spec& spec, const std::map<std::string, std::string>& given, const std::string& working_folder) {
  std::map<std::string, Json> values;
  for (const auto& [name, text] : given) {
    const auto input = std::find_if(spec.inputs.begin(), spec.inputs.end(), [&name = name](const InputSpec& candidate) { return candidate.name == name; });
    if (input == spec.inputs.end()) return unknown_input(spec, name);
    auto value = typed(*input, text);
    if (!value) return value.error();
    values[name] = std::move(*value);
  }
  return finish_inputs(spec, values, {working_folder, spec.folder});
}

Result<Json> resolve_inputs(const Spec& spec, const Json& given) {
  std::map<std::string, Json> values;
  for (const auto& [name, value] : given.items()) {
    const auto input = std::find_if(spec.inputs.begin(), spec.inputs.end(), [&name = name](const InputSpec& candidate) { return candidate.name == name; });
    if (input == spec.inputs.end()) return unknown_input(spec, name);
    values[name] = value;
  }
  return finish_inputs(spec, values, {spec.folder});
}

Result<Json> procedure_inputs(const ProcedureSpec& procedure, const Json& with) {
  Json inputs = Json::object();
  for (const auto& input : procedure.inputs) {
    const auto given = with.find(input.name);
    Json value = given != with.end() ? *given : input.default_value.value_or(Json(nullptr));
    if (value.is_null() && input.required) return fail(Errc::usage, "procedure '" + procedure.name + "': the input '" + input.name + "' is missing", "input");
    if (!value.is_null() && !fits(input, value)) return wrong(input, spaced_json(value));
    inputs[input.name] = std::move(value);
  }
  return inputs;
}

Result<std::map<std::string, std::string>> load_secrets(const Spec& spec) {
  std::map<std::string, std::string> values;
  for (const auto& secret : spec.secrets) {
    if (secret.from.rfind("env:", 0) == 0) {
      const char* value = std::getenv(secret.from.c_str() + 4);
      // A secret of a part that is not used need not be there; an empty one fails where it is used.
      if (value) values[secret.name] = value;
    } else if (secret.from.rfind("file:", 0) == 0) {
      const fs::path path = fs::path(spec.folder) / secret.from.substr(5);
      std::ifstream in(path, std::ios::binary);
      if (!in) continue;
      std::string value((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
      while (!value.empty() && (value.back() == '\n' || value.back() == '\r')) value.pop_back();
      values[secret.name] = std::move(value);
    }
  }
  return values;
}

Result<void> give_key(ModelSpec& model, const Spec& spec, const std::map<std::string, std::string>& secrets) {
  if (model.api_key_secret.empty()) return {};
  if (const auto value = secrets.find(model.api_key_secret); value != secrets.end() && !value->second.empty()) {
    model.api_key = value->second;
    return {};
  }
  const auto secret = std::find_if(spec.secrets.begin(), spec.secrets.end(), [&](const SecretSpec& candidate) { return candidate.name == model.api_key_secret; });
  const std::string from = secret == spec.secrets.end() ? "" : " (" + secret->from + ")";
  return fail(Errc::not_found, "model '" + model.name + "': its api_key, the secret " + model.api_key_secret + from + ", is not there", "secret");
}

tools::Policy build_policy(const Spec& spec, const Json& inputs, std::shared_ptr<std::map<std::string, double>> confidence) {
  tools::Policy policy;
  policy.deny = spec.policy.deny;
  policy.allow = spec.policy.allow;
  policy.untrusted = spec.policy.untrusted;
  policy.trusted_only = spec.policy.trusted_only;
  for (const auto& ask : spec.policy.ask) {
    tools::AskRule rule;
    rule.tool = ask.tool;
    rule.who = ask.who;
    rule.expires_ms = ask.expires_ms;
    rule.on_expire = ask.on_expire;
    rule.people = ask.people;
    if (ask.when) {
      rule.when_text = ask.when->text();
      rule.when = [when = *ask.when, &inputs, confidence](const Json& arguments) -> Result<bool> {
        const Scope scope = [&](std::string_view name) -> const Json* { return name == "args" ? &arguments : name == "inputs" ? &inputs : nullptr; };
        const std::function<Result<double>(std::string_view)> certain = [&](std::string_view path) -> Result<double> {
          const std::string_view inside = path.rfind("args.", 0) == 0 ? path.substr(5) : path;
          const auto found = confidence->find(std::string(inside));
          if (found == confidence->end()) return fail(Errc::not_found, "the model gave no probabilities for " + std::string(path));
          return found->second;
        };
        auto value = when.evaluate(scope, certain);
        if (!value) return value.error();
        if (!value->is_boolean()) return fail(Errc::malformed, "the condition is not true or false");
        return value->get<bool>();
      };
    }
    policy.ask.push_back(std::move(rule));
  }
  return policy;
}

Result<tools::Egress> build_egress(const PolicySpec& policy, bool airgap, tools::Egress::Listener listener) {
  tools::EgressRules rules;
  rules.loopback_only = airgap;
  const auto read = [](const std::vector<std::string>& texts, std::vector<tools::HostPattern>& patterns) -> Result<void> {
    for (const auto& text : texts) {
      auto pattern = tools::HostPattern::parse(text);
      if (!pattern) return pattern.error();
      patterns.push_back(std::move(*pattern));
    }
    return {};
  };
  if (auto done = read(policy.egress_deny, rules.deny); !done) return done.error();
  if (policy.egress_allow) {
    if (auto done = read(*policy.egress_allow, rules.allow.emplace()); !done) return done.error();
  }
  return tools::Egress(std::move(rules), std::move(listener));
}

Result<std::shared_ptr<tools::Registry>> build_registry(const Spec& spec, const Json& inputs, const std::map<std::string, std::string>& secrets,
                                                        const RegistryOptions& options) {
  auto registry = std::make_shared<tools::Registry>();
  std::vector<std::string> read_roots;
  for (const auto& input : spec.inputs) {
    if (is_path_type(input) && inputs.contains(input.name) && inputs.at(input.name).is_string()) read_roots.push_back(inputs.at(input.name).get<std::string>());
  }
  const Scope scope = [&](std::string_view name) -> const Json* { return name == "inputs" ? &inputs : nullptr; };
  for (const auto& entry : spec.tools) {
    ToolRequest request;
    request.entry = &entry;
    request.spec = &spec;
    request.settings = entry.settings;
    request.read_roots = read_roots;
    request.memory = options.memory;
    request.embedder = options.embedder;
    request.clock = options.clock;
    request.egress = options.egress.named("tools." + entry.name);
    request.base_folder = options.shadow_folder.empty() ? spec.folder : options.shadow_folder;
    request.data_folder = options.state_folder + "/plugins/" + spec.name + "/" + entry.name;
    if (request.settings.contains("config")) {
      auto config = evaluate_templates(request.settings.at("config"), scope);
      if (!config) return fail(Errc::usage, "config of tool '" + entry.name + "': " + config.error().describe(), "config");
      if (!fill_secrets(*config, secrets)) {
        std::string names;
        for (const auto& secret : spec.secrets) {
          if (!secrets.contains(secret.name)) names += (names.empty() ? "" : ", ") + secret.name + " (" + secret.from + ")";
        }
        return fail(Errc::not_found, "tool '" + entry.name + "' needs a secret that has no value: " + names, "secret");
      }
      request.settings["config"] = std::move(*config);
    }
    if (!options.shadow_folder.empty() && request.settings.contains("write") && request.settings.at("write").is_string()) {
      request.settings["write"] = rebased(request.settings.at("write").get<std::string>(), spec.folder, options.shadow_folder);
    }
    auto made = options.make_tools(request);
    if (!made) return fail(made.error().code, "tool '" + entry.name + "': " + made.error().describe(), made.error().kind);
    for (auto& tool : *made) {
      auto strict = tightened(entry, std::move(tool));
      if (!strict) return strict.error();
      if (auto added = registry->add(std::move(*strict)); !added) return added.error();
    }
  }
  return registry;
}

}  // namespace kontor::agent
