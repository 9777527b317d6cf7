#include "inference/prompt_lookup.hpp"

#include <algorithm>

namespace kontor::inference {
namespace {

constexpr std::size_t kLengthMin = 2, kLengthMax = 16, kPauseMin = 4, kPauseMax = 64;

std::uint64_t key(const TokenId* tokens, std::size_t n) {
  std::uint64_t hash = n;
  for (std::size_t i = 0; i < n; ++i) hash = (hash ^ static_cast<std::uint32_t>(tokens[i])) * 0x9e3779b97f4a7c15u, hash ^= hash >> 29;
  return hash;
}

}  // namespace

void PromptLookup::append(std::span<const TokenId> tokens) {
  for (const TokenId token : tokens) {
    // What stands before the new token is known as "followed by it" only now: the end of the timeline is not found.
    const std::size_t n = tokens_.size();
    if (n >= 3) after_three_[key(&tokens_[n - 3], 3)] = n;
    if (n >= 2) after_two_[key(&tokens_[n - 2], 2)] = n;
    tokens_.push_back(token);
  }
}

std::span<const TokenId> PromptLookup::guess(std::size_t most) {
  guess_.clear();
  const std::size_t n = tokens_.size();
  std::size_t from = n;
  if (n >= 3)
    if (const auto at = after_three_.find(key(&tokens_[n - 3], 3)); at != after_three_.end()) from = at->second;
  if (from == n && n >= 2)
    if (const auto at = after_two_.find(key(&tokens_[n - 2], 2)); at != after_two_.end()) from = at->second;
  if (from == n) return {};
  for (std::size_t i = 0; i < most; ++i) guess_.push_back(from + i < n ? tokens_[from + i] : guess_[from + i - n]);
  return guess_;
}

void PromptLookup::learn(std::size_t guessed, std::size_t held) {
  if (guessed == 0) {
    if (pause_ > 0) --pause_;
    return;
  }
  if (held == guessed) {
    length_ = std::min(kLengthMax, length_ * 2);
    next_pause_ = 0;
  } else if (held > 0) {
    length_ = std::clamp(held + 1, kLengthMin, kLengthMax);
    next_pause_ = 0;
  } else {
    length_ = kLengthMin;
    pause_ = next_pause_ = std::min(kPauseMax, std::max(kPauseMin, next_pause_ * 2));
  }
}

}  // namespace kontor::inference
