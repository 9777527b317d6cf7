// Byte-level byte-pair encoding. Words that are one token, most of all words, cost one table look-up; for the others
// neighbours are merged in the order of the merge ranks, by scanning when short, with a heap when long.

#include "inference/tokenizer_encoder.hpp"
#include "inference/tokenizer_words.hpp"
#include "inference/unicode.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <queue>
#include <string>

namespace kontor::inference {
namespace {

constexpr std::uint64_t kNoPair = ~0ull;
constexpr std::size_t kShortWord = 40;        // bytes; above, a heap beats scanning
constexpr std::size_t kCacheFromBytes = 4096;  // texts shorter than this repeat too few words
constexpr std::size_t kCacheSlots = 8192;

struct Merge {
  std::uint64_t pair = kNoPair;
  std::int32_t rank = 0;
  TokenId result = -1;
};

std::uint64_t pair_key(TokenId left, TokenId right) { return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right); }

bool is_ascii(std::string_view text) {
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    if ((word & 0x8080808080808080ull) != 0) return false;
  }
  for (; at < text.size(); ++at)
    if (static_cast<unsigned char>(text[at]) >= 0x80) return false;
  return true;
}

class BytePairEncoder final : public TextEncoder {
 public:
  BytePairEncoder(const Vocabulary& vocabulary, WordSplit split, bool nfc, bool ignore_merges)
      : vocabulary_(vocabulary), split_(split), nfc_(nfc), ignore_merges_(ignore_merges), whole_(vocabulary.size()) {}

  Result<void> read_merges(const WeightFile& file);
  void encode(std::string_view text, bool first, std::vector<TokenId>& out) const override;

 private:
  /// Where a word of this text was encoded before.
  struct CacheSlot {
    std::uint64_t hash = 0;
    std::size_t start = 0, bytes = 0, out_start = 0, out_count = 0;
  };
  struct Cache {
    std::string_view text;
    std::vector<CacheSlot> slots;
  };

  const Merge* find_merge(TokenId left, TokenId right) const {
    if (left < 0 || right < 0) return nullptr;
    const std::uint64_t key = pair_key(left, right);
    for (std::size_t slot = hash_pair(key) & mask_;; slot = (slot + 1) & mask_) {
      const Merge& merge = merges_[slot];
      if (merge.pair == key) return &merge;
      if (merge.pair == kNoPair) return nullptr;
    }
  }
  std::size_t hash_pair(std::uint64_t key) const {
    key = (key ^ vocabulary_.seed()) * 0x9e3779b97f4a7c15ull;
    return static_cast<std::size_t>(key ^ (key >> 29) ^ (key >> 47));
  }
  void encode_word(std::string_view word, Cache& cache, std::vector<TokenId>& out) const;
  void merge(std::string_view word, std::vector<TokenId>& out) const;
  void merge_short(std::string_view word, std::vector<TokenId>& out) const;
  void merge_long(std::string_view word, std::vector<TokenId>& out) const;

  const Vocabulary& vocabulary_;
  WordSplit split_;
  bool nfc_;
  bool ignore_merges_;
  std::vector<Merge> merges_;
  std::size_t mask_ = 0;
  // For each token: do the merges of its own text yield it alone? 0 not known yet, 1 yes, 2 no. Worked out when a word
  // asks for it first; threads that do so at once write the same answer.
  mutable std::vector<std::atomic<std::uint8_t>> whole_;
};

