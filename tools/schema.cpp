// Checks a value against compiled nodes. Recursion follows the schema into the value and is bounded by
// kSchemaDepthMax; all work is counted against kSchemaStepsMax. Giving up is a violation, never a pass.

#include "tools/schema.hpp"

#include "tools/json_value.hpp"
#include "tools/nearest.hpp"
#include "tools/pattern.hpp"
#include "tools/schema_node.hpp"

#include <algorithm>
#include <unordered_set>

namespace kontor::tools {
namespace {

/// Way from the root to a value; written out only when there is something to report.
struct Path {
  const Path* parent = nullptr;
  const std::string* key = nullptr;
  std::size_t index = 0;

  std::string pointer() const {
    std::vector<const Path*> steps;
    for (const Path* at = this; at->parent != nullptr; at = at->parent) steps.push_back(at);
    std::string out;
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
      out += '/';
      if ((*step)->key == nullptr) {
        out += std::to_string((*step)->index);
        continue;
      }
      for (const char c : *(*step)->key) {
        if (c == '~') out += "~0";
        else if (c == '/') out += "~1";
        else out += c;
      }
    }
    return out;
  }
};

/// Which members or elements of one value some keyword has looked at (for unevaluatedProperties and -Items).
struct Evaluated {
  bool all = false;
  std::vector<bool> seen;

  void mark(std::size_t at) {
    if (seen.size() <= at) seen.resize(at + 1);
    seen[at] = true;
  }
  bool has(std::size_t at) const { return all || (at < seen.size() && seen[at]); }
  void merge(const Evaluated& other) {
    all = all || other.all;
    for (std::size_t i = 0; i < other.seen.size(); ++i) {
      if (other.seen[i]) mark(i);
    }
  }
};

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) {
    std::size_t end = 57;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    text = text.substr(0, end) + "...";
  }
  return text;
}

std::string quoted(const std::string& name) { return "'" + (name.size() > 60 ? name.substr(0, 57) + "..." : name) + "'"; }

std::string types_in_words(std::uint8_t types) {
  std::vector<std::string> words;
  if (types & kString) words.emplace_back("a string");
  if (types & kNumber) words.emplace_back("a number");
  else if (types & kInteger) words.emplace_back("an integer");
  if (types & kBoolean) words.emplace_back("a boolean");
  if (types & kArray) words.emplace_back("a list");
  if (types & kObject) words.emplace_back("an object");
  if (types & kNull) words.emplace_back("null");
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) out += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  return out;
}

std::string format_in_words(Format format) {
  switch (format) {
    case Format::date_time: return "a date and time such as 2026-11-24T09:30:00Z";
    case Format::date: return "a date such as 2026-11-24";
    case Format::time: return "a time such as 09:30:00Z";
    case Format::duration: return "a duration such as P1DT2H";
    case Format::email: case Format::idn_email: return "an e-mail address";
    case Format::hostname: case Format::idn_hostname: return "a host name";
    case Format::ipv4: return "an IPv4 address";
    case Format::ipv6: return "an IPv6 address";
    case Format::uri: case Format::iri: return "an absolute URI";
    case Format::uri_reference: case Format::iri_reference: return "a URI reference";
    case Format::uuid: return "a UUID";
    case Format::uri_template: return "a URI template";
    case Format::json_pointer: return "a JSON pointer";
    case Format::relative_json_pointer: return "a relative JSON pointer";
    case Format::regex: return "a regular expression";
    case Format::none: break;
  }
  return "a value of its format";
}

