#pragma once
// Placeholders in foreign texts: environment variables, parameters.

#include "agent/importer/draft.hpp"

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace kontor::agent {

/// A text being put together of pieces that stand for themselves and of expressions.
class TextBuilder {
 public:
  void literal(std::string_view text) { literal_ += text; }
  /// "inputs.x" becomes "${inputs.x}".
  void expression(const std::string& text) { raw("${" + text + "}"); }
  /// Written as it is: an expression in its braces, the handle of a secret.
  void raw(const std::string& text);
  std::string text();

 private:
  std::string out_, literal_;
};

/// Finds $NAME, ${NAME}, ${env.NAME}, ${env:NAME} and ${NAME:-default}. `replace` is called with the name and the default
/// and returns what is written instead; everything between stands for itself ("${" as "$${").
std::string with_variables(std::string_view text, const std::function<std::string(const std::string& name, const std::string& fallback)>& replace);
bool has_variables(std::string_view text);

/// Each "{name}" becomes an expression of an input; other braces stand for themselves.
std::string with_braces(std::string_view text, const std::function<std::string(const std::string& name)>& declare);

}  // namespace kontor::agent
