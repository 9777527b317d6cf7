#pragma once
// Evaluation of a parsed expression over JSON values, with exact decimals.

#include "agent/spec/expression_tree.hpp"

namespace kontor::agent {

constexpr std::size_t kMaxEvaluatedBytes = 16u << 20;   ///< Text an expression may build.
constexpr std::size_t kMaxEvaluatedItems = 1'000'000;   ///< Elements a projection or list may have.

using ConfidenceOf = std::function<Result<double>(std::string_view path)>;

/// Errors as documented at Expression::evaluate. Never throws.
Result<Json> evaluate_tree(const Expression::Node& tree, const Scope& scope, const ConfidenceOf& confidence);

/// The path of names and fields ("args.iban"), or "" when the term is something else.
std::string path_of(const Expression::Node& tree, std::uint32_t term);

}  // namespace kontor::agent
