#include "agent/grammar/schema_grammar.hpp"

#include "agent/grammar/byte_dfa.hpp"
#include "agent/grammar/formats.hpp"
#include "agent/grammar/numbers.hpp"
#include "agent/grammar/regex.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>

namespace kontor::agent {

using inference::Grammar;
using inference::kNoLimit;
using inference::kNoNode;
using inference::NodeId;

namespace {

constexpr std::size_t kRulesMax = 20'000;
constexpr std::size_t kLiteralBytesMax = 4u << 20;
constexpr std::size_t kElementNameBytesMax = 256;
/// Texts in which no closing tag begins.
constexpr std::string_view kNoClosingTag = "^(?:[^<]|<+[^/<])*<*$";

/// Whole numbers are spelled without a point.
Json plain_numbers(Json value) {
  constexpr double kExact = 9007199254740992.0;
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (number == std::floor(number) && std::fabs(number) <= kExact) return static_cast<std::int64_t>(number);
  }
  if (value.is_structured())
    for (Json& part : value) part = plain_numbers(std::move(part));
  return value;
}

Result<std::shared_ptr<const ByteDfa>> both(const ByteDfa& a, const ByteDfa& b) {
  auto dfa = intersect(a, b);
  if (!dfa) return dfa.error();
  return std::make_shared<const ByteDfa>(std::move(*dfa));
}

std::uint32_t clamp32(std::uint64_t value) { return value >= kNoLimit ? kNoLimit : static_cast<std::uint32_t>(value); }

}  // namespace

/// Compiles one document. Rules are queued, not nested: schemas may be deep.
class SchemaWriter {
 public:
  SchemaWriter(SchemaGrammar& owner, const Json& root) : owner_(owner), grammar_(owner.grammar_), reader_(root, owner.options_) {}

  Result<NodeId> run(bool object) {
    static const Json kObject{{"type", "object"}};
    SchemaSet set{&reader_.root()};
    if (object) set.push_back(&kObject);
    const NodeId start = rule(std::move(set));
    if (const auto done = write_queued(); !done) return done.error();
    return start;
  }

  Result<NodeId> run_elements(const ElementNotation& notation) {
    static const Json kObject{{"type", "object"}};
    auto shapes = reader_.shapes({&reader_.root(), &kObject});
    if (!shapes) return shapes.error();
    const NodeId start = grammar_.add();
    for (const Shape& shape : *shapes)
      if (const auto done = write_elements(shape, start, notation); !done) return done.error();
    if (const auto done = write_queued(); !done) return done.error();
    return start;
  }

 private:
  Result<void> write_queued() {
    while (!queue_.empty()) {
      if (rules_.size() > kRulesMax || grammar_.size() > inference::kGrammarNodesMax) return fail(Errc::limit, "the schema is too large to be enforced while decoding", "grammar_schema");
      const auto [set, node] = std::move(queue_.front());
      queue_.pop_front();
      if (const auto done = write(set, node); !done) return done.error();
    }
    return {};
  }

  NodeId rule(SchemaSet set) {
    std::sort(set.begin(), set.end());
    set.erase(std::unique(set.begin(), set.end()), set.end());
    const auto [it, fresh] = rules_.try_emplace(set, kNoNode);
    if (fresh) {
      it->second = grammar_.add();
      queue_.emplace_back(it->first, it->second);
    }
    return it->second;
  }
  NodeId returning() {
    const NodeId id = grammar_.add();
    grammar_.at(id).returns = true;
    return id;
  }

  Result<void> write(const SchemaSet& set, NodeId node) {
    auto shapes = reader_.shapes(set);
    if (!shapes) return shapes.error();
    std::vector<std::string> literals;
    for (const Shape& shape : *shapes) {
      if (shape.values) {
        auto values = reader_.checked_values(shape);
        if (!values) return values.error();
        for (const Json& value : *values) literals.push_back(spaced_json(plain_numbers(value)));
        continue;
      }
      if (const auto done = write(shape, node, set); !done) return done.error();
    }
    return write_literals(node, std::move(literals), set);
  }

