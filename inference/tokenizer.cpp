#include "inference/tokenizer.hpp"

#include "inference/tokenizer_encoder.hpp"
#include "inference/tokenizer_vocabulary.hpp"
#include "inference/tokenizer_words.hpp"

#include <algorithm>
#include <array>
#include <new>
#include <utility>

namespace kontor::inference {

struct Tokenizer::State {
  Vocabulary vocabulary;
  std::unique_ptr<TextEncoder> encoder;
  std::string model;
  std::string pre;
  TokenId bos = -1, eos = -1, eot = -1, unknown = -1, closing = -1;  // closing: put behind a text (BERT's [SEP])
  std::vector<TokenId> ends;
  bool add_bos = false;
  bool add_eos = false;

  /// Turns the text into tokens; `plain` collects text until an added token closes it.
  void encode(std::string_view text, Vocabulary::Which which, std::vector<TokenId>& out) const;
  void flush(std::string& plain, bool& first, std::vector<TokenId>& out) const;
};

namespace {

constexpr std::array kTurnEnds = {
    std::string_view("<|eot_id|>"), std::string_view("<|im_end|>"), std::string_view("<|end|>"),
    std::string_view("<end_of_turn>"), std::string_view("<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"),
};
constexpr std::array kOtherEnds = {
    std::string_view("<|endoftext|>"), std::string_view("<|end_of_text|>"), std::string_view("<|eom_id|>"), std::string_view("<|EOT|>"),
};

/// -1 where the key is missing.
Result<TokenId> read_id(const WeightFile& file, const Vocabulary& vocabulary, std::string_view key) {
  if (!file.has(key)) return TokenId{-1};
  const auto id = file.integer(key);
  if (!id) return id.error();
  if (*id < 0 || *id >= static_cast<std::int64_t>(vocabulary.size()))
    return fail(Errc::malformed, "'" + std::string(key) + "' is " + std::to_string(*id) + ", outside the vocabulary of " + std::to_string(vocabulary.size()) + " tokens",
                "bad_vocab", file.path());
  return static_cast<TokenId>(*id);
}

Vocabulary::Which which_of(AddedTokens added) {
  switch (added) {
    case AddedTokens::text_only: return Vocabulary::Which::plain_user_defined;
    case AddedTokens::user_defined: return Vocabulary::Which::user_defined;
    case AddedTokens::all: break;
  }
  return Vocabulary::Which::all;
}

std::optional<TokenId> known(TokenId id) { return id >= 0 ? std::optional<TokenId>(id) : std::nullopt; }

/// Calls on_text(stretch) and on_token(id) in turn.
template <class OnText, class OnToken>
void split_added(const Vocabulary& vocabulary, std::string_view text, Vocabulary::Which which, const OnText& on_text, const OnToken& on_token) {
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (!vocabulary.may_start_added(static_cast<unsigned char>(text[at]))) {
      ++at;
      continue;
    }
    const Vocabulary::AddedMatch match = vocabulary.match_added(text, at, which);
    if (match.id < 0) {
      ++at;
      continue;
    }
    if (at > start) on_text(text.substr(start, at - start));
    on_token(match.id);
    start = at += match.bytes;
  }
  if (start < text.size()) on_text(text.substr(start));
}

}  // namespace

void Tokenizer::State::encode(std::string_view text, Vocabulary::Which which, std::vector<TokenId>& out) const {
  bool first = true;
  split_added(
      vocabulary, text, which,
      [&](std::string_view stretch) {
        encoder->encode(stretch, first, out);
        first = false;
      },
      [&](TokenId id) {
        out.push_back(id);
        first = true;
      });
}

void Tokenizer::State::flush(std::string& plain, bool& first, std::vector<TokenId>& out) const {
  if (plain.empty()) return;
  encoder->encode(plain, first, out);
  plain.clear();
  first = false;
}

