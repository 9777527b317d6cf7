// A reader for YAML 1.2 block and flow style. Libraries at hand accept many documents that are not well-formed, lose
// positions, or recurse as deep as the input says; this one is strict, iterative where input could be long, and its
// recursion is bounded by YamlLimits::depth.

#include "agent/spec/text_tools.hpp"
#include "agent/spec/yaml_document.hpp"
#include "agent/spec/yaml_scalars.hpp"

#include <unordered_map>

namespace kontor::agent {
namespace {

using Kind = YamlNode::Kind;
using Style = YamlNode::Style;

constexpr std::size_t kMaxImplicitKey = 1024;  // bytes a key without "?" may have (YAML 1.2, 7.4)

class Reader {
 public:
  Reader(YamlDocument& document, const YamlLimits& limits)
      : document_(document), text_(document.source->text()), limits_(limits) {
    document_.nodes.emplace_back();
    document_.pool.reserve(text_.size() + text_.size() / 2 + 16);
  }

  bool run() {
    if (!directives()) return false;
    bool crossed = true;
    if (at_document_marker() && text_[at_] == '-') {
      at_ += 3;
      crossed = false;
    }
    std::uint32_t root = 0;
    if (!block_node(-1, false, crossed, root)) return false;
    document_.root = root;
    return document_end();
  }

  std::optional<YamlProblem> problem;

 private:
  bool fail(std::size_t offset, std::string message, const char* kind = "yaml-syntax") {
    problem = YamlProblem{offset, kind, std::move(message)};
    return false;
  }
  void feature(std::size_t offset, std::string message) {
    if (document_.features.size() < 200) document_.features.push_back({offset, "yaml-feature", std::move(message)});
  }

  // ---- characters -------------------------------------------------------------------------------------------------
  bool at_end() const { return at_ >= text_.size(); }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool space_or_end(std::size_t ahead) const {
    return at_ + ahead >= text_.size() || is_yaml_blank(text_[at_ + ahead]) || is_yaml_break(text_[at_ + ahead]);
  }
  static bool is_flow_indicator(char c) { return c == ',' || c == '[' || c == ']' || c == '{' || c == '}'; }
  int column() const { return static_cast<int>(at_ - line_start_); }
  bool at_document_marker() const { return at_ == line_start_ && is_document_marker(text_, at_); }
  bool at_indicator(char c) const { return peek() == c && !at_end() && space_or_end(1); }
  bool first_in_line() const {
    for (std::size_t i = line_start_; i < at_; ++i) {
      if (!is_yaml_blank(text_[i])) return false;
    }
    return true;
  }
  bool tab_indented() const { return first_in_line() && text_.substr(line_start_, at_ - line_start_).find('\t') != std::string_view::npos; }
  bool tab_error() {
    return fail(line_start_ + text_.substr(line_start_, at_ - line_start_).find('\t'), "tabs do not indent in YAML; use spaces");
  }
  void take_break() {
    at_ += peek() == '\r' && peek(1) == '\n' ? 2 : 1;
    line_start_ = at_;
  }
  void skip_blanks() {
    while (!at_end() && is_yaml_blank(text_[at_])) ++at_;
  }
  /// Skips blanks, comments and line ends; true when a line end was crossed.
  bool skip_space() {
    bool crossed = false;
    while (!at_end()) {
      const char c = text_[at_];
      if (is_yaml_blank(c)) {
        ++at_;
      } else if (is_yaml_break(c)) {
        take_break();
        crossed = true;
      } else if (c == '#' && (at_ == line_start_ || is_yaml_blank(text_[at_ - 1]))) {
        while (!at_end() && !is_yaml_break(text_[at_])) ++at_;
      } else {
        break;
      }
    }
    return crossed;
  }

