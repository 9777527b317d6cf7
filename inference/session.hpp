#pragma once
// One token timeline over shared weights. The caller hands over the full prefix every time; the session computes only
// what its KV cache does not hold.

#include "base/error.hpp"
#include "inference/engine.hpp"
#include "inference/text_model.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <vector>

namespace kontor::inference {

/// Used by one thread at a time; sessions of one engine may be used at the same time.
class Session {
 public:
  explicit Session(std::shared_ptr<Engine> engine);

  struct Prefill {
    std::int64_t computed = 0;
    std::int64_t reused = 0;
    bool stopped = false;  ///< The stop token fired; what was computed is kept for the next call.
  };
  /// Makes the timeline equal to `tokens` (not empty): keeps the longest common prefix, rolls back behind it, computes
  /// the rest in chunks. Afterwards logits() belong to the last token. At least the last token is computed, unless the
  /// timeline already ends there. Errors: those of Backend::forward.
  Result<Prefill> sync(std::span<const TokenId> tokens, std::stop_token stop = {});

  /// Appends one token and computes its logits. Errors: those of Backend::forward.
  Result<void> append(TokenId token);

  /// After the last token of the timeline; `vocabulary` floats, valid until the next call.
  std::span<const float> logits() const { return logits_; }
  std::span<const TokenId> tokens() const { return tokens_; }
  /// Bytes of the KV cache.
  std::uint64_t kv_bytes() const { return sequence_->bytes(); }
  void clear();

 private:
  void roll_back(std::size_t length);

  std::shared_ptr<Engine> engine_;
  std::unique_ptr<Sequence> sequence_;
  std::vector<TokenId> tokens_;  ///< What the sequence holds.
  std::vector<float> logits_;    ///< Empty: not known for the last token.
};

}  // namespace kontor::inference