Tokenizer::Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Result<Tokenizer> Tokenizer::create(const WeightFile& file) try {
  if (file.is_folder()) return fail(Errc::unsupported, "the vocabulary of a folder cannot be read yet", "unsupported_tokenizer", file.path());
  const auto model = file.text("tokenizer.ggml.model");
  if (!model) return model.error();
  const auto pre = file.text_or("tokenizer.ggml.pre", "default");
  if (!pre) return pre.error();
  TokenSpelling spelling = TokenSpelling::byte_alphabet;
  if (*model == "llama") spelling = TokenSpelling::sentence_piece;
  else if (*model == "bert") spelling = TokenSpelling::word_piece;
  else if (*model != "gpt2")
    return fail(Errc::unsupported, "tokenizer model '" + printable(*model) + "' is not supported (gpt2, llama and bert are)", "unsupported_tokenizer", file.path());

  auto vocabulary = Vocabulary::read(file, spelling);
  if (!vocabulary) return vocabulary.error();
  auto state = std::make_shared<State>();
  state->vocabulary = std::move(*vocabulary);
  state->model = *model;
  state->pre = *pre;
  const Vocabulary& words = state->vocabulary;

  const std::pair<std::string_view, TokenId*> ids[] = {
      {"tokenizer.ggml.bos_token_id", &state->bos},
      {"tokenizer.ggml.eos_token_id", &state->eos},
      {"tokenizer.ggml.eot_token_id", &state->eot},
      {"tokenizer.ggml.unknown_token_id", &state->unknown},
      {"tokenizer.ggml.seperator_token_id", &state->closing},  // the key is spelled so
  };
  for (const auto& [key, place] : ids) {
    const auto id = read_id(file, words, key);
    if (!id) return id.error();
    *place = *id;
  }
  for (const std::string_view key : {"tokenizer.ggml.eom_token_id", "tokenizer.ggml.padding_token_id", "tokenizer.ggml.cls_token_id", "tokenizer.ggml.mask_token_id"}) {
    const auto id = read_id(file, words, key);
    if (!id) return id.error();
    if (key == "tokenizer.ggml.eom_token_id" && *id >= 0) state->ends.push_back(*id);
    if (key == "tokenizer.ggml.cls_token_id" && *id >= 0 && spelling == TokenSpelling::word_piece) state->bos = *id;
  }
  if (spelling == TokenSpelling::sentence_piece) {
    // What files without these keys mean.
    if (state->unknown < 0 && words.contains(0)) state->unknown = 0;
    if (state->bos < 0 && words.contains(1)) state->bos = 1;
    if (state->eos < 0 && words.contains(2)) state->eos = 2;
  }
  if (spelling == TokenSpelling::word_piece && state->closing < 0) state->closing = state->eos;

  for (const std::string_view text : kTurnEnds)
    if (const TokenId id = words.find_added(text); id >= 0) {
      state->ends.push_back(id);
      if (state->eot < 0) state->eot = id;
    }
  for (const std::string_view text : kOtherEnds)
    if (const TokenId id = words.find_added(text); id >= 0) state->ends.push_back(id);
  if (state->eos >= 0) state->ends.push_back(state->eos);
  if (state->eot >= 0) state->ends.push_back(state->eot);
  std::sort(state->ends.begin(), state->ends.end());
  state->ends.erase(std::unique(state->ends.begin(), state->ends.end()), state->ends.end());

  const bool begins = spelling != TokenSpelling::byte_alphabet || find_word_split(*pre) == WordSplit::llama3;
  const auto add_bos = file.boolean_or("tokenizer.ggml.add_bos_token", begins);
  if (!add_bos) return add_bos.error();
  const auto add_eos = file.boolean_or("tokenizer.ggml.add_eos_token", spelling == TokenSpelling::word_piece);
  if (!add_eos) return add_eos.error();
  state->add_bos = *add_bos && state->bos >= 0;
  state->add_eos = *add_eos;

  auto encoder = spelling == TokenSpelling::byte_alphabet    ? make_byte_pair_encoder(file, words)
                 : spelling == TokenSpelling::sentence_piece ? make_sentence_piece_encoder(file, words, state->unknown)
                                                             : make_word_piece_encoder(file, words, state->unknown);
  if (!encoder) return encoder.error();
  state->encoder = std::move(*encoder);
  return Tokenizer(std::move(state));
} catch (const std::bad_alloc&) {
  return fail(Errc::memory, "out of memory", "out_of_memory");
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool parse_special) const {
  return encode(text, parse_special ? AddedTokens::all : AddedTokens::text_only);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, AddedTokens added) const {
  std::vector<TokenId> out;
  state_->encode(text, which_of(added), out);
  return out;
}