  /// One path for each prefix, so that however many values there are, one place is where the text stands.
  Result<void> write_literals(NodeId from, std::vector<std::string> texts, const SchemaSet& set) {
    if (texts.empty()) return {};
    std::sort(texts.begin(), texts.end());
    texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
    const NodeId root = grammar_.add();
    grammar_.jump(from, root);
    std::vector<NodeId> path{root};
    std::string last;
    for (const std::string& text : texts) {
      literal_bytes_ += text.size();
      if (literal_bytes_ > kLiteralBytesMax) return fail(Errc::limit, "'enum' is too large to be enforced while decoding", "grammar_schema", reader_.pointer(set.empty() ? &reader_.root() : set.front(), "enum"));
      const auto common = static_cast<std::size_t>(std::mismatch(last.begin(), last.end(), text.begin(), text.end()).first - last.begin());
      path.resize(common + 1);
      for (std::size_t i = common; i < text.size(); ++i) path.push_back(grammar_.literal(path.back(), std::string_view(text).substr(i, 1)));
      grammar_.at(path.back()).returns = true;
      last = text;
    }
    return {};
  }

  Result<void> write(const Shape& shape, NodeId node, const SchemaSet& set) {
    std::vector<std::string> words;
    if (shape.types & kShapeNull) words.emplace_back("null");
    if (shape.types & kShapeBoolean) words.insert(words.end(), {"false", "true"});
    if (const auto done = write_literals(node, std::move(words), set); !done) return done.error();
    if (shape.types & (kShapeInteger | kShapeNumber))
      if (const auto done = write_number(shape, node); !done) return done.error();
    if (shape.types & kShapeString)
      if (const auto done = write_string(shape, node); !done) return done.error();
    if (shape.types & kShapeArray) write_array(shape, node);
    if (shape.types & kShapeObject) return write_object(shape, node);
    return {};
  }

  Error refuse(const Json* at, const std::string& keyword, const Error& why) const {
    return fail(why.code, "'" + keyword + "' cannot be enforced while decoding: " + why.message, "grammar_schema", reader_.pointer(at, keyword));
  }
  /// The schema among the shape's that has the keyword.
  const Json* holder(const Shape& shape, const std::string& keyword) const {
    for (const Json* check : shape.checks)
      if (check->contains(keyword)) return check;
    return &reader_.root();
  }

  Result<void> write_number(const Shape& shape, NodeId node) {
    NumberRange range;
    range.integer = !(shape.types & kShapeNumber);
    std::string key = range.integer ? "i" : "n";
    const auto bound = [&](const Shape::Bound& from, std::vector<NumberRange::Bound>& to, const char* keyword, const char* exclusive) -> Result<void> {
      auto value = plain_decimal(*from.value);
      if (!value) return refuse(holder(shape, from.exclusive ? exclusive : keyword), from.exclusive ? exclusive : keyword, value.error());
      key += std::string(keyword, 3) + (from.exclusive ? "x" : "=") + from.value->dump() + ";";
      to.push_back({std::move(*value), from.exclusive});
      return {};
    };
    for (const auto& one : shape.lower)
      if (const auto done = bound(one, range.lower, "minimum", "exclusiveMinimum"); !done) return done.error();
    for (const auto& one : shape.upper)
      if (const auto done = bound(one, range.upper, "maximum", "exclusiveMaximum"); !done) return done.error();
    std::vector<Json> seen;
    for (const Json* multiple : shape.multiples) {
      if (std::find(seen.begin(), seen.end(), *multiple) != seen.end()) continue;
      seen.push_back(*multiple);
      auto value = plain_decimal(*multiple);
      if (!value) return refuse(holder(shape, "multipleOf"), "multipleOf", value.error());
      key += "*" + multiple->dump() + ";";
      range.multiples.push_back(std::move(*value));
    }
    auto [it, fresh] = owner_.numbers_.try_emplace(key, kNoNode);
    if (fresh) {
      auto dfa = number_dfa(range);
      if (!dfa) {
        owner_.numbers_.erase(it);
        const std::string keyword = !range.multiples.empty() ? "multipleOf" : !range.lower.empty() ? "minimum" : "maximum";
        return refuse(holder(shape, keyword), keyword, dfa.error());
      }
      it->second = add_plain(grammar_, *dfa);
    }
    grammar_.jump(node, it->second);
    return {};
  }

