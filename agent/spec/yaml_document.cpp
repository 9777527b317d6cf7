#include "agent/spec/yaml_document.hpp"

namespace kontor::agent {
namespace {

bool all_digits(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
  }
  return true;
}

bool is_integer(std::string_view text) {
  if (text.substr(0, 2) == "0x") return text.size() > 2 && text.find_first_not_of("0123456789abcdefABCDEF", 2) == std::string_view::npos;
  if (text.substr(0, 2) == "0o") return text.size() > 2 && text.find_first_not_of("01234567", 2) == std::string_view::npos;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  return all_digits(text);
}

/// [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?, infinities and not-a-number.
bool is_real(std::string_view text) {
  if (text == ".nan" || text == ".NaN" || text == ".NAN") return true;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  if (text == ".inf" || text == ".Inf" || text == ".INF") return true;
  if (const auto e = text.find_first_of("eE"); e != std::string_view::npos) {
    std::string_view exponent = text.substr(e + 1);
    if (!exponent.empty() && (exponent[0] == '-' || exponent[0] == '+')) exponent.remove_prefix(1);
    if (!all_digits(exponent)) return false;
    text = text.substr(0, e);
  }
  const auto point = text.find('.');
  if (point == std::string_view::npos) return all_digits(text);
  const std::string_view whole = text.substr(0, point);
  const std::string_view fraction = text.substr(point + 1);
  if (whole.empty()) return all_digits(fraction);
  return all_digits(whole) && (fraction.empty() || all_digits(fraction));
}

bool is_null_word(std::string_view text) { return text == "null" || text == "~" || text == "Null" || text == "NULL"; }

bool is_boolean_word(std::string_view text) {
  return text == "true" || text == "false" || text == "True" || text == "False" || text == "TRUE" || text == "FALSE";
}

}  // namespace

Yaml::Yaml(const YamlDocument& document, std::uint32_t use)
    : document_(&document), use_(&document.nodes[use]), node_(use_), use_id_(use) {
  if (node_->kind == YamlNode::Kind::alias) node_ = &document.nodes[node_->target];
}

bool Yaml::is_null() const { return is_empty() || (is_plain() && is_null_word(text())); }

Yaml::Type Yaml::type() const {
  switch (node_->kind) {
    case YamlNode::Kind::mapping: return Type::mapping;
    case YamlNode::Kind::sequence: return Type::sequence;
    case YamlNode::Kind::scalar: break;
    default: return Type::null;
  }
  if (!is_plain()) return Type::string;
  if (is_null_word(text())) return Type::null;
  if (is_boolean_word(text())) return Type::boolean;
  if (is_integer(text())) return Type::integer;
  return is_real(text()) ? Type::real : Type::string;
}

std::vector<Yaml::Entry> Yaml::entries() const {
  std::vector<Entry> list;
  if (!document_ || !is_mapping()) return list;
  list.reserve(node_->count / 2);
  for (std::uint32_t key = node_->first_child; key != 0;) {
    const std::uint32_t value = document_->nodes[key].next;
    if (value == 0) break;
    list.push_back({Yaml(*document_, key), Yaml(*document_, value)});
    key = document_->nodes[value].next;
  }
  return list;
}

std::vector<Yaml> Yaml::items() const {
  std::vector<Yaml> list;
  if (!document_ || !is_sequence()) return list;
  list.reserve(node_->count);
  for (std::uint32_t child = node_->first_child; child != 0; child = document_->nodes[child].next) list.emplace_back(*document_, child);
  return list;
}

Yaml Yaml::operator[](std::string_view key) const {
  if (!document_ || !is_mapping()) return {};
  for (std::uint32_t child = node_->first_child; child != 0;) {
    const std::uint32_t value = document_->nodes[child].next;
    if (value == 0) break;
    if (document_->nodes[child].kind == YamlNode::Kind::scalar && document_->nodes[child].value == key) return Yaml(*document_, value);
    child = document_->nodes[value].next;
  }
  return {};
}

const char* to_words(Yaml::Type type) {
  switch (type) {
    case Yaml::Type::null: return "nothing";
    case Yaml::Type::boolean: return "true or false";
    case Yaml::Type::integer: return "a whole number";
    case Yaml::Type::real: return "a number";
    case Yaml::Type::string: return "a text";
    case Yaml::Type::sequence: return "a list";
    case Yaml::Type::mapping: return "a mapping";
  }
  return "a value";
}

}  // namespace kontor::agent