  // ---- nodes ------------------------------------------------------------------------------------------------------
  YamlNode& node(std::uint32_t id) { return document_.nodes[id]; }
  bool new_node(std::uint32_t& id) {
    if (document_.nodes.size() > limits_.nodes) return fail(at_, "the file has more than " + std::to_string(limits_.nodes) + " nodes", "yaml-limit");
    id = static_cast<std::uint32_t>(document_.nodes.size());
    document_.nodes.emplace_back();
    document_.nodes.back().offset = static_cast<std::uint32_t>(at_);
    return true;
  }
  /// Keeps the children of a collection as they are read.
  struct Children {
    std::uint32_t first = 0, last = 0, count = 0;
    std::uint64_t expanded = 1;
  };
  bool append(Children& children, std::uint32_t child) {
    if (children.last == 0) children.first = child;
    else node(children.last).next = child;
    children.last = child;
    ++children.count;
    children.expanded += node(child).expanded;
    if (children.expanded > limits_.nodes) {
      return fail(node(child).offset, "the aliases stand for more than " + std::to_string(limits_.nodes) + " nodes", "yaml-limit");
    }
    return true;
  }
  void close(std::uint32_t id, Kind kind, Style style, const Children& children) {
    YamlNode& collection = node(id);
    collection.kind = kind;
    collection.style = style;
    collection.first_child = children.first;
    collection.count = children.count;
    collection.expanded = static_cast<std::uint32_t>(children.expanded);
    collection.open = false;
  }
  std::string_view keep(const std::string& value) {
    const std::size_t begin = document_.pool.size();
    if (begin + value.size() > document_.pool.capacity()) return {};  // cannot be: decoding grows text by half at most
    document_.pool += value;
    return std::string_view(document_.pool).substr(begin, value.size());
  }

  // ---- properties -------------------------------------------------------------------------------------------------
  struct Properties {
    bool any = false;
    std::uint32_t slot = 0;           ///< node made for an anchor
    std::size_t offset = 0;
    std::string_view anchor;
    bool tagged = false;
    int column = 0;
  };

  /// At '&' or '!': reads anchor and tag on this line.
  bool properties(Properties& found) {
    found.offset = at_;
    found.column = column();
    while (!at_end() && (peek() == '&' || peek() == '!')) {
      found.any = true;
      const std::size_t begin = at_;
      const bool is_anchor = peek() == '&';
      ++at_;
      if (!is_anchor && peek() == '<') {
        while (!at_end() && peek() != '>' && !is_yaml_break(peek())) ++at_;
        if (peek() != '>') return fail(begin, "a tag in <> is never closed");
        ++at_;
      } else {
        while (!space_or_end(0) && !is_flow_indicator(peek())) ++at_;
      }
      if (!space_or_end(0) && flow_depth_ == 0) return fail(at_, "a blank must follow here");
      if (is_anchor) {
        if (at_ == begin + 1) return fail(begin, "an anchor needs a name behind '&'");
        if (!found.anchor.empty()) return fail(begin, "a value has two anchors");
        found.anchor = text_.substr(begin + 1, at_ - begin - 1);
        if (!new_node(found.slot)) return false;
        node(found.slot).open = true;
        anchors_[found.anchor] = found.slot;
      } else {
        if (found.tagged) return fail(begin, "a value has two tags");
        found.tagged = true;
        feature(begin, "tags are not read: " + shown_text(text_.substr(begin, std::min<std::size_t>(at_ - begin, 200)), 40));
      }
      skip_blanks();
    }
    return true;
  }

  /// The node for a value: the one its anchor made, or a new one.
  bool slot_for(const Properties& properties, std::uint32_t& id) {
    if (properties.slot == 0) return new_node(id);
    id = properties.slot;
    node(id).offset = static_cast<std::uint32_t>(at_);
    return true;
  }

