#pragma once
// How well a model predicts a text.

#include "base/error.hpp"
#include "inference/engine.hpp"

#include <cstdint>
#include <functional>
#include <string_view>

namespace kontor::inference {

struct PerplexityOptions {
  /// Tokens of a window. The second half of each is scored, with the first half as context.
  std::int64_t window = 512;
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

struct Perplexity {
  double perplexity = 0;      ///< exp of the mean negative log-probability of the scored tokens.
  double standard_error = 0;  ///< Of the perplexity.
  double bits_per_byte = 0;   ///< Comparable between vocabularies.
  std::int64_t tokens = 0, scored = 0, windows = 0;
};

/// Splits the text into windows (the begin token, where the vocabulary has one, in front of each) and scores them. A
/// text shorter than two windows' halves is scored as one shorter window. Errors: usage (empty_prompt: fewer than two
/// tokens), those of Engine::forward, internal (nonfinite_logits).
Result<Perplexity> measure_perplexity(Engine& engine, std::string_view text, const PerplexityOptions& options = {});

}  // namespace kontor::inference
