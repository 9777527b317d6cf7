#pragma once
// Texts of recipes: {{ parameter }} and {% if condition %} ... {% elif %} ... {% else %} ... {% endif %}, as a template of
// an agent file.

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace kontor::agent {

/// A parameter of the recipe as an input of the agent file.
struct JinjaInput {
  std::string name;
  std::string type;  ///< Type of the input: string, number, boolean, file.
};
using JinjaInputs = std::map<std::string, JinjaInput, std::less<>>;

/// `wrong` is called with the byte and the text of whatever is not understood; that stands in the result as it is.
std::string jinja_text(std::string_view text, const JinjaInputs& inputs, const std::function<void(std::size_t at, std::string_view what)>& wrong);

}  // namespace kontor::agent
