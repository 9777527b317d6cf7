// Recursive descent over a bounded depth; operator chains are loops.

#include "agent/spec/expression_tree.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <array>

namespace kontor::agent {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name_char(char c) { return is_name_start(c) || is_digit(c); }

struct Token {
  enum class Kind { end, name, number, string, symbol } kind = Kind::end;
  std::size_t at = 0;
  std::size_t end = 0;
  std::string text;  // name, symbol, number: as written; string: decoded
};

struct BinaryOperator {
  std::string_view spelling;
  Op op;
  int level;  // higher binds tighter
};

constexpr std::array<BinaryOperator, 14> kBinary{{
    {"||", Op::or_, 1}, {"&&", Op::and_, 2},
    {"==", Op::equal, 3}, {"!=", Op::not_equal, 3}, {"<=", Op::less_equal, 3}, {">=", Op::greater_equal, 3},
    {"<", Op::less, 3}, {">", Op::greater, 3}, {"in", Op::in, 3},
    {"+", Op::add, 4}, {"-", Op::subtract, 4},
    {"*", Op::multiply, 5}, {"/", Op::divide, 5}, {"%", Op::modulo, 5},
}};
constexpr int kUnaryLevel = 6;

/// What people write who come from another language.
std::string_view familiar(std::string_view word) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 16> kWords{{
      {"=", "=="}, {"===", "=="}, {"!==", "!="}, {"<>", "!="}, {"and", "&&"}, {"AND", "&&"}, {"or", "||"}, {"OR", "||"},
      {"not", "!"}, {"NOT", "!"}, {"&", "&&"}, {"|", "||"}, {"is", "=="}, {"eq", "=="}, {"=<", "<="}, {"=>", ">="},
  }};
  for (const auto& [theirs, ours] : kWords) {
    if (theirs == word) return ours;
  }
  return {};
}

class Parser {
 public:
  Parser(std::string_view text, Expression::Node& tree, ExpressionProblem& problem)
      : text_(text), tree_(tree), problem_(problem) {}

  bool run() {
    if (!advance()) return false;
    if (token_.kind == Token::Kind::end) return fail_at(0, "the expression is empty");
    std::uint32_t root = 0;
    if (!parse_conditional(root, 0)) return false;
    if (token_.kind != Token::Kind::end) return unexpected("an operator or the end");
    tree_.root = root;
    return true;
  }

 private:
  bool fail_at(std::size_t offset, std::string message, std::string suggestion = {},
               ExpressionProblem::Kind kind = ExpressionProblem::Kind::syntax) {
    problem_ = {kind, offset, std::move(message), std::move(suggestion)};
    return false;
  }
  bool unexpected(const std::string& wanted) {
    if (token_.kind == Token::Kind::end) return fail_at(token_.at, "the expression ends where " + wanted + " was expected");
    const std::string shown = token_.kind == Token::Kind::string ? "a string" : "'" + shown_text(token_.text, 40) + "'";
    return fail_at(token_.at, shown + " stands where " + wanted + " was expected", std::string(familiar(token_.text)));
  }