  // ---- scalars and aliases ----------------------------------------------------------------------------------------
  bool alias(std::uint32_t id) {
    const std::size_t begin = at_++;
    while (!space_or_end(0) && !is_flow_indicator(peek())) ++at_;
    const std::string_view name = text_.substr(begin + 1, at_ - begin - 1);
    if (name.empty()) return fail(begin, "an alias needs a name behind '*'; a text that begins with * is quoted");
    const auto anchor = anchors_.find(name);
    if (anchor == anchors_.end()) {
      const std::string shown = shown_text(name, 40);
      return fail(begin, "no anchor '&" + shown + "' stands before this alias; a text that begins with * is quoted: \"*" + shown + "\"", "unknown-alias");
    }
    if (node(anchor->second).open) return fail(begin, "the alias '*" + shown_text(name, 40) + "' stands inside of what it names", "alias-cycle");
    if (++aliases_ > limits_.aliases) return fail(begin, "more than " + std::to_string(limits_.aliases) + " aliases", "yaml-limit");
    YamlNode& use = node(id);
    use.kind = Kind::alias;
    use.offset = static_cast<std::uint32_t>(begin);
    use.target = anchor->second;
    use.expanded = node(anchor->second).expanded;
    return true;
  }

  /// At the scalar's first byte. `one_line` only concerns plain scalars.
  bool scalar(std::uint32_t id, int indent, bool one_line, bool* multiline = nullptr) {
    const std::size_t begin = at_;
    const bool in_flow = flow_depth_ > 0;
    ScalarScanner scanner(text_, at_, line_start_, indent, in_flow);
    Style style = Style::plain;
    bool good = true;
    switch (peek()) {
      case '\'': style = Style::single_quoted; good = scanner.single_quoted(); break;
      case '"': style = Style::double_quoted; good = scanner.double_quoted(); break;
      case '|': style = Style::literal; good = scanner.block(); break;
      case '>': style = Style::folded; good = scanner.block(); break;
      default: good = scanner.plain(one_line); break;
    }
    if (!good) return fail(scanner.error_at, scanner.error);
    if (scanner.at() == begin) return not_a_value();
    at_ = scanner.at();
    line_start_ = scanner.line_start();
    last_line_content_ = scanner.last_line_content();
    if (multiline) *multiline = scanner.is_multiline();
    YamlNode& made = node(id);
    made.kind = Kind::scalar;
    made.style = style;
    made.in_flow = in_flow;
    made.offset = static_cast<std::uint32_t>(begin);
    made.indent = indent;
    made.value = keep(scanner.value);
    made.open = false;
    return true;
  }
  bool not_a_value() {
    const char c = peek();
    if (c == '@' || c == '`') return fail(at_, std::string("'") + c + "' is reserved; a text that begins with it is quoted");
    if (c == '%') return fail(at_, "'%' begins a directive; a text that begins with it is quoted");
    if (c == ']' || c == '}') return fail(at_, std::string("'") + c + "' closes nothing");
    if (c == ',') return fail(at_, "a value is missing before this comma");
    if (c == '#') return fail(at_, "a comment needs a blank before it");
    return fail(at_, std::string("'") + c + "' stands where a value was expected");
  }

  // ---- flow style -------------------------------------------------------------------------------------------------
  struct Level {
    Reader& reader;
    explicit Level(Reader& owner) : reader(owner) { ++reader.depth_; }
    ~Level() { --reader.depth_; }
    bool too_deep() const { return reader.depth_ > reader.limits_.depth; }
  };
  bool depth_error() { return fail(at_, "nested deeper than " + std::to_string(limits_.depth) + " levels", "yaml-limit"); }

  /// Inside brackets opened at `opened`: to the next token. Lines must be indented deeper than the block around them.
  bool flow_space(int indent, std::size_t opened) {
    const bool crossed = skip_space();
    const bool closer = peek() == ']' || peek() == '}';
    if (at_end() || (crossed && (at_document_marker() || column() < indent || (column() == indent && !closer)))) {
      return fail(opened, std::string("'") + text_[opened] + "' is never closed");
    }
    return true;
  }