std::vector<TokenId> Tokenizer::encode_with_ends(std::string_view text, bool parse_special) const {
  std::vector<TokenId> out;
  if (state_->add_bos) out.push_back(state_->bos);
  state_->encode(text, which_of(parse_special ? AddedTokens::all : AddedTokens::text_only), out);
  const TokenId end = state_->closing >= 0 ? state_->closing : state_->eos;
  if (state_->add_eos && end >= 0) out.push_back(end);
  return out;
}

Result<std::vector<TokenId>> Tokenizer::encode_segments(std::span<const Segment> segments) const {
  std::vector<TokenId> out;
  std::string plain;
  std::string joined;
  bool first = true;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    if (!segment.tokens.empty()) {
      state_->flush(plain, first, out);
      for (const TokenId id : segment.tokens) {
        if (!state_->vocabulary.contains(id)) return fail(Errc::usage, "token " + std::to_string(id) + " is outside the vocabulary", "bad_token");
        out.push_back(id);
      }
      first = state_->vocabulary.is_added(out.back());
      continue;
    }
    std::string_view text = segment.text;
    if (segment.is_template && i + 1 < segments.size() && segments[i + 1].is_template && segments[i + 1].tokens.empty()) {
      // A marker may be cut over neighbouring stretches of template.
      joined = segment.text;
      while (i + 1 < segments.size() && segments[i + 1].is_template && segments[i + 1].tokens.empty()) joined += segments[++i].text;
      text = joined;
    }
    split_added(
        state_->vocabulary, text, which_of(segment.is_template ? AddedTokens::all : AddedTokens::text_only),
        [&](std::string_view stretch) { plain += stretch; },
        [&](TokenId id) {
          state_->flush(plain, first, out);
          out.push_back(id);
          first = true;
        });
  }
  state_->flush(plain, first, out);
  return out;
}

std::string_view Tokenizer::piece(TokenId id) const { return state_->vocabulary.piece(id); }

std::string Tokenizer::decode(std::span<const TokenId> ids, bool with_control) const {
  std::string out;
  for (const TokenId id : ids) {
    if (!state_->vocabulary.contains(id)) continue;
    if (!with_control && state_->vocabulary.type(id) == TokenType::control) continue;
    out += state_->vocabulary.piece(id);
  }
  return out;
}

bool Tokenizer::is_control(TokenId id) const { return state_->vocabulary.is_control(id); }
bool Tokenizer::is_added(TokenId id) const { return state_->vocabulary.is_added(id); }

std::optional<TokenId> Tokenizer::find(std::string_view text) const {
  const TokenId added = state_->vocabulary.find_added(text);
  return known(added >= 0 ? added : state_->vocabulary.find_text(text));
}

std::optional<TokenId> Tokenizer::bos() const { return known(state_->bos); }
std::optional<TokenId> Tokenizer::eos() const { return known(state_->eos); }
std::optional<TokenId> Tokenizer::eot() const { return known(state_->eot); }
std::optional<TokenId> Tokenizer::unknown() const { return known(state_->unknown); }
std::span<const TokenId> Tokenizer::end_tokens() const { return state_->ends; }
bool Tokenizer::is_end(TokenId id) const { return std::binary_search(state_->ends.begin(), state_->ends.end(), id); }
bool Tokenizer::add_bos() const { return state_->add_bos; }
bool Tokenizer::add_eos() const { return state_->add_eos; }
std::size_t Tokenizer::size() const { return state_->vocabulary.size(); }
std::string_view Tokenizer::model() const { return state_->model; }
std::string_view Tokenizer::pre() const { return state_->pre; }

}  // namespace kontor::inference