std::uint64_t code_points(const std::string& text) {
  return static_cast<std::uint64_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string count_of(std::uint64_t n, const char* one, const char* many) { return std::to_string(n) + " " + (n == 1 ? one : many); }

class Checker {
 public:
  Checker(const Schema::Compiled& compiled, std::size_t limit) : compiled_(compiled), limit_(limit), sink_(&found) {}

  bool check(NodeIndex index, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated);

  std::vector<SchemaViolation> found;
  bool gave_up = false;

 private:
  bool no(const Path& path, const char* keyword, std::string message) {
    if (sink_ != nullptr && sink_->size() < limit_) sink_->push_back({path.pointer(), std::move(message), keyword});
    return false;
  }
  /// Nothing more to learn: silent checks stop at the first failure, reporting ones when the list is full.
  bool enough(bool ok) const { return gave_up || (!ok && (sink_ == nullptr || sink_->size() >= limit_)); }
  bool spend(std::size_t steps) {
    steps_ += steps;
    if (steps_ > kSchemaStepsMax) gave_up = true;
    return !gave_up;
  }
  bool silent(NodeIndex index, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated) {
    auto* const sink = std::exchange(sink_, nullptr);
    const bool ok = check(index, value, path, depth, evaluated);
    sink_ = sink;
    return ok;
  }
  /// Applies a subschema to the same value; what it evaluated counts only when it accepts.
  bool apply(NodeIndex index, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated) {
    Evaluated inner;
    const bool ok = check(index, value, path, depth, evaluated != nullptr ? &inner : nullptr);
    if (ok && evaluated != nullptr) evaluated->merge(inner);
    return ok;
  }

  bool check_type(const SchemaNode& node, const Json& value, const Path& path);
  bool check_values(const SchemaNode& node, const Json& value, const Path& path);
  bool check_number(const SchemaNode& node, const Json& value, const Path& path);
  bool check_string(const SchemaNode& node, const Json& value, const Path& path);
  bool check_array(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated);
  bool check_unique(const Json& value, const Path& path);
  bool check_object(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated);
  bool check_dependents(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated);
  bool check_in_place(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated);
  bool check_any(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated);
  bool check_one(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated);
  bool check_unevaluated(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated& evaluated);
  void report_branches(const std::vector<std::vector<SchemaViolation>>& branches, const Json& value, const Path& path, const char* keyword);
  void unknown_property(const SchemaNode& node, const std::string& name, const Path& path, const char* keyword);
  NodeIndex dynamic_target(const SchemaNode& node) const;

  const Schema::Compiled& compiled_;
  std::size_t limit_;
  std::vector<SchemaViolation>* sink_;
  std::size_t steps_ = 0;
  std::vector<std::int32_t> scope_;  ///< Resources entered, outermost first; only kept for $dynamicRef.
};

bool Checker::check(NodeIndex index, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated) {
  if (depth >= kSchemaDepthMax) gave_up = true;
  if (!spend(1)) return false;
  const SchemaNode& node = compiled_.nodes[static_cast<std::size_t>(index)];
  if (node.kind == SchemaNode::Kind::always) return true;
  if (node.kind == SchemaNode::Kind::never) return no(path, "false", "no value is allowed here");
  const bool entered = compiled_.dynamic && (scope_.empty() || scope_.back() != node.resource);
  if (entered) scope_.push_back(node.resource);

  Evaluated own;
  Evaluated* const collect = evaluated != nullptr || node.annotates ? &own : nullptr;
  bool ok = check_type(node, value, path);
  // A value of the wrong type breaks other rules too; the type alone is the news.
  if (ok || sink_ == nullptr) {
    if (!enough(ok) && (node.values || node.constant)) ok = check_values(node, value, path) && ok;
    if (!enough(ok)) {
      if (value.is_number()) ok = check_number(node, value, path) && ok;
      else if (value.is_string()) ok = check_string(node, value, path) && ok;
      else if (value.is_array()) ok = check_array(node, value, path, depth, collect) && ok;
      else if (value.is_object()) ok = check_object(node, value, path, depth, collect) && ok;
    }
    if (!enough(ok)) ok = check_in_place(node, value, path, depth, collect) && ok;
    if (ok && node.annotates && !gave_up) ok = check_unevaluated(node, value, path, depth, own);
  }
  if (entered) scope_.pop_back();
  if (ok && evaluated != nullptr) *evaluated = std::move(own);
  return ok && !gave_up;
}

bool Checker::check_type(const SchemaNode& node, const Json& value, const Path& path) {
  if (node.types == kAnyType) return true;
  std::uint8_t have = 0;
  switch (value.type()) {
    case Json::value_t::null: have = kNull; break;
    case Json::value_t::boolean: have = kBoolean; break;
    case Json::value_t::string: have = kString; break;
    case Json::value_t::array: have = kArray; break;
    case Json::value_t::object: have = kObject; break;
    default: have = is_whole_number(value) ? kInteger : kNumber; break;
  }
  if ((node.types & have) != 0) return true;
  if (sink_ == nullptr) return false;
  const bool fraction = have == kNumber && (node.types & kInteger) != 0;
  return no(path, "type", "expected " + types_in_words(node.types) + ", got " + (fraction ? shown(value) : kind_of(value)));
}

bool Checker::check_values(const SchemaNode& node, const Json& value, const Path& path) {
  bool ok = true;
  if (node.constant && !json_equal(*node.constant, value)) {
    ok = sink_ == nullptr ? false : no(path, "const", "expected " + shown(*node.constant) + ", got " + shown(value));
  }
  if (!node.values || !spend(node.values->size())) return ok;
  if (std::any_of(node.values->begin(), node.values->end(), [&](const Json& one) { return json_equal(one, value); })) return ok;
  if (sink_ == nullptr) return false;
  std::string message = node.values->empty() ? "no value is allowed here" : node.values->size() == 1 ? "expected " : "expected one of ";
  std::vector<std::string> words;
  for (std::size_t i = 0; i < node.values->size(); ++i) {
    const Json& one = (*node.values)[i];
    if (one.is_string()) words.push_back(one.get<std::string>());
    if (i < 12) message += (i == 0 ? "" : ", ") + shown(one);
    else if (i == 12) message += ", ...";
  }
  message += ", got " + shown(value);
  if (value.is_string()) {
    if (const auto near = nearest(value.get_ref<const std::string&>(), words); !near.empty()) message += " (did you mean " + shown(Json(near)) + "?)";
  }
  return no(path, "enum", std::move(message));
}

bool Checker::check_number(const SchemaNode& node, const Json& value, const Path& path) {
  bool ok = true;
  const auto bound = [&](const std::optional<Json>& limit, const char* keyword, const char* words, auto holds) {
    if (!limit || holds(compare_numbers(value, *limit))) return;
    ok = sink_ == nullptr ? false : no(path, keyword, std::string("expected ") + words + " " + shown(*limit) + ", got " + shown(value));
  };
  bound(node.minimum, "minimum", "at least", [](int order) { return order >= 0; });
  bound(node.maximum, "maximum", "at most", [](int order) { return order <= 0; });
  bound(node.above, "exclusiveMinimum", "more than", [](int order) { return order > 0; });
  bound(node.below, "exclusiveMaximum", "less than", [](int order) { return order < 0; });
  if (node.multiple_of && !is_multiple_of(value, *node.multiple_of)) {
    ok = sink_ == nullptr ? false : no(path, "multipleOf", "expected a multiple of " + shown(*node.multiple_of) + ", got " + shown(value));
  }
  return ok;
}

bool Checker::check_string(const SchemaNode& node, const Json& value, const Path& path) {
  const auto& text = value.get_ref<const std::string&>();
  if (!spend(text.size() / 64)) return false;
  bool ok = true;
  if (node.min_length > 0 || node.max_length != kNoBound) {
    const auto length = code_points(text);
    const auto got = [&] { return ", got " + std::to_string(length); };
    if (length < node.min_length) ok = no(path, "minLength", "expected at least " + count_of(node.min_length, "character", "characters") + got());
    if (length > node.max_length) ok = no(path, "maxLength", "expected at most " + count_of(node.max_length, "character", "characters") + got());
  }
  if (!enough(ok) && node.pattern && !pattern_found(*node.pattern->compiled, text)) {
    ok = sink_ == nullptr ? false : no(path, "pattern", "expected text that matches the pattern " + shown(Json(node.pattern->text)) + ", got " + shown(value));
  }
  if (!enough(ok) && node.format != Format::none && !format_matches(node.format, text)) {
    ok = sink_ == nullptr ? false : no(path, "format", "expected " + format_in_words(node.format) + ", got " + shown(value));
  }
  return ok;
}

bool Checker::check_unique(const Json& value, const Path& path) {
  std::vector<std::pair<std::uint64_t, std::size_t>> order;
  order.reserve(value.size());
  for (std::size_t i = 0; i < value.size(); ++i) order.emplace_back(json_hash(value[i]), i);
  std::sort(order.begin(), order.end());
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (std::size_t j = i + 1; j < order.size() && order[j].first == order[i].first; ++j) {
      if (!spend(1)) return false;
      if (!json_equal(value[order[i].second], value[order[j].second])) continue;
      return no(path, "uniqueItems", "expected different elements, but " + std::to_string(order[i].second) + " and " +
                                         std::to_string(order[j].second) + " (counted from 0) are equal");
    }
  }
  return true;
}