  bool flow_value(int indent, std::size_t opened, std::uint32_t& id) {
    const Level level(*this);
    if (level.too_deep()) return depth_error();
    Properties found;
    if (peek() == '&' || peek() == '!') {
      if (!properties(found)) return false;
      if (!flow_space(indent, opened)) return false;
    }
    if (!slot_for(found, id)) return false;
    const char c = peek();
    if (found.any && (c == ',' || c == ']' || c == '}' || (c == ':' && ends_key(false)))) {
      node(id).open = false;
      return true;  // an anchor or tag on nothing
    }
    if (c == '*') {
      if (found.any) return fail(found.offset, "an alias has no anchor or tag of its own");
      return alias(id);
    }
    if (c == '[' || c == '{') return flow_collection(indent, id);
    if (c == '|' || c == '>') return fail(at_, "block texts do not stand inside of brackets");
    return scalar(id, indent, false);
  }

  /// At ':' inside brackets: does it end a key?
  bool ends_key(bool json_like) const {
    return peek() == ':' && !at_end() && (json_like || space_or_end(1) || is_flow_indicator(peek(1)));
  }
  bool is_json_like(std::uint32_t id) {
    const YamlNode& made = node(id);
    return made.kind == Kind::sequence || made.kind == Kind::mapping || made.style == Style::single_quoted || made.style == Style::double_quoted;
  }

  bool flow_collection(int indent, std::uint32_t id) {
    const std::size_t opened = at_;
    const bool mapping = peek() == '{';
    const char closer = mapping ? '}' : ']';
    ++at_;
    ++flow_depth_;
    node(id).open = true;
    node(id).offset = static_cast<std::uint32_t>(opened);
    Children children;
    while (true) {
      if (!flow_space(indent, opened)) return false;
      if (peek() == closer) break;
      if (peek() == ']' || peek() == '}') return fail(at_, std::string("'") + peek() + "' does not close '" + text_[opened] + "'");
      if (peek() == ',') return fail(at_, "a value is missing before this comma");
      if (mapping ? !flow_pair(indent, opened, children) : !flow_item(indent, opened, children)) return false;
      if (!flow_space(indent, opened)) return false;
      if (peek() == ',') ++at_;
      else if (peek() != ']' && peek() != '}') {
        // An expression without quotes: inside brackets its brace opens a mapping.
        const bool is_expression = at_ > 0 && text_[at_ - 1] == '$' && peek() == '{';
        return fail(at_, std::string("',' or '") + closer + "' was expected here" + (is_expression ? "; inside brackets an expression stands in quotes: \"${...}\"" : ""));
      }
    }
    ++at_;
    --flow_depth_;
    close(id, mapping ? Kind::mapping : Kind::sequence, Style::flow, children);
    return true;
  }

