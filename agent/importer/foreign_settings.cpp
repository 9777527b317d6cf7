#include "agent/importer/foreign_settings.hpp"

#include "agent/importer/placeholders.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace kontor::agent {
namespace {

/// Does a variable or header of this name hold something that nobody else should read?
bool names_secret(std::string_view name) {
  static constexpr std::array<std::string_view, 9> kWords{"KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH", "COOKIE", "PAT"};
  const std::string upper = "_" + variable_name(name) + "_";
  return std::any_of(kWords.begin(), kWords.end(), [&](std::string_view word) {
    // KEY in KEYBOARD_LAYOUT is no key.
    for (std::size_t at = upper.find(word); at != std::string::npos; at = upper.find(word, at + 1)) {
      const bool ends = upper[at + word.size()] == '_' || upper.compare(at + word.size(), 2, "S_") == 0 || word == "AUTH";
      if (ends && (word != "PAT" || upper[at - 1] == '_')) return true;
    }
    return false;
  });
}

}  // namespace

std::string variable_name(std::string_view text) {
  std::string id = proper_id(text, "SECRET");
  std::transform(id.begin(), id.end(), id.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return id;
}

bool holds_password(std::string_view text) {
  const auto scheme = text.find("://");
  if (scheme == std::string_view::npos) return false;
  const std::string_view authority = text.substr(scheme + 3, text.find_first_of("/?#", scheme + 3) - scheme - 3);
  const auto at = authority.rfind('@');
  return at != std::string_view::npos && authority.substr(0, at).find(':') != std::string_view::npos;
}

Json foreign_settings(Draft& draft, const ForeignFile& file, const std::string& owner, const std::string& prefix, const std::vector<Yaml::Entry>& settings, std::set<std::string>& variables) {
  Json config = Json::object();
  const auto secret = [&](const std::string& variable) {
    variables.insert(variable);
    return draft.secret(variable);
  };
  for (const auto& setting : settings) {
    const std::string key(setting.key.text());
    const auto report = [&](const char* what) { draft.unsupported(file, setting.value.offset(), "'" + shown_text(key) + "' of '" + shown_text(owner) + "' " + what); };
    if (!setting.value.is_scalar()) {
      report("is not a text");
      continue;
    }
    const std::string value(setting.value.text());
    if (value.find("{{") != std::string::npos) {
      report("holds a template");
    } else if (has_variables(value)) {
      config[key] = with_variables(value, [&](const std::string& variable, const std::string& fallback) {
        if (!fallback.empty()) draft.left_out(file, setting.value.offset(), "the default of the variable " + variable + ": a secret has none, set the variable");
        return secret(variable);
      });
    } else if (names_secret(key) || holds_password(value)) {
      const std::string variable = variable_name(prefix + key);
      config[key] = secret(variable);
      draft.left_out(file, setting.value.offset(), "the value of " + shown_text(key) + " is taken for a secret and not copied; set the environment variable " + variable);
    } else {
      config[key] = literal_text(value);
    }
  }
  return config;
}

}  // namespace kontor::agent
