#pragma once
// The syntax tree of an expression. Terms live in one array and name their children by index, so that a tree is
// destroyed without recursion; its depth and size are bounded when it is built.

#include "agent/spec/expression.hpp"
#include "base/decimal.hpp"

#include <cstdint>

namespace kontor::agent {

enum class Op : std::uint8_t {
  number, string, boolean, null,
  name, field, index, call, method, list,
  not_, negate,
  multiply, divide, modulo, add, subtract,
  equal, not_equal, less, less_equal, greater, greater_equal, in,
  and_, or_, conditional,
};

struct Term {
  Op op = Op::null;
  bool flag = false;                     ///< boolean: its value
  std::uint16_t depth = 1;
  std::uint32_t start = 0;               ///< Byte where the term begins in the text.
  std::uint32_t at = 0;                  ///< Byte of the token that makes it: operator, field or function name.
  std::string text;                      ///< name, field, call, method: identifier; string: its value; operators: spelling
  Decimal number;
  std::vector<std::uint32_t> children;   ///< method: the object first
};

struct Expression::Node {
  std::vector<Term> terms;
  std::uint32_t root = 0;
};

/// Why a text is not an expression. `offset` is a byte offset into the text.
struct ExpressionProblem {
  enum class Kind { syntax, type, limit } kind = Kind::syntax;
  std::size_t offset = 0;
  std::string message;
  std::string suggestion;
};

constexpr std::size_t kMaxExpressionDepth = 128;
constexpr std::size_t kMaxExpressionTerms = 4096;

/// false: `problem` says why.
bool parse_expression(std::string_view text, Expression::Node& tree, ExpressionProblem& problem);

/// A piece of a template: literal text, or the expression between "${" and "}". Offsets are bytes into the template.
struct TemplatePiece {
  bool is_expression = false;
  std::size_t begin = 0, end = 0;        ///< expression: what stands between the braces
  std::string text;                      ///< literal: "$${" already read as "${"
};

/// Splits a template. An expression that is never closed is a syntax problem at its "${" or at its open quote.
bool split_template(std::string_view text, std::vector<TemplatePiece>& pieces, ExpressionProblem& problem);

}  // namespace kontor::agent