  /// One "key: value" of a flow mapping.
  bool flow_pair(int indent, std::size_t opened, Children& children) {
    if (at_indicator('?')) {
      ++at_;
      if (!flow_space(indent, opened)) return false;
    }
    std::uint32_t key = 0;
    if (ends_key(false)) {
      feature(at_, "a key is missing before ':'");
      if (!new_node(key)) return false;
    } else if (!flow_value(indent, opened, key)) {
      return false;
    }
    check_key(key);
    if (!flow_space(indent, opened)) return false;
    std::uint32_t value = 0;
    if (!flow_mapped(indent, opened, key, value)) return false;
    return append(children, key) && append(children, value);
  }
  /// Behind a key: the value, or nothing.
  bool flow_mapped(int indent, std::size_t opened, std::uint32_t key, std::uint32_t& value) {
    if (ends_key(is_json_like(key))) {
      ++at_;
      if (!flow_space(indent, opened)) return false;
      if (peek() != ',' && peek() != ']' && peek() != '}') return flow_value(indent, opened, value);
    }
    return new_node(value);
  }
  /// An element of a flow sequence; "key: value" without braces is a mapping of one pair.
  bool flow_item(int indent, std::size_t opened, Children& children) {
    const std::size_t line = line_start_;
    const std::size_t begin = at_;
    const bool explicit_key = at_indicator('?');
    std::uint32_t item = 0;
    if (explicit_key) {
      ++at_;
      if (!flow_space(indent, opened)) return false;
    }
    if (ends_key(false)) {
      feature(at_, "a key is missing before ':'");
      if (!new_node(item)) return false;
    } else if (!flow_value(indent, opened, item)) {
      return false;
    }
    if (!flow_space(indent, opened)) return false;
    if (ends_key(is_json_like(item)) || explicit_key) {
      if (!explicit_key && line != line_start_) return fail(begin, "a key without '?' stands on one line with its ':'");
      check_key(item);
      std::uint32_t pair = 0;
      if (!new_node(pair)) return false;
      node(pair).offset = static_cast<std::uint32_t>(begin);
      std::uint32_t value = 0;
      if (!flow_mapped(indent, opened, item, value)) return false;
      Children inner;
      if (!append(inner, item) || !append(inner, value)) return false;
      close(pair, Kind::mapping, Style::flow, inner);
      item = pair;
    }
    return append(children, item);
  }

  void check_key(std::uint32_t key) {
    const YamlNode& made = node(key);
    if (made.kind == Kind::alias) feature(made.offset, "an alias does not stand as a key");
    else if (made.kind == Kind::sequence || made.kind == Kind::mapping) feature(made.offset, "a list or mapping does not stand as a key");
    else if (made.kind == Kind::empty) feature(made.offset, "a key is missing");
    else if (made.style == Style::literal || made.style == Style::folded) feature(made.offset, "a block text does not stand as a key");
    else if (made.style == Style::plain && made.value == "<<") feature(made.offset, "merge keys are not part of YAML 1.2");
  }

  // ---- block style ------------------------------------------------------------------------------------------------
  /// The value behind ':', '-', '?' or at the beginning of the document. `parent`: column of the collection it belongs
  /// to. `indentless`: a list may stand at the parent's column. `compact`: a collection may begin on this line.
  bool block_node(int parent, bool indentless, bool compact, std::uint32_t& id) {
    const Level level(*this);
    if (level.too_deep()) return depth_error();
    const std::size_t start = at_;
    Properties outer;
    bool may_collect = compact;
    while (true) {
      const bool crossed = skip_space();
      may_collect = may_collect || crossed;
      const bool list_here = indentless && column() == parent && at_indicator('-');
      const bool ends = at_end() || (first_in_line() && (at_document_marker() || (column() <= parent && !list_here)));
      if (ends) {
        // Nothing: the node stands where its value was expected.
        if (outer.slot != 0) id = outer.slot;
        else if (!new_node(id)) return false;
        node(id).offset = static_cast<std::uint32_t>(start);
        node(id).open = false;
        return true;
      }
      if (tab_indented()) return tab_error();
      if (peek() != '&' && peek() != '!') return block_content(parent, may_collect, outer, {}, id);
      Properties found;
      if (!properties(found)) return false;
      if (!at_end() && !is_yaml_break(peek()) && !(peek() == '#' && is_yaml_blank(text_[at_ - 1]))) {
        return block_content(parent, may_collect, outer, found, id);
      }
      if (outer.any && (outer.slot != 0) == (found.slot != 0)) return fail(found.offset, "a value has two anchors or tags");
      if (found.slot != 0) outer.slot = found.slot, outer.anchor = found.anchor;
      outer.any = true;
      outer.offset = found.offset;
    }
  }

