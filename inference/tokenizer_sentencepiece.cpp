// SentencePiece byte-pair encoding: neighbours are merged whose joined text is a token, best score first; what is left
// over is spelled in byte tokens.

#include "inference/tokenizer_encoder.hpp"
#include "inference/unicode.hpp"

#include <queue>
#include <string>

namespace kontor::inference {
namespace {

class SentencePieceEncoder final : public TextEncoder {
 public:
  SentencePieceEncoder(const Vocabulary& vocabulary, TokenId unknown, bool space_first)
      : vocabulary_(vocabulary), unknown_(unknown), space_first_(space_first) {}

  void encode(std::string_view text, bool first, std::vector<TokenId>& out) const override {
    if (text.empty()) return;
    std::string spaced;
    if (first && space_first_) {
      spaced.reserve(text.size() + 1);
      spaced.push_back(' ');
      spaced += text;
      text = spaced;
    }
    merge(text, out);
  }

 private:
  void merge(std::string_view text, std::vector<TokenId>& out) const;

  const Vocabulary& vocabulary_;
  TokenId unknown_;
  bool space_first_;
};

void SentencePieceEncoder::merge(std::string_view text, std::vector<TokenId>& out) const {
  struct Symbol {
    std::size_t start, bytes;  // bytes == 0: merged away
    std::size_t previous, next;
  };
  struct Candidate {
    float score;
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
  for (std::size_t i = 0; i != kNone; i = symbols[i].next) {
    const std::string_view piece = text.substr(symbols[i].start, symbols[i].bytes);
    if (const TokenId id = vocabulary_.find_text(piece); id >= 0) {
      out.push_back(id);
      continue;
    }
    bool spelled = true;
    for (const char c : piece) spelled = spelled && vocabulary_.byte_token(static_cast<unsigned char>(c)) >= 0;
    if (!spelled) {
      if (unknown_ >= 0) out.push_back(unknown_);
      continue;
    }
    for (const char c : piece) out.push_back(vocabulary_.byte_token(static_cast<unsigned char>(c)));
  }
}

}  // namespace

Result<std::unique_ptr<TextEncoder>> make_sentence_piece_encoder(const WeightFile& file, const Vocabulary& vocabulary, TokenId unknown) {
  const auto space_first = file.boolean_or("tokenizer.ggml.add_space_prefix", true);
  if (!space_first) return space_first.error();
  if (!file.has("tokenizer.ggml.scores"))
    return fail(Errc::malformed, "metadata key 'tokenizer.ggml.scores' is missing", "missing_key", file.path());
  for (std::size_t id = 0; id < vocabulary.size(); ++id)
    if (const float score = vocabulary.score(static_cast<TokenId>(id)); score != score)
      return fail(Errc::malformed, "the score of token " + std::to_string(id) + " is not a number", "bad_vocab", file.path());
  return std::unique_ptr<TextEncoder>(std::make_unique<SentencePieceEncoder>(vocabulary, unknown, *space_first));
}

}  // namespace kontor::inference
