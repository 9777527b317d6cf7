#include "inference/perplexity.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace kontor::inference {
namespace {

/// Negative log-probability of `token` under the logits.
double surprise(std::span<const float> logits, TokenId token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(double{x} - largest);
  return largest + std::log(sum) - double{logits[static_cast<std::size_t>(token)]};
}

}  // namespace

Result<Perplexity> measure_perplexity(Engine& engine, std::string_view text, const PerplexityOptions& options) {
  const Tokenizer& tokenizer = engine.tokenizer();
  const std::vector<TokenId> tokens = tokenizer.encode(text, false);
  if (tokens.size() < 2) return fail(Errc::usage, "a text of at least two tokens is needed", "empty_prompt");
  const auto vocabulary = static_cast<std::size_t>(engine.config().vocabulary);
  const bool begin = tokenizer.add_bos() && tokenizer.bos();
  const auto limit = static_cast<std::size_t>(std::min<std::int64_t>(options.window, engine.context()));
  const std::size_t room = std::max<std::size_t>(2, limit - (begin ? 1 : 0));

  Perplexity result;
  result.tokens = static_cast<std::int64_t>(tokens.size());
  double sum = 0, squares = 0, bytes = 0;
  std::vector<float> logits;
  for (std::size_t at = 0; at + 1 < tokens.size(); at += room) {
    const std::size_t count = std::min(room, tokens.size() - at);
    if (result.windows > 0 && count < room) break;  // A rest would be scored with less context than the others.
    std::vector<TokenId> window(tokens.begin() + static_cast<std::ptrdiff_t>(at), tokens.begin() + static_cast<std::ptrdiff_t>(at + count));
    if (begin) window.insert(window.begin(), *tokenizer.bos());
    logits.resize(window.size() * vocabulary);
    const auto sequence = engine.create_sequence();
    const Extension extension[] = {{sequence.get(), window, Output::all_logits, logits.data()}};
    if (const auto done = engine.forward(extension); !done) return done.error();
    for (std::size_t i = std::max<std::size_t>(1, window.size() / 2); i < window.size(); ++i) {
      const double bits = surprise(std::span(logits).subspan((i - 1) * vocabulary, vocabulary), window[i]);
      if (!std::isfinite(bits)) return fail(Errc::internal, "the model computed values that are not numbers", "nonfinite_logits");
      sum += bits, squares += bits * bits;
      bytes += static_cast<double>(tokenizer.piece(window[i]).size());
      ++result.scored;
    }
    ++result.windows;
    if (options.progress) options.progress(static_cast<std::int64_t>(at + count), result.tokens);
  }
  const auto n = static_cast<double>(result.scored);
  const double mean = sum / n, variance = std::max(0.0, squares / n - mean * mean);
  result.perplexity = std::exp(mean);
  result.standard_error = n > 1 ? result.perplexity * std::sqrt(variance / (n - 1)) : 0;
  result.bits_per_byte = bytes > 0 ? sum / std::numbers::ln2 / bytes : 0;
  return result;
}

}  // namespace kontor::inference
