#pragma once
// One token timeline over shared weights. The caller hands over the full prefix every time; the session computes only
// what neither its own KV cache nor the tenant's prefix cache holds.

#include "base/error.hpp"
#include "inference/engine.hpp"
#include "inference/prefix_cache.hpp"
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
  /// `cache`: taken from before tokens are computed; null: none.
  explicit Session(std::shared_ptr<Engine> engine, std::shared_ptr<PrefixCache> cache = nullptr);

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

  // What sync and append are made of, for callers that compute several sessions in one forward pass: reuse(), then
  // extension() and commit() until the timeline is as wanted.

  /// The timeline becomes the longest prefix of `tokens` that needs no computing; returns its length. Less than all of
  /// `tokens`, unless logits() are known for the last one. Errors: usage (empty_prompt), limit (context_full).
  Result<std::int64_t> reuse(std::span<const TokenId> tokens);
  /// What a forward pass is asked for in order to append `tokens`. `out`: as for Extension.
  Extension extension(std::span<const TokenId> tokens, Output output, float* out) { return {sequence_.get(), tokens, output, out}; }
  /// The pass is done: the tokens belong to the timeline; `logits`: of the last one, empty where they are not known.
  void commit(std::span<const TokenId> tokens, std::span<const float> logits);
  /// Forgets the tokens from `length` on.
  void roll_back(std::size_t length);

  /// Puts the timeline into the prefix cache.
  void publish() const;
  /// The same timeline, going its own way from here; shares the memory of what both hold.
  Session fork() const;

  /// After the last token of the timeline; `vocabulary` floats, valid until the next call.
  std::span<const float> logits() const { return logits_; }
  std::span<const TokenId> tokens() const { return tokens_; }
  const std::shared_ptr<Engine>& engine() const { return engine_; }
  /// Bytes of the KV cache, shared ones included.
  std::uint64_t kv_bytes() const { return sequence_->bytes(); }
  void clear() { roll_back(0); }

 private:
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<PrefixCache> cache_;
  std::unique_ptr<Sequence> sequence_;
  std::vector<TokenId> tokens_;  ///< What the sequence holds.
  std::vector<float> logits_;    ///< Empty: not known for the last token.
};

}  // namespace kontor::inference
