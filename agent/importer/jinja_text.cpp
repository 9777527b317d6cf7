#include "agent/importer/jinja_text.hpp"

#include "agent/importer/placeholders.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace kontor::agent {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

/// A text in quotes, inside of an expression.
std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '\r') out += "\\r";
    else if (c == '\\' || c == '\'') out += std::string("\\") + c;
    else out += c;
  }
  return out + "'";
}

// ---- conditions -------------------------------------------------------------------------------------------------------

/// Reads a condition: or, and, not, comparisons, `in`, names, texts, numbers. Everything else is refused.
class Condition {
 public:
  Condition(std::string_view text, const JinjaInputs& inputs) : text_(text), inputs_(inputs) { next(); }

  /// The condition in the language of agent files.
  std::optional<std::string> read() {
    std::string whole = any(0);
    if (!good_ || !token_.empty()) return std::nullopt;
    return whole;
  }

 private:
  static constexpr int kDepth = 40;

  /// What stands between operators. `type` is "condition" for what is true or false by itself.
  struct Operand {
    std::string text, type;
    bool literal = false;
  };

  void next() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
    const std::size_t begin = at_;
    if (at_ == text_.size()) {
      token_ = {};
      return;
    }
    const char c = text_[at_];
    if (is_letter(c)) {
      while (at_ < text_.size() && (is_letter(text_[at_]) || is_digit(text_[at_]))) ++at_;
    } else if (is_digit(c)) {
      while (at_ < text_.size() && (is_digit(text_[at_]) || text_[at_] == '.')) ++at_;
    } else if (c == '\'' || c == '"') {
      const std::size_t close = text_.find(c, at_ + 1);
      good_ = good_ && close != std::string_view::npos && text_.substr(at_, close - at_).find('\\') == std::string_view::npos;
      at_ = close == std::string_view::npos ? text_.size() : close + 1;
    } else {
      at_ += text_.substr(at_, 2) == "==" || text_.substr(at_, 2) == "!=" || text_.substr(at_, 2) == "<=" || text_.substr(at_, 2) == ">=" ? 2 : 1;
    }
    token_ = text_.substr(begin, at_ - begin);
  }
  bool take(std::string_view word) {
    if (token_ != word) return false;
    next();
    return true;
  }
  std::string refuse() {
    good_ = false;
    return {};
  }

  std::string any(int depth) {
    if (depth > kDepth) return refuse();
    std::string text = all(depth);
    while (good_ && take("or")) text += " || " + all(depth);
    return text;
  }
  std::string all(int depth) {
    std::string text = negated(depth);
    while (good_ && take("and")) text += " && " + negated(depth);
    return text;
  }
  std::string negated(int depth) {
    if (depth > kDepth) return refuse();
    if (take("not")) return "!(" + negated(depth + 1) + ")";
    if (token_ == "(") {
      next();
      const std::string inner = any(depth + 1);
      return take(")") ? "(" + inner + ")" : refuse();
    }
    return comparison();
  }

  std::string comparison() {
    const Operand left = operand();
    if (!good_) return {};
    bool negative = false;
    if (take("not")) {
      if (token_ != "in") return refuse();
      negative = true;
    }
    if (take("in")) {
      const Operand right = operand();
      if (!good_ || right.literal) return refuse();
      const std::string found = as_text(right) + ".contains(" + as_text(left) + ")";
      return negative ? "!" + found : found;
    }
    static constexpr std::array<std::string_view, 6> kOperators{"==", "!=", "<=", ">=", "<", ">"};
    const auto known = std::find(kOperators.begin(), kOperators.end(), token_);
    if (known == kOperators.end()) return truth(left);
    next();
    const Operand right = operand();
    if (!good_) return {};
    const bool both = left.type == right.type;
    return (both ? left.text : as_text(left)) + " " + std::string(*known) + " " + (both ? right.text : as_text(right));
  }

  Operand operand() {
    const std::string_view token = token_;
    if (token.empty()) return {refuse(), "", false};
    next();
    if (token[0] == '\'' || token[0] == '"') return token.size() < 2 ? Operand{refuse(), "", true} : Operand{in_quotes(token.substr(1, token.size() - 2)), "string", true};
    if (is_digit(token[0])) return token.back() == '.' || std::count(token.begin(), token.end(), '.') > 1 ? Operand{refuse(), "", true} : Operand{std::string(token), "number", true};
    if (token == "true" || token == "True") return {"true", "boolean", true};
    if (token == "false" || token == "False") return {"false", "boolean", true};
    const auto input = inputs_.find(token);
    if (input == inputs_.end()) return {refuse(), "", false};
    return {"inputs." + input->second.name, input->second.type == "file" ? "string" : input->second.type, false};
  }

  static std::string as_text(const Operand& operand) { return operand.type == "string" ? operand.text : operand.literal ? in_quotes(operand.text) : "string(" + operand.text + ")"; }

  /// A value alone counts as true when it is not empty.
  std::string truth(const Operand& operand) {
    if (operand.literal) return refuse();
    if (operand.type == "boolean") return operand.text;
    return operand.text + (operand.type == "number" ? " != 0" : " != ''");
  }

  std::string_view text_, token_;
  const JinjaInputs& inputs_;
  std::size_t at_ = 0;
  bool good_ = true;
};