  /// At the first character of a value. `near`: anchor and tag right before it on the same line, which belong to the
  /// first key when a mapping begins here.
  bool block_content(int parent, bool may_collect, const Properties& outer, const Properties& near, std::uint32_t& id) {
    const int start_column = near.any ? near.column : column();
    const std::size_t begin = at_;
    const char c = peek();
    if (at_indicator('-')) {
      if (near.any) return fail(near.offset, "an anchor or tag of a list stands on the line before it");
      if (!may_collect) return fail(at_, "a list does not begin on the line of its key");
      if (!slot_for(outer, id)) return false;
      return block_sequence(start_column, id);
    }
    if (at_indicator('?') || at_indicator(':')) {
      if (near.any && c == '?') return fail(near.offset, "an anchor or tag of a mapping stands on the line before it");
      if (!may_collect) return fail(at_, c == ':' ? "a second ':' on this line; quote the text" : "a mapping does not begin on the line of its key");
      if (!slot_for(outer, id)) return false;
      return block_mapping(start_column, id, 0, near);
    }
    if (c == '|' || c == '>') {
      if (!value_slot(outer, near, id)) return false;
      return scalar(id, parent, false);
    }

    // A scalar, alias or flow collection; behind it a ':' makes it the first key of a mapping.
    std::uint32_t first = 0;
    if (!slot_for(near, first)) return false;
    const std::size_t line = line_start_;
    bool multiline = false;
    if (!inline_node(first, parent, near, true)) return false;
    const std::size_t value_end = at_;
    const std::size_t value_line = line_start_;
    skip_blanks();
    if (at_indicator(':')) {
      if (line_start_ != line) return fail(begin, "a key does not run over several lines");
      if (value_end - begin > kMaxImplicitKey) return fail(begin, "a key is longer than " + std::to_string(kMaxImplicitKey) + " bytes");
      if (!may_collect) return fail(at_, "a second ':' on this line; quote the text, or begin a mapping on the next line");
      if (!slot_for(outer, id)) return false;
      node(id).offset = static_cast<std::uint32_t>(near.any ? near.offset : begin);
      return block_mapping(start_column, id, first, near);
    }
    at_ = value_end;
    line_start_ = value_line;
    if (node(first).kind == Kind::scalar && node(first).style == Style::plain) {
      // Not a key, so the scalar may go on over more lines.
      at_ = begin;
      line_start_ = line;
      document_.pool.resize(document_.pool.size() - node(first).value.size());
      if (!scalar(first, parent, false, &multiline)) return false;
      const std::size_t end = at_;
      const std::size_t end_line = line_start_;
      skip_blanks();
      if (multiline && at_indicator(':')) {
        const bool at_line_start = text_.substr(line, begin - line).find_first_not_of(" \t-?") == std::string_view::npos;
        return fail(at_line_start ? begin : last_line_content_, at_line_start ? "a ':' is missing on this line" : "this line is indented as if it went on with the text above");
      }
      at_ = end;
      line_start_ = end_line;
    } else if (line_start_ != line && node(first).kind == Kind::scalar) {
      skip_blanks();
      const bool clean = at_end() || is_yaml_break(peek()) || (peek() == '#' && is_yaml_blank(text_[at_ - 1]));
      if (!clean) return fail(begin, "this quote is closed by a quote on another line, with more text behind it; one of them is not closed");
      at_ = value_end;
    }
    return adopt(outer, near, first, id);
  }

  /// A value that carries `outer` (from the line before) and `near` (already in its slot).
  bool adopt(const Properties& outer, const Properties& near, std::uint32_t made, std::uint32_t& id) {
    id = made;
    if (outer.slot == 0) return true;
    if (near.slot != 0) return fail(near.offset, "a value has two anchors");
    if (node(made).kind == Kind::alias) return fail(outer.offset, "an alias has no anchor or tag of its own");
    for (auto& [name, slot] : anchors_) {
      if (slot == outer.slot) slot = made;
    }
    return true;
  }
  bool value_slot(const Properties& outer, const Properties& near, std::uint32_t& id) {
    if (outer.slot != 0 && near.slot != 0) return fail(near.offset, "a value has two anchors");
    return slot_for(near.slot != 0 ? near : outer, id);
  }

