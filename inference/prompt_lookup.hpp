#pragma once
// Guesses what a model writes next by looking up where its last words stood before: agents copy from what they read.
// (Prompt lookup decoding, Saxena 2023.) A guess costs little and is checked, so it changes nothing but the speed.

#include "inference/text_model.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace kontor::inference {

/// Not thread-safe.
class PromptLookup {
 public:
  /// Tokens of the timeline, in order.
  void append(std::span<const TokenId> tokens);

  /// At most `most` tokens that followed the latest earlier place where the timeline's last three tokens (else the last
  /// two) stood; empty where they are new. Where the place is so near that its continuation runs into the end of the
  /// timeline, the guess goes on with its own beginning: repetition. Valid until the next call.
  std::span<const TokenId> guess(std::size_t most);

  /// How long the next guess should be, by how the earlier ones went; 0: none. Pays where guesses hold, costs next to
  /// nothing where they do not.
  std::size_t length() const { return pause_ > 0 ? 0 : length_; }
  /// A guess of `guessed` tokens was checked and `held` of them were right; guessed == 0: a step without a guess.
  void learn(std::size_t guessed, std::size_t held);

 private:
  std::vector<TokenId> tokens_;
  std::unordered_map<std::uint64_t, std::size_t> after_three_, after_two_;  ///< Hash of tokens: where the next one stands.
  std::vector<TokenId> guess_;
  std::size_t length_ = 4;
  std::size_t pause_ = 0;      ///< Steps without guesses that are left.
  std::size_t next_pause_ = 0; ///< After the next failure.
};

}  // namespace kontor::inference
