#include "tools/builtin/function_tool.hpp"

#include "tools/nearest.hpp"

#include <algorithm>

namespace kontor::tools {

ToolResult error_result(const Error& error) { return ToolResult::error(std::string(to_string(error.code)), error.describe()); }

Result<void> check_settings(const Json& settings, const std::string& group, const std::vector<std::string>& known) {
  if (!settings.is_object()) return fail(Errc::usage, "the settings of tools." + group + " are not a mapping", "tool_settings");
  for (const auto& entry : settings.items()) {
    if (std::find(known.begin(), known.end(), entry.key()) != known.end()) continue;
    std::string message = "tools." + group + " has no setting '" + entry.key().substr(0, 80) + "'";
    if (const auto near = nearest(entry.key(), known); !near.empty()) message += " (did you mean '" + near + "'?)";
    return fail(Errc::usage, std::move(message), "tool_settings");
  }
  return {};
}

Result<std::string> text_setting(const Json& settings, const std::string& group, const std::string& key, const std::string& fallback) {
  const auto found = settings.find(key);
  if (found == settings.end() || found->is_null()) return fallback;
  if (!found->is_string()) return fail(Errc::usage, "tools." + group + "." + key + " is a text", "tool_settings");
  return found->get<std::string>();
}

Result<std::int64_t> number_setting(const Json& settings, const std::string& group, const std::string& key, std::int64_t fallback,
                                    std::int64_t most) {
  const auto found = settings.find(key);
  if (found == settings.end() || found->is_null()) return fallback;
  const bool whole = found->is_number_integer() && !(found->is_number_unsigned() && found->get<std::uint64_t>() > static_cast<std::uint64_t>(most));
  if (!whole || found->get<std::int64_t>() < 1 || found->get<std::int64_t>() > most) {
    return fail(Errc::usage, "tools." + group + "." + key + " is a whole number from 1 to " + std::to_string(most), "tool_settings");
  }
  return found->get<std::int64_t>();
}

}  // namespace kontor::tools