// ---- texts ------------------------------------------------------------------------------------------------------------

struct Tag {
  std::size_t at = 0, end = 0;
  char kind = 0;             ///< '{' for values, '%' for statements, '#' for comments; 0: there is none
  std::string_view inner;    ///< Without blanks around.
  bool cuts_before = false, cuts_after = false;
};

class Reader {
 public:
  Reader(std::string_view text, const JinjaInputs& inputs, const std::function<void(std::size_t, std::string_view)>& wrong) : text_(text), inputs_(inputs), wrong_(wrong) {}

  std::string read() {
    TextBuilder builder;
    while (at_ < text_.size()) {
      const Tag tag = next_tag();
      literal(tag, [&](std::string_view text) { builder.literal(text); });
      if (tag.kind == 0) break;
      at_ = tag.end;
      cut_ = tag.cuts_after;
      if (tag.kind == '#') continue;
      const auto written = tag.kind == '{' ? value(tag) : tag.inner.starts_with("if ") ? choice(tag, 0) : std::nullopt;
      if (written) {
        builder.expression(*written);
      } else {
        // Nothing of a block that is not understood is taken out.
        if (at_ == tag.end) wrong_(tag.at, text_.substr(tag.at, tag.end - tag.at));
        builder.literal(text_.substr(tag.at, at_ - tag.at));
      }
    }
    return builder.text();
  }

 private:
  static constexpr int kDepth = 20;
  static constexpr std::string_view kTooDeep = "an {% if %} or {% elif %} more than 20 levels deep";

  Tag next_tag() {
    Tag tag;
    for (std::size_t at = text_.find('{', at_); at != std::string_view::npos; at = text_.find('{', at + 1)) {
      const char kind = at + 1 < text_.size() ? text_[at + 1] : '\0';
      if ((kind != '{' && kind != '%' && kind != '#') || never_closed_.find(kind) != std::string::npos) continue;
      const std::size_t close = text_.find(kind == '{' ? "}}" : kind == '%' ? "%}" : "#}", at + 2);
      if (close == std::string_view::npos) {
        never_closed_ += kind;  // Nor is any behind it: the text is not searched again for each.
        continue;
      }
      tag.at = at;
      tag.end = close + 2;
      tag.kind = kind;
      std::string_view inner = text_.substr(at + 2, close - at - 2);
      tag.cuts_before = inner.starts_with('-');
      if (tag.cuts_before) inner.remove_prefix(1);
      tag.cuts_after = inner.ends_with('-');
      if (tag.cuts_after) inner.remove_suffix(1);
      tag.inner = trimmed(inner);
      return tag;
    }
    tag.at = tag.end = text_.size();
    return tag;
  }

  /// The text before a tag.
  template <class Put>
  void literal(const Tag& tag, const Put& put) const {
    std::string_view text = text_.substr(at_, tag.at - at_);
    if (cut_) text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    if (tag.cuts_before) text = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
    if (!text.empty()) put(text);
  }