  bool advance() {
    std::size_t at = token_.end;
    while (at < text_.size() && (text_[at] == ' ' || text_[at] == '\t' || text_[at] == '\n' || text_[at] == '\r')) ++at;
    token_ = {Token::Kind::end, at, at, {}};
    if (at == text_.size()) return true;
    const char c = text_[at];
    if (is_name_start(c)) return take_while(Token::Kind::name, is_name_char);
    if (is_digit(c)) return after_dot_ ? take_while(Token::Kind::name, is_name_char) : number();
    if (c == '\'' || c == '"') return string(c);
    return symbol(c);
  }
  bool take_while(Token::Kind kind, bool (*belongs)(char)) {
    while (token_.end < text_.size() && belongs(text_[token_.end])) ++token_.end;
    token_.kind = kind;
    token_.text = text_.substr(token_.at, token_.end - token_.at);
    return true;
  }
  bool number() {
    std::size_t at = token_.at;
    const auto digits = [&] { while (at < text_.size() && is_digit(text_[at])) ++at; };
    digits();
    if (at + 1 < text_.size() && text_[at] == '.' && is_digit(text_[at + 1])) {
      ++at;
      digits();
    }
    if (at < text_.size() && (text_[at] == 'e' || text_[at] == 'E')) {
      std::size_t exponent = at + 1;
      if (exponent < text_.size() && (text_[exponent] == '+' || text_[exponent] == '-')) ++exponent;
      if (exponent < text_.size() && is_digit(text_[exponent])) {
        at = exponent;
        digits();
      }
    }
    token_.kind = Token::Kind::number;
    token_.end = at;
    token_.text = text_.substr(token_.at, at - token_.at);
    if (at < text_.size() && is_name_char(text_[at])) return fail_at(token_.at, "a number runs into a word; names begin with a letter");
    return true;
  }
  bool string(char quote) {
    std::size_t at = token_.at + 1;
    for (; at < text_.size() && text_[at] != quote; ++at) {
      char c = text_[at];
      if (c == '\\') {
        if (++at == text_.size()) break;
        c = text_[at];
        switch (c) {
          case 'n': c = '\n'; break;
          case 't': c = '\t'; break;
          case 'r': c = '\r'; break;
          case '\\': case '\'': case '"': break;
          default: return fail_at(at - 1, "an escape that is not known here; known are \\n \\t \\r \\\\ \\' \\\"");
        }
      }
      token_.text += c;
    }
    if (at >= text_.size()) return fail_at(token_.at, "this string is never closed");
    token_.kind = Token::Kind::string;
    token_.end = at + 1;
    return true;
  }
  bool symbol(char c) {
    static constexpr std::array<std::string_view, 10> kLong{"===", "!==", "==", "!=", "<=", ">=", "&&", "||", "<>", "=>"};
    for (const auto spelling : kLong) {
      if (text_.substr(token_.at, spelling.size()) != spelling) continue;
      token_.text = spelling;
      break;
    }
    if (token_.text.empty()) {
      const std::size_t length = code_point_length(text_, token_.at);
      token_.text = text_.substr(token_.at, length);
    }
    token_.kind = Token::Kind::symbol;
    token_.end = token_.at + token_.text.size();
    static constexpr std::string_view kSingle = "()[]{}.,?:+-*/%!<>";
    static constexpr std::array<std::string_view, 6> kDouble{"==", "!=", "<=", ">=", "&&", "||"};
    const bool known = token_.text.size() == 1 ? kSingle.find(c) != std::string_view::npos
                                               : std::find(kDouble.begin(), kDouble.end(), token_.text) != kDouble.end();
    if (!known) return unexpected("an operator or a value");
    return true;
  }

  bool is_symbol(std::string_view spelling) const { return token_.kind == Token::Kind::symbol && token_.text == spelling; }
  bool expect(std::string_view spelling, std::size_t opened) {
    if (!is_symbol(spelling)) {
      if (token_.kind == Token::Kind::end) return fail_at(opened, "'" + std::string(text_.substr(opened, 1)) + "' is never closed with '" + std::string(spelling) + "'");
      return unexpected("'" + std::string(spelling) + "'");
    }
    return advance();
  }

  bool add(Term term, std::uint32_t& out) {
    std::uint16_t depth = 0;
    for (const auto child : term.children) depth = std::max(depth, tree_.terms[child].depth);
    if (depth >= kMaxExpressionDepth) return too_deep(term.at);
    term.depth = static_cast<std::uint16_t>(depth + 1);
    if (tree_.terms.size() >= kMaxExpressionTerms) {
      return fail_at(term.at, "the expression has more than " + std::to_string(kMaxExpressionTerms) + " terms", {}, ExpressionProblem::Kind::limit);
    }
    out = static_cast<std::uint32_t>(tree_.terms.size());
    tree_.terms.push_back(std::move(term));
    return true;
  }
  bool too_deep(std::size_t at) {
    return fail_at(at, "the expression is nested deeper than " + std::to_string(kMaxExpressionDepth) + " levels", {}, ExpressionProblem::Kind::limit);
  }
  Term make(Op op, std::size_t start, std::size_t at, std::string text = {}, std::vector<std::uint32_t> children = {}) {
    Term term;
    term.op = op;
    term.start = static_cast<std::uint32_t>(start);
    term.at = static_cast<std::uint32_t>(at);
    term.text = std::move(text);
    term.children = std::move(children);
    return term;
  }
  std::size_t start_of(std::uint32_t term) const { return tree_.terms[term].start; }

