#include "agent/importer/placeholders.hpp"

#include <algorithm>

namespace kontor::agent {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name_character(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }

constexpr std::size_t kFallbackBytesMax = 4096;  ///< So that what is never closed does not search the whole text each time.

struct Variable {
  std::size_t end = 0;
  std::string name, fallback;
};

/// The variable that begins at `at`, if any.
std::optional<Variable> variable_at(std::string_view text, std::size_t at) {
  if (text[at] != '$' || at + 1 >= text.size()) return std::nullopt;
  const bool braces = text[at + 1] == '{';
  std::size_t begin = at + 1 + (braces ? 1 : 0);
  if (braces && (text.substr(begin, 4) == "env." || text.substr(begin, 4) == "env:" || text.substr(begin, 4) == "ENV:")) begin += 4;
  std::size_t end = begin;
  while (end < text.size() && is_name_character(text[end])) ++end;
  if (end == begin || !is_letter(text[begin])) return std::nullopt;
  Variable found{end, std::string(text.substr(begin, end - begin)), {}};
  if (!braces) return found;
  if (text.substr(end, 2) == ":-") {
    const std::size_t length = text.substr(end, kFallbackBytesMax).find('}');
    if (length == std::string_view::npos) return std::nullopt;
    const std::size_t close = end + length;
    found.fallback = text.substr(end + 2, close - end - 2);
    end = close;
  }
  if (end >= text.size() || text[end] != '}') return std::nullopt;
  found.end = end + 1;
  return found;
}

/// The name at the front of a text; "" where there is none.
std::string_view name_at(std::string_view text) {
  if (text.empty() || !is_letter(text[0])) return {};
  const auto end = std::find_if_not(text.begin(), text.end(), is_name_character);
  return text.substr(0, static_cast<std::size_t>(end - text.begin()));
}

}  // namespace

void TextBuilder::raw(const std::string& text) {
  const bool dollar = !literal_.empty() && literal_.back() == '$';
  if (dollar) literal_.pop_back();
  out_ += literal_text(literal_);
  literal_.clear();
  if (dollar) out_ += "${'$'}";  // or it would belong to what follows
  out_ += text;
}

std::string TextBuilder::text() {
  out_ += literal_text(literal_);
  literal_.clear();
  return std::move(out_);
}

bool has_variables(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (variable_at(text, i)) return true;
  }
  return false;
}

std::string with_variables(std::string_view text, const std::function<std::string(const std::string&, const std::string&)>& replace) {
  TextBuilder builder;
  for (std::size_t i = 0; i < text.size();) {
    const auto variable = variable_at(text, i);
    if (variable) builder.raw(replace(variable->name, variable->fallback));
    else builder.literal(text.substr(i, 1));
    i = variable ? variable->end : i + 1;
  }
  return builder.text();
}

std::string with_braces(std::string_view text, const std::function<std::string(const std::string&)>& declare) {
  TextBuilder builder;
  for (std::size_t i = 0; i < text.size();) {
    const std::string_view name = text[i] == '{' ? name_at(text.substr(i + 1)) : std::string_view();
    const std::size_t close = i + 1 + name.size();
    if (name.empty() || close >= text.size() || text[close] != '}') {
      builder.literal(text.substr(i++, 1));
      continue;
    }
    builder.expression("inputs." + declare(std::string(name)));
    i = close + 1;
  }
  return builder.text();
}

}  // namespace kontor::agent