  Result<void> write_string(const Shape& shape, NodeId node) {
    std::string key = std::to_string(shape.least_length) + "," + std::to_string(shape.most_length);
    std::vector<std::pair<const Json*, const char*>> sources;
    for (const Json* schema : shape.patterns) sources.emplace_back(schema, "pattern");
    for (const Json* schema : shape.formats) sources.emplace_back(schema, "format");
    std::vector<std::string> patterns;
    for (const auto& [schema, keyword] : sources) {
      const std::string& text = schema->at(keyword).get_ref<const std::string&>();
      const std::string pattern = keyword[0] == 'p' ? text : std::string(format_pattern(text));
      if (pattern.empty() && keyword[0] == 'f') return refuse(schema, keyword, fail(Errc::unsupported, "the format '" + text + "' cannot be generated"));
      if (std::find(patterns.begin(), patterns.end(), pattern) != patterns.end()) continue;
      patterns.push_back(pattern);
      key += '\n' + pattern;
    }
    if (shape.verbatim) {
      if (!patterns.empty() || shape.least_length > 1 || shape.most_length != ~std::uint64_t{0})
        return refuse(holder(shape, "x-verbatim"), "x-verbatim", fail(Errc::unsupported, "beside it only minLength of 0 or 1 is possible"));
      key += "\nverbatim";
    }
    auto [it, fresh] = owner_.strings_.try_emplace(key, kNoNode);
    if (fresh) {
      auto body = string_body(shape, patterns, sources);
      if (!body) {
        owner_.strings_.erase(it);
        return body.error();
      }
      const NodeId open = grammar_.add();
      grammar_.edge(open, '"', '"', *body);
      it->second = grammar_.add();
      grammar_.call(it->second, open, returning());
    }
    grammar_.jump(node, it->second);
    return {};
  }