  std::optional<std::string> value(const Tag& tag) const {
    const auto input = inputs_.find(tag.inner);
    return input == inputs_.end() ? std::nullopt : std::optional("inputs." + input->second.name);
  }
  std::optional<std::string> value_as_text(const Tag& tag) const {
    const auto input = inputs_.find(tag.inner);
    if (input == inputs_.end()) return std::nullopt;
    const bool text = input->second.type == "string" || input->second.type == "file";
    return text ? "inputs." + input->second.name : "string(inputs." + input->second.name + ")";
  }

  /// From behind `opening` to behind its endif, as one expression. nullopt: it was reported, and what it is made of stays.
  std::optional<std::string> choice(const Tag& opening, int depth) {
    if (depth >= kDepth) {
      wrong_(opening.at, kTooDeep);
      skip_choice();
      return std::nullopt;
    }
    const std::string_view condition = opening.inner.substr(opening.inner.starts_with("elif ") ? 5 : 3);
    const auto decided = Condition(condition, inputs_).read();
    bool good = decided.has_value();
    if (!good) wrong_(opening.at, text_.substr(opening.at, opening.end - opening.at));
    Tag closing;
    auto yes = branch(depth, closing);
    good = good && yes;
    std::optional<std::string> no = "''";
    if (closing.inner.starts_with("elif ") && closing.kind == '%') {
      no = choice(closing, depth + 1);
    } else if (closing.kind == '%' && closing.inner == "else") {
      no = branch(depth, closing);
      good = good && closing.kind == '%' && closing.inner == "endif";
    } else if (closing.kind == 0) {
      wrong_(opening.at, "an {% if %} without its {% endif %}");
      good = false;
    }
    if (!good || !no) return std::nullopt;
    return "(" + *decided + ") ? " + *yes + " : " + (no->starts_with('(') ? "(" + *no + ")" : *no);
  }

  /// To behind the endif of the choice that the text stands in, or to its end.
  void skip_choice() {
    for (int open = 1; open > 0;) {
      const Tag tag = next_tag();
      at_ = tag.end;
      cut_ = tag.cuts_after;
      if (tag.kind == 0) return;
      if (tag.kind != '%') continue;
      if (tag.inner.starts_with("if ")) ++open;
      if (tag.inner == "endif") --open;
    }
  }

  /// A branch up to elif, else or endif, which `closing` is then (kind 0: the end of the text).
  std::optional<std::string> branch(int depth, Tag& closing) {
    std::string sum;
    const auto add = [&](const std::string& piece) { sum += (sum.empty() ? "" : " + ") + piece; };
    bool good = true;
    while (true) {
      const Tag tag = next_tag();
      literal(tag, [&](std::string_view text) { add(in_quotes(text)); });
      at_ = tag.end;
      cut_ = tag.cuts_after;
      if (tag.kind == 0 || (tag.kind == '%' && (tag.inner == "else" || tag.inner == "endif" || tag.inner.starts_with("elif ")))) {
        closing = tag;
        break;
      }
      if (tag.kind == '#') continue;
      const bool nested = tag.kind == '%' && tag.inner.starts_with("if ");
      const auto written = tag.kind == '{' ? value_as_text(tag) : nested ? choice(tag, depth + 1) : std::nullopt;
      if (written) {
        add(nested ? "(" + *written + ")" : *written);
      } else {
        if (!nested) wrong_(tag.at, text_.substr(tag.at, tag.end - tag.at));
        good = false;
      }
    }
    if (!good) return std::nullopt;
    return sum.empty() ? "''" : sum;
  }

  std::string_view text_;
  const JinjaInputs& inputs_;
  const std::function<void(std::size_t, std::string_view)>& wrong_;
  std::size_t at_ = 0;
  bool cut_ = false;
  std::string never_closed_;  ///< Kinds of tags that are not closed from here on.
};

}  // namespace

std::string jinja_text(std::string_view text, const JinjaInputs& inputs, const std::function<void(std::size_t, std::string_view)>& wrong) {
  return Reader(text, inputs, wrong).read();
}

}  // namespace kontor::agent