bool Checker::check_array(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated) {
  bool ok = true;
  const std::uint64_t size = value.size();
  if (!spend(size)) return false;
  if (size < node.min_items) ok = no(path, "minItems", "expected at least " + count_of(node.min_items, "element", "elements") + ", got " + std::to_string(size));
  if (size > node.max_items) ok = no(path, "maxItems", "expected at most " + count_of(node.max_items, "element", "elements") + ", got " + std::to_string(size));
  if (!enough(ok) && node.unique_items) ok = check_unique(value, path) && ok;

  std::uint64_t contained = 0;
  for (std::size_t i = 0; i < size && !enough(ok); ++i) {
    const Path at{&path, nullptr, i};
    const bool in_prefix = i < node.prefix_items.size();
    if (const NodeIndex below = in_prefix ? node.prefix_items[i] : node.items; below != kNoNode) {
      ok = check(below, value[i], at, depth + 1, nullptr) && ok;
      if (evaluated != nullptr) evaluated->mark(i);
    }
    if (node.contains != kNoNode && silent(node.contains, value[i], at, depth + 1, nullptr)) {
      ++contained;
      if (evaluated != nullptr) evaluated->mark(i);
    }
  }
  if (node.contains == kNoNode || enough(ok)) return ok;
  if (contained < node.min_contains) {
    ok = no(path, "contains", node.min_contains == 1 ? "no element is of the kind that has to be there"
                                                     : "expected at least " + std::to_string(node.min_contains) + " elements of a kind, got " + std::to_string(contained));
  }
  if (contained > node.max_contains) {
    ok = no(path, "maxContains", "expected at most " + std::to_string(node.max_contains) + " elements of a kind, got " + std::to_string(contained));
  }
  return ok;
}

