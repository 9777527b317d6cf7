// SentencePiece text: spaces are written as U+2581, and words carry theirs in front. Byte pairs are merged whose joined
// text is a token, best score first; what is left over is spelled in byte tokens.

#include "inference/tokenizer_encoder.hpp"
#include "inference/tokenizer_normalizer.hpp"
#include "inference/unicode.hpp"

#include <queue>
#include <utility>

namespace kontor::inference {
namespace {

constexpr std::string_view kWordMark = "\xe2\x96\x81";

class ScoredPairModel final : public WordModel {
 public:
  ScoredPairModel(const Vocabulary& vocabulary, TokenId unknown) : vocabulary_(vocabulary), unknown_(unknown) {}
  void encode_word(std::string_view text, std::vector<TokenId>& out) const override;

 private:
  void spell(std::string_view piece, std::vector<TokenId>& out) const {
    if (const TokenId id = vocabulary_.find_text(piece); id >= 0) return out.push_back(id);
    bool spelled = true;
    for (const char c : piece) spelled = spelled && vocabulary_.byte_token(static_cast<unsigned char>(c)) >= 0;
    if (spelled)
      for (const char c : piece) out.push_back(vocabulary_.byte_token(static_cast<unsigned char>(c)));
    else if (unknown_ >= 0)
      out.push_back(unknown_);
  }

  const Vocabulary& vocabulary_;
  TokenId unknown_;
};

void ScoredPairModel::encode_word(std::string_view text, std::vector<TokenId>& out) const {
  struct Symbol {
    std::size_t start, bytes;  // bytes == 0: merged away
    std::size_t previous, next;
  };
  struct Candidate {
    double score;
    std::size_t left, bytes;  // of both symbols as they were
    bool operator<(const Candidate& other) const { return score != other.score ? score < other.score : left > other.left; }
  };
  constexpr std::size_t kNone = ~std::size_t{0};
  std::vector<Symbol> symbols;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = decode_utf8(text, at).bytes;
    symbols.push_back({at, bytes, symbols.empty() ? kNone : symbols.size() - 1, symbols.size() + 1});
    at += bytes;
  }
  if (symbols.empty()) return;
  symbols.back().next = kNone;
  std::priority_queue<Candidate> queue;
  const auto consider = [&](std::size_t left) {
    if (left == kNone || symbols[left].next == kNone) return;
    const std::size_t bytes = symbols[left].bytes + symbols[symbols[left].next].bytes;
    if (bytes > vocabulary_.longest()) return;
    if (const TokenId id = vocabulary_.find_text(text.substr(symbols[left].start, bytes)); id >= 0) queue.push({vocabulary_.score(id), left, bytes});
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) consider(i);
  while (!queue.empty()) {
    const Candidate candidate = queue.top();
    queue.pop();
    Symbol& left = symbols[candidate.left];
    if (left.bytes == 0 || left.next == kNone || left.bytes + symbols[left.next].bytes != candidate.bytes) continue;
    Symbol& right = symbols[left.next];
    left.bytes += right.bytes;
    right.bytes = 0;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = candidate.left;
    consider(left.previous);
    consider(candidate.left);
  }
  for (std::size_t i = 0; i != kNone; i = symbols[i].next) spell(text.substr(symbols[i].start, symbols[i].bytes), out);
}

class MarkedTextEncoder final : public TextEncoder {
 public:
  MarkedTextEncoder(const Vocabulary& vocabulary, std::unique_ptr<WordModel> model, MarkedTextOptions options, std::optional<CharacterMap> map)
      : vocabulary_(vocabulary), model_(std::move(model)), options_(std::move(options)), map_(std::move(map)), words_(marks_start_words(vocabulary)) {}

  void encode(std::string_view text, Place place, std::vector<TokenId>& out) const override {
    if (text.empty()) return;
    std::string mapped;
    if (map_) {
      map_->append(text, mapped);
      text = mapped;
    }
    std::string marked;
    marked.reserve(text.size() + text.size() / 2 + 3);
    if (options_.space_first && place != Place::middle) marked += kWordMark;
    append_marked(text, place, marked);
    if (!words_) return model_->encode_word(marked, out);
    WordCache cache(marked, vocabulary_.seed());
    for_each_marked_word(marked, [&](std::string_view word) {
      cache.encode(word, out, [this](std::string_view rest, std::vector<TokenId>& ids) { model_->encode_word(rest, ids); });
    });
  }

 private:
  void append_marked(std::string_view text, Place place, std::string& marked) const {
    std::size_t begin = 0, end = text.size();
    if (options_.one_space) {
      while (place != Place::middle && begin < end && text[begin] == ' ') ++begin;
      while (end > begin && text[end - 1] == ' ') --end;
    }
    bool behind_space = false;
    for (std::size_t at = begin; at < end; ++at) {
      const bool space = text[at] == ' ';
      if (!space) marked.push_back(text[at]);
      else if (!options_.one_space || !behind_space) marked += kWordMark;
      behind_space = space;
    }
    if (options_.one_space && begin == end) marked.clear();
  }

  const Vocabulary& vocabulary_;
  std::unique_ptr<WordModel> model_;
  MarkedTextOptions options_;
  std::optional<CharacterMap> map_;
  bool words_;
};

}  // namespace

bool marks_start_words(const Vocabulary& vocabulary) {
  if (vocabulary.find_text(kWordMark) < 0) return false;  // unknown marks join unknown neighbours
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (vocabulary.is_added(id)) continue;
    std::string_view text = vocabulary.text(id);
    while (text.starts_with(kWordMark)) text.remove_prefix(kWordMark.size());
    if (text.find(kWordMark) != std::string_view::npos) return false;
  }
  return true;
}

Result<std::unique_ptr<WordModel>> make_scored_pair_model(const Vocabulary& vocabulary, TokenId unknown, const std::string& where) {
  for (std::size_t id = 0; id < vocabulary.size(); ++id)
    if (const double score = vocabulary.score(static_cast<TokenId>(id)); score != score)
      return fail(Errc::malformed, "the score of token " + std::to_string(id) + " is not a number", "bad_vocab", where);
  return std::unique_ptr<WordModel>(std::make_unique<ScoredPairModel>(vocabulary, unknown));
}

Result<std::unique_ptr<TextEncoder>> make_marked_text_encoder(const Vocabulary& vocabulary, std::unique_ptr<WordModel> model, MarkedTextOptions options, const std::string& where) {
  std::optional<CharacterMap> map;
  if (!options.character_map.empty()) {
    auto read = CharacterMap::create(options.character_map, where);
    if (!read) return read.error();
    map = std::move(*read);
  }
  return std::unique_ptr<TextEncoder>(std::make_unique<MarkedTextEncoder>(vocabulary, std::move(model), std::move(options), std::move(map)));
}

}  // namespace kontor::inference