  /// Alias, quoted or plain scalar, or flow collection in block style.
  bool inline_node(std::uint32_t id, int indent, const Properties& near, bool one_line) {
    const char c = peek();
    if (c == '*') {
      if (near.any) return fail(near.offset, "an alias has no anchor or tag of its own");
      return alias(id);
    }
    if (c == '[' || c == '{') return flow_collection(indent, id);
    return scalar(id, indent, one_line);
  }

  /// To the next entry of a block collection at `col`: 1 an entry, 0 the end, -1 an error.
  int next_entry(int col) {
    skip_space();
    if (at_end()) return 0;
    if (!first_in_line()) {
      if (peek() == '#') return fail(at_, "a comment needs a blank before it"), -1;
      if (peek() == ']' || peek() == '}') return fail(at_, std::string("'") + peek() + "' closes nothing"), -1;
      return fail(at_, "unexpected text behind the value"), -1;
    }
    if (at_document_marker()) return 0;
    if (column() < col) return 0;
    if (tab_indented()) return tab_error(), -1;
    if (column() > col) return fail(at_, "this line is indented to a column where no block begins"), -1;
    return 1;
  }

  bool block_sequence(int col, std::uint32_t id) {
    node(id).open = true;
    node(id).offset = static_cast<std::uint32_t>(at_);
    Children children;
    while (true) {
      ++at_;
      std::uint32_t item = 0;
      if (!block_node(col, false, true, item) || !append(children, item)) return false;
      const int next = next_entry(col);
      if (next < 0) return false;
      if (next == 0 || !at_indicator('-')) break;
    }
    close(id, Kind::sequence, Style::block, children);
    return true;
  }

  /// `first`: the first key when it was read already, 0 when the mapping is at its first key.
  bool block_mapping(int col, std::uint32_t id, std::uint32_t first, const Properties& near) {
    node(id).open = true;
    if (first == 0) node(id).offset = static_cast<std::uint32_t>(at_);
    Children children;
    Properties pending = first == 0 ? near : Properties{};
    while (true) {
      std::uint32_t key = first;
      std::uint32_t value = 0;
      first = 0;
      if (key == 0 && at_indicator('?')) {
        if (!explicit_entry(col, key, value)) return false;
      } else {
        if (key == 0 && !implicit_key(col, pending, key)) return false;
        pending = {};
        ++at_;  // ':'
        check_key(key);
        if (!block_node(col, true, false, value)) return false;
      }
      if (!append(children, key) || !append(children, value)) return false;
      const int next = next_entry(col);
      if (next < 0) return false;
      if (next == 0) break;
    }
    close(id, Kind::mapping, Style::block, children);
    return true;
  }

  bool explicit_entry(int col, std::uint32_t& key, std::uint32_t& value) {
    ++at_;
    if (!block_node(col, true, true, key)) return false;
    check_key(key);
    const std::size_t back = at_;
    const std::size_t back_line = line_start_;
    skip_space();
    if (first_in_line() && column() == col && at_indicator(':')) {
      ++at_;
      return block_node(col, true, true, value);
    }
    at_ = back;
    line_start_ = back_line;
    return new_node(value);
  }

  /// At the column of a key; leaves the position at its ':'.
  bool implicit_key(int col, const Properties& given, std::uint32_t& key) {
    const std::size_t begin = at_;
    Properties found = given;
    if (!found.any && (peek() == '&' || peek() == '!') && !properties(found)) return false;
    if (at_indicator(':')) {
      if (!slot_for(found, key)) return false;
      node(key).open = false;
      return true;
    }
    if (at_indicator('-')) return fail(at_, "a list entry stands where a key was expected");
    if (!slot_for(found, key)) return false;
    const std::size_t line = line_start_;
    if (!inline_node(key, col, found, true)) return false;
    const std::size_t end = at_;
    skip_blanks();
    if (!at_indicator(':')) {
      if (line_start_ != line) return fail(begin, "a key does not run over several lines");
      return fail(begin, "a ':' is missing on this line");
    }
    if (line_start_ != line) return fail(begin, "a key does not run over several lines");
    if (end - begin > kMaxImplicitKey) return fail(begin, "a key is longer than " + std::to_string(kMaxImplicitKey) + " bytes");
    return true;
  }

