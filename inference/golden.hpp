#pragma once
// Runs a backend over the sequences of a golden manifest: one call, token chunks on a kept cache, rollback, greedy.

#include "base/error.hpp"
#include "inference/backend.hpp"
#include "inference/pooling.hpp"

#include <string>
#include <vector>

namespace kontor::inference {

struct GoldenInput {
  std::vector<TokenId> one;       ///< seq1
  std::vector<TokenId> some;      ///< seq17
  std::vector<TokenId> many;      ///< seq130
  std::vector<std::int64_t> chunks;     ///< Lengths that sum to many.size().
  std::vector<std::int64_t> positions;  ///< Positions of `many` whose logits are rows.
  int greedy_steps = 24;
};

struct GoldenOutput {
  /// One row of `vocabulary` floats each: `one`, all of `some`, `many` at `positions`.
  std::vector<std::vector<float>> rows;
  std::vector<TokenId> greedy;  ///< Arg max tokens after `some`.
  /// Where appending in chunks, or cutting the cache back and appending again, gave other bits than one call.
  std::vector<std::string> differences;
};

/// Errors: those of Backend::forward, and internal (nonfinite_logits).
Result<GoldenOutput> run_golden(Backend& backend, const GoldenInput& input);

/// Embedding models: pooled vectors (not normalised) of `one`, `some` and `many`, then the states of `some`.
Result<GoldenOutput> run_golden_embedding(Backend& backend, const WeightFile& file, const GoldenInput& input);

/// A two-dimensional float32 array in NumPy's .npy format, version 1.0. Rows have equal length.
std::string npy_of(const std::vector<std::vector<float>>& rows);

}  // namespace kontor::inference