Result<void> BytePairEncoder::read_merges(const WeightFile& file) {
  const auto lines = file.texts("tokenizer.ggml.merges");
  if (!lines) return lines.error();
  merges_.assign(std::bit_ceil(2 * lines->size() + 2), Merge{});
  mask_ = merges_.size() - 1;
  std::string raw;
  for (std::size_t rank = 0; rank < lines->size(); ++rank) {
    const std::string_view line = (*lines)[rank];
    const auto wrong = [&](const std::string& why) {
      return fail(Errc::malformed, "merge " + std::to_string(rank) + " \"" + printable(line) + "\" " + why, "bad_vocab", file.path());
    };
    const std::size_t space = line.find(' ', 1);
    if (line.size() > 2 * kMaxTokenBytes) return wrong("is too long");
    if (space == std::string_view::npos || space + 1 == line.size()) return wrong("is not a pair");
    raw.clear();
    append_from_byte_alphabet(line.substr(0, space), raw);
    const std::size_t middle = raw.size();
    append_from_byte_alphabet(line.substr(space + 1), raw);
    const TokenId left = vocabulary_.find_text(std::string_view(raw).substr(0, middle));
    const TokenId right = vocabulary_.find_text(std::string_view(raw).substr(middle));
    const TokenId result = vocabulary_.find_text(raw);
    if (left < 0 || right < 0 || result < 0) return wrong("joins or gives a token that the vocabulary does not have");
    const std::uint64_t key = pair_key(left, right);
    std::size_t slot = hash_pair(key) & mask_;
    while (merges_[slot].pair != kNoPair && merges_[slot].pair != key) slot = (slot + 1) & mask_;
    if (merges_[slot].pair == kNoPair) merges_[slot] = {key, static_cast<std::int32_t>(rank), result};
  }
  return {};
}

void BytePairEncoder::merge_short(std::string_view word, std::vector<TokenId>& out) const {
  constexpr std::int32_t kNone = INT32_MAX;
  std::array<TokenId, kShortWord> ids;
  std::array<std::int32_t, kShortWord> ranks;  // of the pair that starts here
  std::array<TokenId, kShortWord> results;
  std::size_t count = word.size();
  for (std::size_t i = 0; i < count; ++i) ids[i] = vocabulary_.byte_token(static_cast<unsigned char>(word[i]));
  const auto look_up = [&](std::size_t i) {
    const Merge* found = i + 1 < count ? find_merge(ids[i], ids[i + 1]) : nullptr;
    ranks[i] = found ? found->rank : kNone;
    results[i] = found ? found->result : -1;
  };
  for (std::size_t i = 0; i < count; ++i) look_up(i);
  for (;;) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNone) break;
    ids[best] = results[best];
    --count;
    for (std::size_t i = best + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];
      results[i] = results[i + 1];
    }
    look_up(best);
    if (best > 0) look_up(best - 1);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
}

void BytePairEncoder::merge_long(std::string_view word, std::vector<TokenId>& out) const {
  struct Symbol {
    TokenId id;
    std::size_t previous, next;
  };
  struct Candidate {
    std::int32_t rank;
    std::size_t left;
    std::uint64_t pair;  // as it was when found: outdated where the symbols have changed since
    TokenId result;
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  constexpr std::size_t kNone = ~std::size_t{0};
  std::vector<Symbol> symbols(word.size());
  std::priority_queue<Candidate> queue;
  const auto consider = [&](std::size_t left) {
    const std::size_t right = symbols[left].next;
    if (right == kNone) return;
    if (const Merge* found = find_merge(symbols[left].id, symbols[right].id)) queue.push({found->rank, left, found->pair, found->result});
  };
  for (std::size_t i = 0; i < word.size(); ++i)
    symbols[i] = {vocabulary_.byte_token(static_cast<unsigned char>(word[i])), i == 0 ? kNone : i - 1, i + 1 == word.size() ? kNone : i + 1};
  for (std::size_t i = 0; i < word.size(); ++i) consider(i);
  while (!queue.empty()) {
    const Candidate candidate = queue.top();
    queue.pop();
    Symbol& left = symbols[candidate.left];
    if (left.id < 0 || left.next == kNone || pair_key(left.id, symbols[left.next].id) != candidate.pair) continue;
    Symbol& right = symbols[left.next];
    left.id = candidate.result;
    right.id = -1;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = candidate.left;
    consider(candidate.left);
    if (left.previous != kNone) consider(left.previous);
  }
  for (std::size_t i = 0; i != kNone; i = symbols[i].next) out.push_back(symbols[i].id);
}

void BytePairEncoder::merge(std::string_view word, std::vector<TokenId>& out) const {
  const std::size_t start = out.size();
  word.size() <= kShortWord ? merge_short(word, out) : merge_long(word, out);
  // Bytes that never occur in UTF-8 may be missing from a vocabulary.
  out.erase(std::remove(out.begin() + static_cast<std::ptrdiff_t>(start), out.end(), -1), out.end());
}

void BytePairEncoder::encode_word(std::string_view word, Cache& cache, std::vector<TokenId>& out) const {
  if (word.size() <= vocabulary_.longest()) {
    if (const TokenId id = vocabulary_.find_text(word); id >= 0) {
      std::atomic<std::uint8_t>& whole = whole_[static_cast<std::size_t>(id)];
      std::uint8_t known = ignore_merges_ ? 1 : whole.load(std::memory_order_relaxed);
      if (known == 1) return out.push_back(id);
      const std::size_t start = out.size();
      merge(word, out);
      if (known == 0) {
        known = out.size() == start + 1 && out[start] == id ? 1 : 2;
        whole.store(known, std::memory_order_relaxed);
      }
      return;
    }
  }
  if (cache.slots.empty()) return merge(word, out);
  const std::uint64_t hash = hash_bytes(word, vocabulary_.seed());
  CacheSlot& slot = cache.slots[hash % kCacheSlots];
  if (slot.hash == hash && cache.text.substr(slot.start, slot.bytes) == word) {
    const std::size_t count = slot.out_count;
    out.resize(out.size() + count);
    std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(slot.out_start), count, out.end() - static_cast<std::ptrdiff_t>(count));
    return;
  }
  const std::size_t start = out.size();
  merge(word, out);
  slot = {hash, static_cast<std::size_t>(word.data() - cache.text.data()), word.size(), start, out.size() - start};
}

