#include "plugins/host/permissions.hpp"

#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>

namespace kontor::plugins {
namespace {

constexpr std::string_view kConfig = "config.";

/// The words behind a permission: itself, or what the configuration says in its place.
Result<std::vector<std::string>> values_of(std::string_view value, const Json& config) {
  if (value.substr(0, kConfig.size()) != kConfig) return std::vector<std::string>{std::string(value)};
  const std::string key(value.substr(kConfig.size()));
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return std::vector<std::string>{};
  if (found->is_string()) return std::vector<std::string>{found->get<std::string>()};
  std::vector<std::string> values;
  if (found->is_array()) {
    for (const auto& entry : *found) {
      if (entry.is_string()) values.push_back(entry.get<std::string>());
    }
    if (values.size() == found->size()) return values;
  }
  return fail(Errc::malformed, "config." + key + " is neither a text nor a list of texts, but a permission of the plugin names it", "permission");
}

std::string absolute(const std::string& path, const std::string& base_dir) {
  std::error_code ignored;
  const auto base = std::filesystem::absolute(base_dir.empty() ? "." : base_dir, ignored);
  return (base / path).lexically_normal().string();
}

}  // namespace

Result<SandboxRules> resolve_permissions(const std::vector<std::string>& permissions, std::string_view config, const std::string& base_dir,
                                         const std::string& data_dir) {
  const auto configured = parse_json(config);
  if (!configured) return configured.error();
  SandboxRules rules;
  for (const std::string_view permission : permissions) {
    const auto colon = permission.find(':');
    const auto kind = permission.substr(0, colon);
    auto values = values_of(permission.substr(colon + 1), *configured);
    if (!values) return values.error();
    for (const auto& value : *values) {
      if (kind == "read") rules.read.push_back(absolute(value, base_dir));
      if (kind == "write") {
        const auto path = absolute(value, base_dir);
        std::error_code ignored;
        rules.write.push_back(std::filesystem::is_directory(path, ignored) || path.back() == '/' ? path
                                                                                                : std::filesystem::path(path).parent_path().string());
      }
      if (kind == "network") rules.hosts.push_back(value);
      if (kind == "environment") rules.environment.push_back(value);
    }
  }
  if (!data_dir.empty()) rules.write.push_back(absolute(data_dir, "."));
  return rules;
}

Result<SandboxMode> sandbox_mode_of_environment() {
  const char* word = std::getenv("KONTOR_PLUGIN_SANDBOX");
  if (word == nullptr || *word == '\0' || std::string_view(word) == "required") return SandboxMode::required;
  if (std::string_view(word) == "partial") return SandboxMode::partial;
  return fail(Errc::usage, "KONTOR_PLUGIN_SANDBOX is \"" + std::string(word) + "\", not required or partial", "unknown_value");
}

std::string write_offer(const SandboxOffer& offer) {
  return Json{{"landlock", offer.landlock}, {"seccomp", offer.seccomp}, {"namespaces", static_cast<int>(offer.namespaces)}, {"missing", offer.missing}}.dump(
      -1, ' ', false, Json::error_handler_t::replace);
}

Result<SandboxOffer> parse_offer(std::string_view text) {
  const auto json = parse_json(text);
  const auto number = [&](const char* key) { return json && json->is_object() && json->contains(key) && json->at(key).is_number_integer() ? json->at(key).get<int>() : -1; };
  const int namespaces = number("namespaces"), landlock = number("landlock");
  if (namespaces < 0 || namespaces > 2 || landlock < 0 || !json->contains("seccomp") || !json->contains("missing") || !json->at("missing").is_string()) {
    return fail(Errc::malformed, "what the machine offers to confine plugins cannot be read", "frame");
  }
  return SandboxOffer{landlock, json->at("seccomp") == Json(true), static_cast<Namespaces>(namespaces), json->at("missing").get<std::string>()};
}

std::string write_rules(const SandboxRules& rules) {
  return Json{{"mode", static_cast<int>(rules.mode)}, {"namespaces", static_cast<int>(rules.namespaces)}, {"read", rules.read}, {"write", rules.write}, {"append", rules.append}, {"hosts", rules.hosts}}.dump(
      -1, ' ', false, Json::error_handler_t::replace);
}

Result<SandboxRules> parse_rules(std::string_view text) {
  const auto json = parse_json(text);
  const auto wrong = [] { return fail(Errc::malformed, "the rules of the sandbox cannot be read", "frame"); };
  if (!json || !json->is_object()) return wrong();
  SandboxRules rules;
  const auto mode = json->value("mode", -1);
  if (mode < 0 || mode > 2) return wrong();
  rules.mode = static_cast<SandboxMode>(mode);
  const auto namespaces = json->value("namespaces", -1);
  if (namespaces < 0 || namespaces > 2) return wrong();
  rules.namespaces = static_cast<Namespaces>(namespaces);
  for (const auto& [key, list] : {std::pair{"read", &rules.read}, std::pair{"write", &rules.write}, std::pair{"hosts", &rules.hosts}}) {
    const auto found = json->find(key);
    if (found == json->end() || !found->is_array()) return wrong();
    for (const auto& path : *found) {
      if (!path.is_string()) return wrong();
      list->push_back(path.get<std::string>());
    }
  }
  rules.append = json->value("append", "");
  return rules;
}

}  // namespace kontor::plugins