  bool parse_conditional(std::uint32_t& out, std::size_t depth) {
    if (depth >= kMaxExpressionDepth) return too_deep(token_.at);
    if (!parse_binary(out, 1, depth)) return false;
    if (!is_symbol("?")) return true;
    const std::size_t at = token_.at;
    std::uint32_t yes = 0;
    std::uint32_t no = 0;
    if (!advance() || !parse_conditional(yes, depth + 1)) return false;
    if (!is_symbol(":")) return unexpected("':'");
    if (!advance() || !parse_conditional(no, depth + 1)) return false;
    return add(make(Op::conditional, start_of(out), at, "?", {out, yes, no}), out);
  }

  bool parse_binary(std::uint32_t& left, int level, std::size_t depth) {
    if (level == kUnaryLevel) return parse_unary(left, depth);
    if (!parse_binary(left, level + 1, depth)) return false;
    while (const BinaryOperator* found = binary_operator(level)) {
      const std::size_t at = token_.at;
      std::uint32_t right = 0;
      if (!advance() || !parse_binary(right, level + 1, depth)) return false;
      if (!add(make(found->op, start_of(left), at, std::string(found->spelling), {left, right}), left)) return false;
    }
    return true;
  }
  const BinaryOperator* binary_operator(int level) const {
    if (token_.kind != Token::Kind::symbol && token_.kind != Token::Kind::name) return nullptr;
    for (const auto& candidate : kBinary) {
      if (candidate.level == level && candidate.spelling == token_.text) return &candidate;
    }
    return nullptr;
  }

  bool parse_unary(std::uint32_t& out, std::size_t depth) {
    struct Prefix { Op op; std::size_t at; };
    std::vector<Prefix> prefixes;
    while (is_symbol("!") || is_symbol("-")) {
      if (prefixes.size() + depth >= kMaxExpressionDepth) return too_deep(token_.at);
      prefixes.push_back({is_symbol("!") ? Op::not_ : Op::negate, token_.at});
      if (!advance()) return false;
    }
    if (!parse_member(out, depth)) return false;
    for (auto prefix = prefixes.rbegin(); prefix != prefixes.rend(); ++prefix) {
      if (!add(make(prefix->op, prefix->at, prefix->at, prefix->op == Op::not_ ? "!" : "-", {out}), out)) return false;
    }
    return true;
  }

  bool parse_member(std::uint32_t& out, std::size_t depth) {
    if (!parse_primary(out, depth)) return false;
    while (true) {
      if (is_symbol(".")) {
        after_dot_ = true;
        const bool advanced = advance();
        after_dot_ = false;
        if (!advanced) return false;
        if (token_.kind != Token::Kind::name) return unexpected("a field name");
        Term term = make(Op::field, start_of(out), token_.at, token_.text, {out});
        if (!advance()) return false;
        if (is_symbol("(")) {
          term.op = Op::method;
          if (!parse_arguments(term.children, ")", depth)) return false;
        }
        if (!add(std::move(term), out)) return false;
      } else if (is_symbol("[")) {
        const std::size_t at = token_.at;
        std::uint32_t index = 0;
        if (!advance() || !parse_conditional(index, depth + 1)) return false;
        if (!expect("]", at)) return false;
        if (!add(make(Op::index, start_of(out), at, "[", {out, index}), out)) return false;
      } else {
        return true;
      }
    }
  }

  /// At the opening bracket; leaves the token behind the closing one.
  bool parse_arguments(std::vector<std::uint32_t>& children, std::string_view close, std::size_t depth) {
    const std::size_t opened = token_.at;
    if (!advance()) return false;
    if (is_symbol(close)) return advance();
    while (true) {
      std::uint32_t argument = 0;
      if (!parse_conditional(argument, depth + 1)) return false;
      children.push_back(argument);
      if (!is_symbol(",")) return expect(close, opened);
      if (!advance()) return false;
    }
  }

