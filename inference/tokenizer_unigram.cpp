// Unigram segmentation: of all ways to spell a word in tokens the one with the greatest sum of scores (Kudo 2018,
// "Subword Regularization", without sampling). Tokens are found by a trie, so the time is linear in the text for
// tokens of bounded length.

#include "inference/tokenizer_encoder.hpp"
#include "inference/unicode.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace kontor::inference {
namespace {

/// Children of a node lie side by side, sorted by their byte.
class TokenTrie {
 public:
  explicit TokenTrie(std::vector<std::pair<std::string_view, TokenId>> tokens) {
    std::sort(tokens.begin(), tokens.end());
    struct Work {
      std::size_t node, low, high, depth;
    };
    std::vector<Work> queue{{0, 0, tokens.size(), 0}};
    nodes_.emplace_back();
    for (std::size_t i = 0; i < queue.size(); ++i) {
      auto [node, low, high, depth] = queue[i];
      while (low < high && tokens[low].first.size() == depth) {
        if (nodes_[node].id < 0) nodes_[node].id = tokens[low].second;
        ++low;
      }
      nodes_[node].first = static_cast<std::uint32_t>(nodes_.size());
      while (low < high) {
        const char byte = tokens[low].first[depth];
        std::size_t end = low + 1;
        while (end < high && tokens[end].first[depth] == byte) ++end;
        queue.push_back({nodes_.size(), low, end, depth + 1});
        nodes_.emplace_back().byte = static_cast<unsigned char>(byte);
        ++nodes_[node].children;
        low = end;
      }
    }
    for (std::size_t i = 0; i < nodes_[0].children; ++i) starts_[nodes_[1 + i].byte] = static_cast<std::uint32_t>(1 + i);
  }

  /// Node behind `byte`, or 0.
  std::uint32_t next(std::uint32_t node, unsigned char byte) const {
    if (node == 0) return starts_[byte];
    const Node& from = nodes_[node];
    std::uint32_t low = from.first, high = low + from.children;
    while (high - low > 4) {
      const std::uint32_t middle = (low + high) / 2;
      (nodes_[middle].byte <= byte ? low : high) = middle;
    }
    for (; low < high; ++low)
      if (nodes_[low].byte == byte) return low;
    return 0;
  }
  TokenId id(std::uint32_t node) const { return nodes_[node].id; }

 private:
  struct Node {
    std::uint32_t first = 0;
    std::uint16_t children = 0;
    unsigned char byte = 0;
    TokenId id = -1;
  };
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> starts_ = std::vector<std::uint32_t>(256, 0);
};

std::vector<std::pair<std::string_view, TokenId>> text_tokens(const Vocabulary& vocabulary) {
  std::vector<std::pair<std::string_view, TokenId>> out;
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const TokenType type = vocabulary.type(id);
    if ((type == TokenType::normal || type == TokenType::undefined) && !vocabulary.is_added(id) && !vocabulary.text(id).empty()) out.emplace_back(vocabulary.text(id), id);
  }
  return out;
}

class UnigramModel final : public WordModel {
 public:
  UnigramModel(const Vocabulary& vocabulary, TokenId unknown, bool byte_fallback)
      : vocabulary_(vocabulary), trie_(text_tokens(vocabulary)), unknown_(unknown), byte_fallback_(byte_fallback) {
    double least = 0;
    bool any = false;
    for (std::size_t i = 0; i < vocabulary.size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      if (vocabulary.type(id) != TokenType::normal) continue;
      least = any ? std::min(least, vocabulary.score(id)) : vocabulary.score(id);
      any = true;
    }
    unknown_score_ = least - 10;  // as in SentencePiece
  }

  void encode_word(std::string_view word, std::vector<TokenId>& out) const override {
    thread_local std::vector<Step> best;
    thread_local std::vector<std::pair<std::size_t, TokenId>> path;  // start of each token, from the end
    best.assign(word.size() + 1, Step{});
    best[0].score = 0;
    for (std::size_t at = 0; at < word.size(); at += decode_utf8(word, at).bytes) advance(word, at, best);
    path.clear();
    for (std::size_t end = word.size(); end > 0; end = best[end].start) path.emplace_back(end, best[end].id);
    std::size_t start = 0;
    for (std::size_t i = path.size(); i-- > 0;) {
      if (path[i].second >= 0) {
        out.push_back(path[i].second);
      } else {
        while (i > 0 && path[i - 1].second < 0) --i;  // unknown neighbours are one
        append_unknown(word.substr(start, path[i].first - start), out);
      }
      start = path[i].first;
    }
  }

 private:
  struct Step {
    double score = -std::numeric_limits<double>::infinity();
    std::size_t start = 0;
    TokenId id = -1;
  };

  void advance(std::string_view word, std::size_t at, std::vector<Step>& best) const {
    const std::size_t character = decode_utf8(word, at).bytes;
    bool alone = false;  // the character is a token
    std::uint32_t node = 0;
    for (std::size_t end = at; end < word.size();) {
      node = trie_.next(node, static_cast<unsigned char>(word[end++]));
      if (node == 0) break;
      const TokenId id = trie_.id(node);
      if (id < 0) continue;
      const double score = best[at].score + vocabulary_.score(id);
      if (score > best[end].score) best[end] = {score, at, id};
      alone = alone || end - at == character;
    }
    const double score = best[at].score + unknown_score_;
    if (!alone && score > best[at + character].score) best[at + character] = {score, at, -1};
  }

  void append_unknown(std::string_view text, std::vector<TokenId>& out) const {
    bool spelled = byte_fallback_;
    for (const char c : text) spelled = spelled && vocabulary_.byte_token(static_cast<unsigned char>(c)) >= 0;
    if (spelled)
      for (const char c : text) out.push_back(vocabulary_.byte_token(static_cast<unsigned char>(c)));
    else if (unknown_ >= 0)
      out.push_back(unknown_);
  }

  const Vocabulary& vocabulary_;
  TokenTrie trie_;
  TokenId unknown_;
  bool byte_fallback_;
  double unknown_score_ = 0;
};

}  // namespace

Result<std::unique_ptr<WordModel>> make_unigram_model(const Vocabulary& vocabulary, TokenId unknown, bool byte_fallback, const std::string& where) {
  for (std::size_t id = 0; id < vocabulary.size(); ++id)
    if (!std::isfinite(vocabulary.score(static_cast<TokenId>(id))))
      return fail(Errc::malformed, "the score of token " + std::to_string(id) + " is not a finite number", "bad_vocab", where);
  return std::unique_ptr<WordModel>(std::make_unique<UnigramModel>(vocabulary, unknown, byte_fallback));
}

}  // namespace kontor::inference