  Result<NodeId> string_body(const Shape& shape, const std::vector<std::string>& patterns, const std::vector<std::pair<const Json*, const char*>>& sources) {
    const NodeId end = returning();
    if (shape.verbatim) return grammar_.verbatim({shape.least_length == 0}, end);
    if (shape.least_length > shape.most_length) return grammar_.add();  // Nothing: pruned.
    if (patterns.empty()) return grammar_.string_body({clamp32(shape.least_length), clamp32(shape.most_length)}, end);
    std::shared_ptr<const ByteDfa> all;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      auto dfa = compile_regex(patterns[i]);
      if (dfa && all) dfa = both(*all, **dfa);
      if (!dfa) return refuse(sources[std::min(i, sources.size() - 1)].first, sources[std::min(i, sources.size() - 1)].second, dfa.error());
      all = std::move(*dfa);
    }
    if (shape.least_length == 0 && shape.most_length == ~std::uint64_t{0}) return add_string(grammar_, *all, end);
    auto limited = with_length(*all, clamp32(shape.least_length), clamp32(shape.most_length));
    if (!limited) return refuse(sources.front().first, sources.front().second, fail(limited.error().code, "with these lengths " + limited.error().message));
    return add_string(grammar_, *limited, end);
  }

  void write_array(const Shape& shape, NodeId node) {
    if (shape.least_items > shape.most_items) return;
    const NodeId end = returning();
    // A frame of its own: its register counts the items behind the prefix.
    const NodeId start = grammar_.add();
    grammar_.call(node, start, end);
    NodeId at = grammar_.literal(start, "[");
    const NodeId close = returning();
    const auto close_from = [&](NodeId from) { grammar_.edge(from, ']', ']', close); };
    std::size_t count = 0;
    for (const std::size_t prefix = reader_.prefix_length(shape); count < prefix; ++count) {
      if (count >= shape.least_items) close_from(at);
      if (count >= shape.most_items) return;
      const NodeId next = grammar_.add();
      grammar_.call(count == 0 ? at : grammar_.literal(at, ", "), rule(reader_.item(shape, count)), next);
      at = next;
    }
    if (count >= shape.least_items) close_from(at);
    if (count >= shape.most_items) return;
    const std::uint32_t least = clamp32(shape.least_items > count ? shape.least_items - count : 0);
    const std::uint32_t most = shape.most_items == ~std::uint64_t{0} ? kNoLimit : clamp32(shape.most_items - count);
    const NodeId item = rule(reader_.item(shape, count));
    inference::Node counting;
    counting.count_to = most == kNoLimit ? std::max<std::uint32_t>(least, 1) : most;
    const NodeId behind = grammar_.add(std::move(counting));
    grammar_.call(count == 0 ? at : grammar_.literal(at, ", "), item, behind);
    const NodeId last = grammar_.add(), more = grammar_.add();
    grammar_.jump(behind, last, least);
    close_from(last);
    grammar_.jump(behind, more, 0, most == kNoLimit ? kNoLimit : most - 1);
    grammar_.call(grammar_.literal(more, ", "), item, behind);
  }

  Result<void> write_object(const Shape& shape, NodeId node) {
    const std::vector<std::string> names = reader_.names(shape);
    const auto free = reader_.additional(shape);
    if (shape.least_properties > shape.required.size())
      return refuse(holder(shape, "minProperties"), "minProperties", fail(Errc::unsupported, "more than 'required' names are asked for"));
    if (shape.most_properties < names.size() || (shape.most_properties != ~std::uint64_t{0} && free))
      return refuse(holder(shape, "maxProperties"), "maxProperties", fail(Errc::unsupported, "members would have to be counted"));
    const NodeId end = returning(), close = returning(), start = grammar_.add();
    grammar_.call(node, start, end);
    // `none`: no member was written yet; `some`: one was. kNoNode where the text cannot stand like that.
    NodeId none = grammar_.literal(start, "{"), some = kNoNode;
    for (const std::string& name : names) {
      const bool required = std::find(shape.required.begin(), shape.required.end(), name) != shape.required.end();
      const NodeId value = rule(reader_.member(shape, name)), next = grammar_.add();
      const std::string spelled = spaced_json(Json(name)) + ": ";
      if (none != kNoNode) grammar_.call(grammar_.literal(none, spelled), value, next);
      if (some != kNoNode) grammar_.call(grammar_.literal(some, ", " + spelled), value, next);
      if (required) {
        none = kNoNode;
      } else {
        if (some != kNoNode) grammar_.jump(some, next);
        if (none != kNoNode) {
          const NodeId skipped = grammar_.add();
          grammar_.jump(none, skipped);
          none = skipped;
        }
      }
      some = next;
    }
    if (none != kNoNode) grammar_.edge(none, '}', '}', close);
    if (some != kNoNode) grammar_.edge(some, '}', '}', close);
    if (!free) return {};
    inference::FreshKey keys;
    for (const std::string& name : names) {
      const std::string spelled = spaced_json(Json(name));
      keys.declared.push_back(spelled.substr(1, spelled.size() - 2));
    }
    const NodeId named = grammar_.add(), behind = grammar_.add(), opened = grammar_.fresh_key(std::move(keys), named);
    grammar_.call(grammar_.literal(named, ": "), rule(*free), behind);
    grammar_.edge(behind, '}', '}', close);
    if (none != kNoNode) grammar_.edge(none, '"', '"', opened);
    for (const NodeId from : {some, behind})
      if (from != kNoNode) grammar_.edge(grammar_.literal(from, ", "), '"', '"', opened);
    return {};
  }

  Result<void> write_elements(const Shape& shape, NodeId start, const ElementNotation& notation) {
    const auto refuse_here = [&](const std::string& keyword, const std::string& why) { return refuse(holder(shape, keyword), keyword, fail(Errc::unsupported, why)); };
    if (shape.values) return refuse_here(holder(shape, "enum")->contains("enum") ? "enum" : "const", "the arguments of a call are elements in this notation");
    const std::vector<std::string> names = reader_.names(shape);
    if (shape.least_properties > shape.required.size()) return refuse_here("minProperties", "more than 'required' names are asked for");
    if (shape.most_properties < names.size()) return refuse_here("maxProperties", "members would have to be counted");
    const bool says_free = std::any_of(shape.objects.begin(), shape.objects.end(), [](const Shape::ObjectPart& part) { return part.additional != nullptr; });
    if (names.empty() && says_free && reader_.additional(shape)) return refuse_here("additionalProperties", "members without a name of their own cannot be written in this notation");
    NodeId at = start;
    for (const std::string& name : names) {
      const bool bad = name.size() > kElementNameBytesMax || std::any_of(name.begin(), name.end(), [](char c) { return c == '"' || static_cast<unsigned char>(c) < 0x20; });
      if (bad) return refuse_here("properties", "a name with a quote or a control character, or of more than " + std::to_string(kElementNameBytesMax) + " bytes, cannot stand in an attribute");
      const NodeId next = grammar_.add();
      const NodeId head = notation.tag(at, "<｜DSML｜parameter name=\"" + name + "\" string=\"");
      if (const auto done = write_element(reader_.member(shape, name), head, next, notation); !done) return done.error();
      if (std::find(shape.required.begin(), shape.required.end(), name) == shape.required.end()) grammar_.jump(at, next);
      at = next;
    }
    grammar_.at(at).returns = true;
    return {};
  }

  /// Behind `string="`.
  Result<void> write_element(SchemaSet set, NodeId head, NodeId next, const ElementNotation& notation) {
    static const Json kNoString{{"type", Json::array({"null", "boolean", "number", "array", "object"})}}, kString{{"type", "string"}};
    SchemaSet strings = set, others = set;
    strings.push_back(&kString), others.push_back(&kNoString);
    auto shapes = reader_.shapes(strings);
    if (!shapes) return shapes.error();
    const NodeId raw = grammar_.literal(head, "true\">"), json = grammar_.literal(head, "false\">"), closing = grammar_.add();
    const auto close = [&](NodeId from) { grammar_.jump(notation.tag(from, "</｜DSML｜parameter>\n"), next); };
    close(closing);
    grammar_.call(json, rule(others), closing);
    bool quoted = false;
    for (const Shape& shape : *shapes) {
      if (shape.values) {
        auto values = reader_.checked_values(shape);
        if (!values) return values.error();
        std::vector<std::string> texts;
        for (const Json& value : *values) {
          if (!value.is_string()) continue;
          const auto& text = value.get_ref<const std::string&>();
          if (text.find("</") == std::string::npos) texts.push_back(text);
          else quoted = true;
        }
        const NodeId start = grammar_.add();
        if (const auto done = write_literals(start, std::move(texts), strings); !done) return done.error();
        grammar_.call(raw, start, closing);
      } else if (shape.types & kShapeString) {
        const auto done = write_raw_string(shape, raw, closing, next, notation);
        if (!done) return done.error();
        quoted |= !*done;
      }
    }
    // What cannot stand as it is does so as JSON.
    if (quoted) grammar_.call(json, rule(strings), closing);
    return {};
  }

  /// False where the strings of the shape are not written as they stand.
  Result<bool> write_raw_string(const Shape& shape, NodeId raw, NodeId closing, NodeId next, const ElementNotation& notation) {
    if (shape.verbatim) return false;
    if (shape.least_length > shape.most_length) return true;
    const bool any_length = shape.least_length == 0 && shape.most_length == ~std::uint64_t{0};
    if (shape.patterns.empty() && shape.formats.empty() && any_length) {
      grammar_.call(raw, notation.text, next);
      return true;
    }
    for (const Json* schema : shape.formats)
      if (format_pattern(schema->at("format").get_ref<const std::string&>()).empty()) return false;
    auto dfa = compile_regex(kNoClosingTag);
    const auto restrict = [&](std::string_view pattern) {
      auto more = compile_regex(pattern);
      dfa = dfa && more ? both(**dfa, **more) : more ? std::move(dfa) : std::move(more);
    };
    for (const Json* schema : shape.patterns) restrict(schema->at("pattern").get_ref<const std::string&>());
    for (const Json* schema : shape.formats) restrict(format_pattern(schema->at("format").get_ref<const std::string&>()));
    if (!dfa || (*dfa)->empty()) return false;
    const auto limited = with_length(**dfa, clamp32(shape.least_length), clamp32(shape.most_length));
    if (!limited || limited->empty()) return false;
    grammar_.call(raw, add_plain(grammar_, *limited), closing);
    return true;
  }

  SchemaGrammar& owner_;
  Grammar& grammar_;
  ShapeReader reader_;
  std::map<SchemaSet, NodeId> rules_;
  std::deque<std::pair<SchemaSet, NodeId>> queue_;
  std::size_t literal_bytes_ = 0;
};

Result<NodeId> SchemaGrammar::add(const Json& schema, bool object) { return SchemaWriter(*this, schema).run(object); }

Result<NodeId> SchemaGrammar::add_elements(const Json& schema, const ElementNotation& notation) { return SchemaWriter(*this, schema).run_elements(notation); }

Result<void> check_schema_grammar(const Json& schema, ValueNotation notation) {
  Grammar grammar;
  SchemaGrammar schemas(grammar);
  ElementNotation elements{[&](NodeId from, std::string_view tag) { return grammar.literal(from, tag); }, grammar.add()};
  grammar.at(elements.text).returns = true;
  const auto rule = notation == ValueNotation::elements ? schemas.add_elements(schema, elements) : schemas.add(schema, notation == ValueNotation::object);
  if (!rule) return rule.error();
  const NodeId end = grammar.add(), start = grammar.add();
  grammar.at(end).returns = true;
  grammar.call(start, *rule, end);
  grammar.set_start(start);
  return grammar.finish();
}

}  // namespace kontor::agent