  bool parse_primary(std::uint32_t& out, std::size_t depth) {
    const std::size_t at = token_.at;
    switch (token_.kind) {
      case Token::Kind::number: {
        Term term = make(Op::number, at, at, token_.text);
        const auto number = Decimal::parse(token_.text);
        if (!number) {
          return fail_at(at, "the number does not fit into 38 digits", {}, ExpressionProblem::Kind::type);
        }
        term.number = *number;
        return advance() && add(std::move(term), out);
      }
      case Token::Kind::string: {
        Term term = make(Op::string, at, at, token_.text);
        return advance() && add(std::move(term), out);
      }
      case Token::Kind::name: return parse_name(out, depth);
      case Token::Kind::symbol:
        if (is_symbol("(")) {
          if (!advance() || !parse_conditional(out, depth + 1)) return false;
          if (!expect(")", at)) return false;
          tree_.terms[out].start = static_cast<std::uint32_t>(at);
          return true;
        }
        if (is_symbol("[")) {
          Term term = make(Op::list, at, at, "[");
          return parse_arguments(term.children, "]", depth) && add(std::move(term), out);
        }
        return unexpected("a value");
      case Token::Kind::end: return unexpected("a value");
    }
    return false;
  }

  bool parse_name(std::uint32_t& out, std::size_t depth) {
    const std::size_t at = token_.at;
    const std::string name = token_.text;
    if (name == "in") return unexpected("a value");
    if (!advance()) return false;
    if (name == "true" || name == "false") {
      Term term = make(Op::boolean, at, at, name);
      term.flag = name == "true";
      return add(std::move(term), out);
    }
    if (name == "null") return add(make(Op::null, at, at, name), out);
    if (is_symbol("(")) {
      Term term = make(Op::call, at, at, name);
      return parse_arguments(term.children, ")", depth) && add(std::move(term), out);
    }
    // "not x", "x or y" with a word where an operator stands: say which operator is meant.
    if (!familiar(name).empty() && token_.kind != Token::Kind::end && token_.kind != Token::Kind::symbol) {
      return fail_at(at, "'" + name + "' is not part of the language", std::string(familiar(name)));
    }
    return add(make(Op::name, at, at, name), out);
  }

  std::string_view text_;
  Expression::Node& tree_;
  ExpressionProblem& problem_;
  Token token_;
  bool after_dot_ = false;
};

}  // namespace

bool parse_expression(std::string_view text, Expression::Node& tree, ExpressionProblem& problem) {
  return Parser(text, tree, problem).run();
}

bool split_template(std::string_view text, std::vector<TemplatePiece>& pieces, ExpressionProblem& problem) {
  std::string literal;
  std::size_t at = 0;
  const auto flush = [&] {
    if (literal.empty()) return;
    pieces.push_back({false, 0, 0, std::move(literal)});
    literal.clear();
  };
  while (at < text.size()) {
    if (text.substr(at, 3) == "$${") {
      literal += "${";
      at += 3;
      continue;
    }
    if (text.substr(at, 2) != "${") {
      literal += text[at++];
      continue;
    }
    flush();
    const std::size_t opened = at;
    const std::size_t begin = at + 2;
    std::size_t depth = 1;
    for (at = begin; at < text.size(); ++at) {
      const char c = text[at];
      if (c == '\'' || c == '"') {
        const std::size_t quote = at;
        for (++at; at < text.size() && text[at] != c; ++at) {
          if (text[at] == '\\') ++at;
        }
        if (at >= text.size()) {
          problem = {ExpressionProblem::Kind::syntax, quote, "this string is never closed", {}};
          return false;
        }
      } else if (c == '{') {
        ++depth;
      } else if (c == '}' && --depth == 0) {
        break;
      }
    }
    if (at >= text.size()) {
      problem = {ExpressionProblem::Kind::syntax, opened, "'${' is never closed with '}'", {}};
      return false;
    }
    pieces.push_back({true, begin, at, {}});
    ++at;
  }
  flush();
  return true;
}

}  // namespace kontor::agent