  // ---- the document -----------------------------------------------------------------------------------------------
  bool directives() {
    bool any = false;
    skip_space();
    while (at_ == line_start_ && peek() == '%' && !at_end()) {
      any = true;
      const std::size_t begin = at_;
      while (!at_end() && !is_yaml_break(peek())) ++at_;
      const std::string_view line = text_.substr(begin, at_ - begin);
      if (line.substr(0, 8) != "%YAML 1.") feature(begin, "directives other than %YAML 1.2 are not read");
      skip_space();
    }
    if (any && !(at_document_marker() && peek() == '-')) return fail(at_, "'---' must follow a directive");
    return true;
  }

  bool document_end() {
    skip_space();
    if (at_end()) return true;
    if (!at_document_marker()) {
      if (!first_in_line()) return fail(at_, peek() == '#' ? "a comment needs a blank before it" : "unexpected text behind the value");
      return fail(at_, "unexpected text behind the end of the document");
    }
    if (peek() == '.') {
      const std::size_t marker_line = line_start_;
      at_ += 3;
      skip_space();
      if (at_end()) return true;
      if (line_start_ == marker_line) return fail(at_, "unexpected text behind '...'");
    }
    feature(at_, "a file holds one document; a second one begins here");
    return true;
  }

  YamlDocument& document_;
  std::string_view text_;
  const YamlLimits& limits_;
  std::size_t at_ = 0;
  std::size_t line_start_ = 0;
  std::size_t last_line_content_ = 0;
  std::size_t depth_ = 0;
  std::size_t flow_depth_ = 0;
  std::size_t aliases_ = 0;
  std::unordered_map<std::string_view, std::uint32_t> anchors_;
};

}  // namespace

std::unique_ptr<YamlDocument> read_yaml(std::string bytes, const YamlLimits& limits, std::optional<YamlProblem>& problem) {
  auto document = std::make_unique<YamlDocument>();
  const std::size_t size = bytes.size();
  if (size > limits.bytes) bytes.clear();
  document->source = std::make_unique<SourceText>(std::move(bytes));
  if (size > limits.bytes) {
    problem = YamlProblem{0, "yaml-limit", "the file is longer than " + std::to_string(limits.bytes) + " bytes"};
  } else if (auto encoding = document->source->check_encoding()) {
    problem = YamlProblem{encoding->offset, "yaml-encoding", std::move(encoding->message)};
  } else {
    Reader reader(*document, limits);
    if (!reader.run()) problem = std::move(reader.problem);
  }
  return document;
}

std::size_t source_offset(const YamlDocument& document, const YamlNode& scalar, std::size_t value_offset) {
  if (scalar.kind != Kind::scalar) return scalar.offset;
  auto& trace = document.trace;
  if (document.traced != &scalar) {
    const std::string_view text = document.source->text();
    std::size_t line = scalar.offset;
    while (line > 0 && !is_yaml_break(text[line - 1])) --line;
    trace.clear();
    document.traced = &scalar;
    ScalarScanner scanner(text, scalar.offset, line, scalar.indent, scalar.in_flow);
    scanner.trace = &trace;
    switch (scalar.style) {
      case Style::single_quoted: scanner.single_quoted(); break;
      case Style::double_quoted: scanner.double_quoted(); break;
      case Style::literal:
      case Style::folded: scanner.block(); break;
      default: scanner.plain(false); break;
    }
  }
  if (value_offset < trace.size()) return trace[value_offset];
  return trace.empty() ? scalar.offset : trace.back() + 1;
}

}  // namespace kontor::agent
