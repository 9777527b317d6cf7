#pragma once
// What may come next, token by token. A compiled grammar implements it; sampling, jump-forward and speculation obey it.

#include "base/error.hpp"
#include "inference/text_model.hpp"

#include <cstdint>
#include <memory>
#include <span>

namespace kontor::inference {

/// State of one generation. Used by one thread at a time.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  /// Bit `id % 32` of word `id / 32` is set where token `id` may come next; an end-of-turn token is allowed exactly where
  /// the output may end. At least one bit is set unless finished(). Valid until the next call of accept().
  virtual std::span<const std::uint32_t> mask() = 0;

  /// Tokens that have to come next whatever the model says, as the tokenizer would cut that text; empty where there is a
  /// choice. The caller appends them without sampling and passes each to accept(). Valid until the next call of accept().
  virtual std::span<const TokenId> forced() = 0;

  /// The token is part of the output now. Errors: usage (constraint_violated) for a token that mask() excludes.
  virtual Result<void> accept(TokenId token) = 0;

  /// Nothing more may come.
  virtual bool finished() const = 0;

  /// The same state, independent of this one from now on (speculation, votes).
  virtual std::unique_ptr<TokenConstraint> fork() const = 0;
};

}  // namespace kontor::inference
