#pragma once
// Environments of programs and headers of requests in foreign files: what is a secret there does not come along.

#include "agent/importer/draft.hpp"

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

/// Upper case, letters, digits, '_': the name of an environment variable.
std::string variable_name(std::string_view text);
/// Is it an address "scheme://user:password@host"?
bool holds_password(std::string_view text);

/// `settings` as a `config:`. Values that are secrets (placeholders of variables, keys, tokens) are not copied: they become
/// handles of secrets from the environment, whose variables are put into `variables`. `prefix` goes before the names of
/// variables made of keys, for headers, which are called the same everywhere. What cannot be carried over is reported.
Json foreign_settings(Draft& draft, const ForeignFile& file, const std::string& owner, const std::string& prefix, const std::vector<Yaml::Entry>& settings, std::set<std::string>& variables);

}  // namespace kontor::agent
