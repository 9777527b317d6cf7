#pragma once
// Members of what events, decisions and options are made of.

#include "base/json.hpp"

#include <string>

namespace kontor::agent {

/// The text of a member; "" when there is none, or `data` is no object.
inline std::string text_of(const Json& data, const char* key) {
  const auto found = data.find(key);
  return found != data.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace kontor::agent
