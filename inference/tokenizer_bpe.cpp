// Byte-level byte-pair encoding. Words that are one token, most of all words, cost one table look-up; for the others
// neighbours are merged in the order of the merge ranks.

#include "inference/tokenizer_encoder.hpp"
#include "inference/unicode.hpp"

#include <atomic>
#include <cstring>
#include <utility>

namespace kontor::inference {
namespace {

constexpr std::size_t kCacheFromBytes = 4096;
constexpr std::size_t kCacheSlots = 8192;

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

/// Scratch that keeps its memory from word to word.
std::vector<TokenId>& scratch_ids() {
  thread_local std::vector<TokenId> ids;
  ids.clear();
  return ids;
}

class BytePairModel final : public WordModel {
 public:
  BytePairModel(const Vocabulary& vocabulary, MergeTable merges, bool ignore_merges)
      : vocabulary_(vocabulary), merges_(std::move(merges)), ignore_merges_(ignore_merges), whole_(vocabulary.size()) {}

  void encode_word(std::string_view word, std::vector<TokenId>& out) const override {
    if (!encode_whole(word, out)) merge(word, out);
  }

  /// True where the word is in the vocabulary; its tokens are then in `out`.
  bool encode_whole(std::string_view word, std::vector<TokenId>& out) const {
    if (word.size() > vocabulary_.longest()) return false;
    const TokenId id = vocabulary_.find_text(word);
    if (id < 0) return false;
    std::atomic<std::uint8_t>& whole = whole_[static_cast<std::size_t>(id)];
    const std::uint8_t known = ignore_merges_ ? 1 : whole.load(std::memory_order_relaxed);
    if (known == 1) {
      out.push_back(id);
      return true;
    }
    const std::size_t start = out.size();
    merge(word, out);
    if (known == 0) whole.store(out.size() == start + 1 && out[start] == id ? 1 : 2, std::memory_order_relaxed);
    return true;
  }

  void merge(std::string_view word, std::vector<TokenId>& out) const {
    std::vector<TokenId>& ids = scratch_ids();
    for (const char c : word) ids.push_back(vocabulary_.byte_token(static_cast<unsigned char>(c)));
    merges_.merge(ids);
    // Bytes that never occur in UTF-8 may be missing from a vocabulary.
    for (const TokenId id : ids)
      if (id >= 0) out.push_back(id);
  }

 private:
  const Vocabulary& vocabulary_;
  MergeTable merges_;
  bool ignore_merges_;
  // For each token: do the merges of its own text yield it alone? 0 not known yet, 1 yes, 2 no. Worked out when a word
  // asks for it first; threads that do so at once write the same answer.
  mutable std::vector<std::atomic<std::uint8_t>> whole_;
};

class BytePairEncoder final : public TextEncoder {
 public:
  BytePairEncoder(const Vocabulary& vocabulary, std::unique_ptr<BytePairModel> model, WordSplit split, bool nfc)
      : vocabulary_(vocabulary), model_(std::move(model)), split_(split), nfc_(nfc) {}

  void encode(std::string_view text, Place, std::vector<TokenId>& out) const override {
    std::string composed;
    if (nfc_ && !is_ascii(text) && normalise_nfc(text, composed)) text = composed;
    out.reserve(out.size() + text.size() / 4 + 1);
    WordCache cache(text, vocabulary_.seed());
    const auto encode_word = [&](std::string_view word) {
      if (!model_->encode_whole(word, out))
        cache.encode(word, out, [this](std::string_view rest, std::vector<TokenId>& ids) { model_->merge(rest, ids); });
    };
    std::size_t start = 0;
    if (split_ == WordSplit::deepseek_llm) {
      for (const std::size_t end : word_ends(split_, text)) {
        encode_word(text.substr(start, end - start));
        start = end;
      }
      return;
    }
    while (start < text.size()) {
      const std::size_t end = next_word(split_, text, start);
      encode_word(text.substr(start, end - start));
      start = end;
    }
  }

 private:
  const Vocabulary& vocabulary_;
  std::unique_ptr<BytePairModel> model_;
  WordSplit split_;
  bool nfc_;
};

class CharacterPairModel final : public WordModel {
 public:
  CharacterPairModel(const Vocabulary& vocabulary, MergeTable merges, const CharacterPairOptions& options)
      : vocabulary_(vocabulary), merges_(std::move(merges)), options_(options) {}

  void encode_word(std::string_view word, std::vector<TokenId>& out) const override {
    if (options_.ignore_merges)
      if (const TokenId id = vocabulary_.find_text(word); id >= 0) return out.push_back(id);
    std::vector<TokenId>& ids = scratch_ids();
    bool behind_unknown = false;
    for (std::size_t at = 0; at < word.size();) {
      const std::string_view character = word.substr(at, decode_utf8(word, at).bytes);
      at += character.size();
      const TokenId id = vocabulary_.find_text(character);
      if (id >= 0) ids.push_back(id);
      const bool unknown = id < 0 && !(options_.byte_fallback && spell(character, ids));
      if (unknown && options_.unknown >= 0 && !(behind_unknown && options_.fuse_unknown)) ids.push_back(options_.unknown);
      behind_unknown = unknown;
    }
    merges_.merge(ids);
    out.insert(out.end(), ids.begin(), ids.end());
  }

 private:
  bool spell(std::string_view character, std::vector<TokenId>& ids) const {
    for (const char c : character)
      if (vocabulary_.byte_token(static_cast<unsigned char>(c)) < 0) return false;
    for (const char c : character) ids.push_back(vocabulary_.byte_token(static_cast<unsigned char>(c)));
    return true;
  }

  const Vocabulary& vocabulary_;
  MergeTable merges_;
  CharacterPairOptions options_;
};

}  // namespace

WordCache::WordCache(std::string_view text, std::uint64_t seed) : text_(text), seed_(seed) {
  if (text.size() >= kCacheFromBytes) slots_.resize(kCacheSlots);
}

Result<std::unique_ptr<WordModel>> make_byte_pair_model(const Vocabulary& vocabulary, MergeTable merges, bool ignore_merges, const std::string& where) {
  for (int byte = 0; byte < 256; ++byte) {
    const bool in_utf8 = byte != 0xc0 && byte != 0xc1 && byte < 0xf5;
    if (in_utf8 && vocabulary.byte_token(static_cast<unsigned char>(byte)) < 0)
      return fail(Errc::malformed, "the vocabulary has no ordinary token for byte " + std::to_string(byte) + ": it cannot spell every text", "bad_vocab", where);
  }
  return std::unique_ptr<WordModel>(std::make_unique<BytePairModel>(vocabulary, std::move(merges), ignore_merges));
}

std::unique_ptr<WordModel> make_character_pair_model(const Vocabulary& vocabulary, MergeTable merges, const CharacterPairOptions& options) {
  return std::make_unique<CharacterPairModel>(vocabulary, std::move(merges), options);
}

std::unique_ptr<TextEncoder> make_byte_pair_encoder(const Vocabulary& vocabulary, std::unique_ptr<WordModel> model, WordSplit split, bool nfc) {
  auto bytes = std::unique_ptr<BytePairModel>(static_cast<BytePairModel*>(model.release()));
  return std::make_unique<BytePairEncoder>(vocabulary, std::move(bytes), split, nfc);
}

}  // namespace kontor::inference
