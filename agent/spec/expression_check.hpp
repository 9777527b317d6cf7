#pragma once
// Types of expressions before anything runs.

#include "agent/spec/expression_tree.hpp"
#include "agent/spec/static_type.hpp"

#include <functional>

namespace kontor::agent {

/// A finding inside an expression. `offset` is a byte of the expression's text.
struct ExpressionFinding {
  std::size_t offset = 0;
  std::string kind;
  std::string message;
};

/// The names an expression may use. Types that are null are not known at this place.
struct ExpressionNames {
  TypePtr inputs, item, result, args;
  bool confidence = false;
  /// The type of steps.ID; null when the id cannot be used here, then `finding` (kind, message) says why. Empty
  /// function: there are no steps here.
  std::function<TypePtr(std::string_view id, ExpressionFinding& finding)> step;
};

/// The type of the whole; what is wrong is appended to `findings`.
TypePtr check_types(const Expression::Node& tree, const ExpressionNames& names, std::vector<ExpressionFinding>& findings);

}  // namespace kontor::agent