void BytePairEncoder::encode(std::string_view text, bool, std::vector<TokenId>& out) const {
  std::string composed;
  if (nfc_ && !is_ascii(text) && normalise_nfc(text, composed)) text = composed;
  out.reserve(out.size() + text.size() / 4 + 1);
  Cache cache{text, {}};
  if (text.size() >= kCacheFromBytes) cache.slots.resize(kCacheSlots);
  std::size_t start = 0;
  if (split_ == WordSplit::deepseek_llm) {
    for (const std::size_t end : word_ends(split_, text)) {
      encode_word(text.substr(start, end - start), cache, out);
      start = end;
    }
    return;
  }
  while (start < text.size()) {
    const std::size_t end = next_word(split_, text, start);
    encode_word(text.substr(start, end - start), cache, out);
    start = end;
  }
}

}  // namespace

Result<std::unique_ptr<TextEncoder>> make_byte_pair_encoder(const WeightFile& file, const Vocabulary& vocabulary) {
  const auto pre = file.text_or("tokenizer.ggml.pre", "default");
  if (!pre) return pre.error();
  const auto split = find_word_split(*pre);
  if (!split)
    return fail(Errc::unsupported, "pre-tokenizer '" + printable(*pre) + "' is not supported (llama-bpe, qwen2, deepseek-r1-qwen, deepseek-v3, deepseek-llm, gpt-2, default are)",
                "unsupported_tokenizer", file.path());
  for (int byte = 0; byte < 256; ++byte) {
    const bool in_utf8 = byte != 0xc0 && byte != 0xc1 && byte < 0xf5;
    if (in_utf8 && vocabulary.byte_token(static_cast<unsigned char>(byte)) < 0)
      return fail(Errc::malformed, "the vocabulary has no ordinary token for byte " + std::to_string(byte) + ": it cannot spell every text", "bad_vocab", file.path());
  }
  // The tokenizers that came with these two normalise to NFC first; GGUF has no key that says so.
  const bool nfc = *split == WordSplit::qwen2;
  auto encoder = std::make_unique<BytePairEncoder>(vocabulary, *split, nfc, *split == WordSplit::llama3);
  if (auto read = encoder->read_merges(file); !read) return read.error();
  return std::unique_ptr<TextEncoder>(std::move(encoder));
}

}  // namespace kontor::inference