void Checker::unknown_property(const SchemaNode& node, const std::string& name, const Path& path, const char* keyword) {
  if (sink_ == nullptr) return;
  std::vector<std::string> names;
  for (const auto& [known, rule] : node.names) {
    if (rule.node != kNoNode) names.push_back(known);
  }
  std::sort(names.begin(), names.end());
  std::string message = "unknown property " + quoted(name);
  if (const auto near = nearest(name, names); !near.empty()) message += " (did you mean '" + near + "'?)";
  no(path, keyword, std::move(message));
}

bool Checker::check_object(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated) {
  bool ok = true;
  const std::uint64_t size = value.size();
  if (!spend(size * (1 + node.pattern_properties.size()))) return false;
  if (size < node.min_properties) ok = no(path, "minProperties", "expected at least " + count_of(node.min_properties, "property", "properties") + ", got " + std::to_string(size));
  if (size > node.max_properties) ok = no(path, "maxProperties", "expected at most " + count_of(node.max_properties, "property", "properties") + ", got " + std::to_string(size));

  std::vector<bool> present(node.required.size());
  std::size_t i = 0;
  for (auto member = value.begin(); member != value.end() && !enough(ok); ++member, ++i) {
    const std::string& name = member.key();
    const Path at{&path, &name, 0};
    bool matched = false;
    if (const auto rule = node.names.find(name); rule != node.names.end()) {
      if (rule->second.required >= 0) present[static_cast<std::size_t>(rule->second.required)] = true;
      if (rule->second.node != kNoNode) {
        matched = true;
        ok = check(rule->second.node, *member, at, depth + 1, nullptr) && ok;
      }
    }
    for (const auto& [pattern, below] : node.pattern_properties) {
      if (enough(ok) || !pattern_found(*pattern.compiled, name)) continue;
      matched = true;
      ok = check(below, *member, at, depth + 1, nullptr) && ok;
    }
    if (!matched && node.additional_properties != kNoNode) {
      matched = true;
      if (compiled_.nodes[static_cast<std::size_t>(node.additional_properties)].kind == SchemaNode::Kind::never) {
        unknown_property(node, name, path, "additionalProperties");
        ok = false;
      } else {
        ok = check(node.additional_properties, *member, at, depth + 1, nullptr) && ok;
      }
    }
    if (matched && evaluated != nullptr) evaluated->mark(i);
    if (node.property_names != kNoNode && !enough(ok)) {
      ok = check(node.property_names, Json(name), at, depth + 1, nullptr) && ok;
    }
  }
  for (std::size_t r = 0; r < present.size() && !enough(ok); ++r) {
    if (present[r]) continue;
    if (sink_ == nullptr) return false;
    std::string message = "missing property " + quoted(node.required[r]);
    const auto rule = node.names.find(node.required[r]);
    if (rule != node.names.end() && rule->second.node != kNoNode) {
      const auto types = compiled_.nodes[static_cast<std::size_t>(rule->second.node)].types;
      if (types != kAnyType) message += " (" + types_in_words(types) + ")";
    }
    ok = no(path, "required", std::move(message));
  }
  if ((!node.dependent_required.empty() || !node.dependent_schemas.empty()) && !enough(ok)) {
    ok = check_dependents(node, value, path, depth, evaluated) && ok;
  }
  return ok;
}

