#pragma once
// Byte-pair merging over token ids: a table of ranked pairs, and the loop that joins neighbours in the order of their
// ranks. Short sequences by scanning, long ones with a heap (n log n).

#include "base/error.hpp"
#include "inference/tokenizer_vocabulary.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kontor::inference {

using MergePairs = std::vector<std::pair<std::string_view, std::string_view>>;

class MergeTable {
 public:
  /// Texts as the vocabulary's encoders look them up, in the order of the ranks. Errors: bad_vocab (a merge of or to a
  /// text that is not in the vocabulary).
  static Result<MergeTable> build(const MergePairs& pairs, const Vocabulary& vocabulary, TokenSpelling spelling, const std::string& where);

  /// Joins neighbours of `ids` until no pair of the table is left. Ids below 0 join nothing.
  void merge(std::vector<TokenId>& ids) const;

  std::size_t size() const { return count_; }

 private:
  static constexpr std::uint64_t kNoPair = ~0ull;
  struct Merge {
    std::uint64_t pair = kNoPair;
    std::int32_t rank = 0;
    TokenId result = -1;
  };
  static std::uint64_t key_of(TokenId left, TokenId right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }
  std::size_t hash(std::uint64_t key) const {
    key = (key ^ seed_) * 0x9e3779b97f4a7c15ull;
    return static_cast<std::size_t>(key ^ (key >> 29) ^ (key >> 47));
  }
  const Merge* find(TokenId left, TokenId right) const {
    if (left < 0 || right < 0) return nullptr;
    const std::uint64_t key = key_of(left, right);
    for (std::size_t slot = hash(key) & mask_;; slot = (slot + 1) & mask_) {
      const Merge& merge = merges_[slot];
      if (merge.pair == key) return &merge;
      if (merge.pair == kNoPair) return nullptr;
    }
  }
  void merge_short(std::vector<TokenId>& ids) const;
  void merge_long(std::vector<TokenId>& ids) const;

  std::vector<Merge> merges_;
  std::size_t mask_ = 0, count_ = 0;
  std::uint64_t seed_ = 0;
};

}  // namespace kontor::inference