bool Checker::check_dependents(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated) {
  std::unordered_set<std::string_view> names;
  for (auto member = value.begin(); member != value.end(); ++member) names.insert(member.key());
  bool ok = true;
  for (const auto& [name, needed] : node.dependent_required) {
    if (!names.contains(name)) continue;
    if (!spend(needed.size())) return false;
    for (const auto& other : needed) {
      if (!names.contains(other)) ok = no(path, "dependentRequired", "missing property " + quoted(other) + ", which " + quoted(name) + " needs");
    }
  }
  for (const auto& [name, below] : node.dependent_schemas) {
    if (names.contains(name) && !enough(ok)) ok = apply(below, value, path, depth + 1, evaluated) && ok;
  }
  return ok;
}

NodeIndex Checker::dynamic_target(const SchemaNode& node) const {
  if (node.dynamic_name.empty()) return node.dynamic_ref;
  for (const auto resource : scope_) {
    const auto& anchors = compiled_.resources[static_cast<std::size_t>(resource)].dynamic_anchors;
    if (const auto found = anchors.find(node.dynamic_name); found != anchors.end()) return found->second;
  }
  return node.dynamic_ref;
}

bool Checker::check_in_place(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated) {
  bool ok = true;
  if (node.ref != kNoNode) ok = apply(node.ref, value, path, depth + 1, evaluated) && ok;
  if (node.dynamic_ref != kNoNode && !enough(ok)) ok = apply(dynamic_target(node), value, path, depth + 1, evaluated) && ok;
  for (const NodeIndex part : node.all_of) {
    if (!enough(ok)) ok = apply(part, value, path, depth + 1, evaluated) && ok;
  }
  if (!node.any_of.empty() && !enough(ok)) ok = check_any(node, value, path, depth, evaluated) && ok;
  if (!node.one_of.empty() && !enough(ok)) ok = check_one(node, value, path, depth, evaluated) && ok;
  if (node.negated != kNoNode && !enough(ok) && silent(node.negated, value, path, depth + 1, nullptr)) {
    ok = no(path, "not", "a value of this kind is not allowed here");
  }
  if (node.condition != kNoNode && !enough(ok)) {
    Evaluated inner;
    const bool holds = silent(node.condition, value, path, depth + 1, evaluated != nullptr ? &inner : nullptr);
    if (holds && evaluated != nullptr) evaluated->merge(inner);
    const NodeIndex branch = holds ? node.then_node : node.else_node;
    if (branch != kNoNode && !enough(ok)) ok = apply(branch, value, path, depth + 1, evaluated) && ok;
  }
  return ok;
}

bool Checker::check_any(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated) {
  bool any = false;
  for (const NodeIndex branch : node.any_of) {
    if (gave_up || (any && evaluated == nullptr)) break;
    Evaluated inner;
    if (!silent(branch, value, path, depth + 1, evaluated != nullptr ? &inner : nullptr)) continue;
    any = true;
    if (evaluated != nullptr) evaluated->merge(inner);
  }
  if (any || gave_up) return any;
  if (sink_ != nullptr) {  // Once more, listening.
    std::vector<std::vector<SchemaViolation>> branches;
    for (const NodeIndex branch : node.any_of) {
      auto* const sink = std::exchange(sink_, &branches.emplace_back());
      check(branch, value, path, depth + 1, nullptr);
      sink_ = sink;
    }
    report_branches(branches, value, path, "anyOf");
  }
  return false;
}

bool Checker::check_one(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated* evaluated) {
  std::size_t accepted = 0;
  std::string which;
  for (std::size_t i = 0; i < node.one_of.size() && accepted < 2 && !gave_up; ++i) {
    Evaluated inner;
    if (!silent(node.one_of[i], value, path, depth + 1, evaluated != nullptr ? &inner : nullptr)) continue;
    which += (accepted++ == 0 ? "" : " and ") + std::to_string(i);
    if (evaluated != nullptr) evaluated->merge(inner);
  }
  if (accepted == 1 || gave_up) return accepted == 1;
  if (sink_ == nullptr) return false;
  if (accepted == 2) return no(path, "oneOf", "expected exactly one of the allowed forms, but " + which + " (counted from 0) fit");
  std::vector<std::vector<SchemaViolation>> branches;
  for (const NodeIndex branch : node.one_of) {
    auto* const sink = std::exchange(sink_, &branches.emplace_back());
    check(branch, value, path, depth + 1, nullptr);
    sink_ = sink;
  }
  report_branches(branches, value, path, "oneOf");
  return false;
}

/// No branch fits. When all of them miss the type, their types are named together; else the branch that came nearest
/// speaks: one that was not ruled out by a type or a constant, and failed deepest inside the value.
void Checker::report_branches(const std::vector<std::vector<SchemaViolation>>& branches, const Json& value, const Path& path, const char* keyword) {
  const std::string here = path.pointer();
  std::vector<std::string> kinds;
  const std::vector<SchemaViolation>* best = nullptr;
  long best_score = 0;
  for (const auto& branch : branches) {
    if (branch.empty()) continue;
    const auto& first = branch.front();
    if (first.keyword == "type" && first.pointer == here) {
      const auto words = first.message.substr(0, first.message.find(", got")).substr(std::string("expected ").size());
      if (std::find(kinds.begin(), kinds.end(), words) == kinds.end()) kinds.push_back(words);
      continue;
    }
    const bool constant = std::any_of(branch.begin(), branch.end(), [](const auto& v) { return v.keyword == "const" || v.keyword == "enum"; });
    const long score = (constant ? 0 : 1'000'000) + static_cast<long>(std::min<std::size_t>(first.pointer.size(), 9999)) * 10 - static_cast<long>(branch.size());
    if (best == nullptr || score > best_score) best = &branch, best_score = score;
  }
  if (best == nullptr) {
    std::string words;
    for (std::size_t i = 0; i < kinds.size(); ++i) words += (i == 0 ? "" : i + 1 == kinds.size() ? " or " : ", ") + kinds[i];
    no(path, keyword, kinds.empty() ? "none of the allowed forms fits" : "expected " + words + ", got " + kind_of(value));
    return;
  }
  for (const auto& violation : *best) {
    if (sink_->size() < limit_) sink_->push_back(violation);
  }
}

bool Checker::check_unevaluated(const SchemaNode& node, const Json& value, const Path& path, std::size_t depth, Evaluated& evaluated) {
  bool ok = true;
  std::size_t i = 0;
  if (value.is_object() && node.unevaluated_properties != kNoNode) {
    const bool never = compiled_.nodes[static_cast<std::size_t>(node.unevaluated_properties)].kind == SchemaNode::Kind::never;
    for (auto member = value.begin(); member != value.end() && !enough(ok); ++member, ++i) {
      if (evaluated.has(i)) continue;
      const std::string& name = member.key();
      if (never) {
        unknown_property(node, name, path, "unevaluatedProperties");
        ok = false;
      } else {
        ok = check(node.unevaluated_properties, *member, Path{&path, &name, 0}, depth + 1, nullptr) && ok;
      }
    }
    evaluated.all = true;
  }
  if (value.is_array() && node.unevaluated_items != kNoNode) {
    for (; i < value.size() && !enough(ok); ++i) {
      if (!evaluated.has(i)) ok = check(node.unevaluated_items, value[i], Path{&path, nullptr, i}, depth + 1, nullptr) && ok;
    }
    evaluated.all = true;
  }
  return ok;
}

}  // namespace

std::vector<SchemaViolation> Schema::validate(const Json& value, std::size_t limit) const {
  if (compiled_ == nullptr) return {};
  if (json_depth(value, kSchemaDepthMax) >= kSchemaDepthMax) {
    return {{"", "nested deeper than " + std::to_string(kSchemaDepthMax) + " levels", "limit"}};
  }
  Checker checker(*compiled_, std::max<std::size_t>(limit, 1));
  const bool ok = checker.check(0, value, Path{}, 0, nullptr);
  if (checker.gave_up) checker.found.push_back({"", "too large or too deep to be checked against this schema", "limit"});
  if (!ok && checker.found.empty()) checker.found.push_back({"", "not a value of this schema", "false"});
  return std::move(checker.found);
}

}  // namespace kontor::tools
