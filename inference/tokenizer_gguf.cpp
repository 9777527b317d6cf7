// A tokenizer from the metadata of a GGUF file (tokenizer.ggml.*), or from the tokenizer.json of a Hugging Face folder.

#include "inference/tokenizer_state.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace kontor::inference {
namespace {

Error bad(const WeightFile& file, std::string message, std::string kind = "bad_vocab") { return fail(Errc::malformed, std::move(message), std::move(kind), file.path()); }

/// -1 where the key is missing.
Result<TokenId> read_id(const WeightFile& file, const Vocabulary& vocabulary, std::string_view key) {
  if (!file.has(key)) return TokenId{-1};
  const auto id = file.integer(key);
  if (!id) return id.error();
  if (*id < 0 || *id >= static_cast<std::int64_t>(vocabulary.size()))
    return bad(file, "'" + std::string(key) + "' is " + std::to_string(*id) + ", outside the vocabulary of " + std::to_string(vocabulary.size()) + " tokens");
  return static_cast<TokenId>(*id);
}

Result<TokenList> read_tokens(const WeightFile& file) {
  TokenList list;
  list.where = file.path();
  auto texts = file.texts("tokenizer.ggml.tokens");
  if (!texts) return texts.error();
  list.texts = std::move(*texts);
  const std::size_t count = list.texts.size();
  if (count > kMaxTokens) return bad(file, "'tokenizer.ggml.tokens' has " + std::to_string(count) + " entries, more than " + std::to_string(kMaxTokens), "limit_exceeded");
  list.types.assign(count, TokenType::normal);
  if (const MetadataEntry* entry = file.find("tokenizer.ggml.token_type")) {
    if (entry->type != MetadataType::array || (entry->element_type != MetadataType::i32 && entry->element_type != MetadataType::u32))
      return bad(file, "'tokenizer.ggml.token_type' is not an array of 32-bit integers", "wrong_key_type");
    const auto types = file.integers(entry->key);
    if (!types) return types.error();
    if (types->size() != count) return bad(file, "'tokenizer.ggml.token_type' has " + std::to_string(types->size()) + " entries for " + std::to_string(count) + " tokens");
    for (std::size_t i = 0; i < count; ++i) {
      if ((*types)[i] < 0 || (*types)[i] > 6) return bad(file, "token " + std::to_string(i) + " has unknown type " + std::to_string((*types)[i]));
      list.types[i] = static_cast<TokenType>((*types)[i]);
    }
  }
  if (file.has("tokenizer.ggml.scores")) {
    auto scores = file.numbers("tokenizer.ggml.scores");
    if (!scores) return scores.error();
    if (scores->size() != count) return bad(file, "'tokenizer.ggml.scores' has " + std::to_string(scores->size()) + " entries for " + std::to_string(count) + " tokens");
    list.scores.assign(scores->begin(), scores->end());
  }
  return list;
}

Result<MergePairs> read_merges(const WeightFile& file) {
  const auto lines = file.texts("tokenizer.ggml.merges");
  if (!lines) return lines.error();
  MergePairs pairs;
  pairs.reserve(lines->size());
  for (const std::string_view line : *lines) {
    const std::size_t space = line.find(' ', 1);
    if (space == std::string_view::npos) pairs.emplace_back(line, std::string_view());
    else pairs.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return pairs;
}

Result<std::unique_ptr<TextEncoder>> byte_pair_encoder(const WeightFile& file, const Vocabulary& vocabulary, std::string_view pre) {
  const auto split = find_word_split(pre);
  if (!split)
    return fail(Errc::unsupported, "pre-tokenizer '" + printable(pre) + "' is not supported (llama-bpe, qwen2, deepseek-r1-qwen, deepseek-v3, deepseek-llm, gpt-2, default are)",
                "unsupported_tokenizer", file.path());
  const auto pairs = read_merges(file);
  if (!pairs) return pairs.error();
  auto merges = MergeTable::build(*pairs, vocabulary, TokenSpelling::byte_alphabet, file.path());
  if (!merges) return merges.error();
  auto model = make_byte_pair_model(vocabulary, std::move(*merges), *split == WordSplit::llama3, file.path());
  if (!model) return model.error();
  // The tokenizers that came with these two normalise to NFC first; GGUF has no key that says so.
  return make_byte_pair_encoder(vocabulary, std::move(*model), *split, *split == WordSplit::qwen2);
}

Result<std::unique_ptr<TextEncoder>> marked_text_encoder(const WeightFile& file, const Vocabulary& vocabulary, TokenId unknown, bool unigram) {
  MarkedTextOptions options;
  const auto space_first = file.boolean_or("tokenizer.ggml.add_space_prefix", true);
  if (!space_first) return space_first.error();
  options.space_first = *space_first;
  const auto one_space = file.boolean_or("tokenizer.ggml.remove_extra_whitespaces", false);
  if (!one_space) return one_space.error();
  options.one_space = unigram && *one_space;
  if (!file.has("tokenizer.ggml.scores")) return bad(file, "metadata key 'tokenizer.ggml.scores' is missing", "missing_key");
  if (unigram && file.has("tokenizer.ggml.precompiled_charsmap")) {
    const auto bytes = file.integers("tokenizer.ggml.precompiled_charsmap");
    if (!bytes) return bytes.error();
    for (const std::int64_t byte : *bytes) {
      if (byte < -128 || byte > 255) return bad(file, "'tokenizer.ggml.precompiled_charsmap' is not an array of bytes", "wrong_key_type");
      options.character_map.push_back(static_cast<char>(byte));
    }
  }
  auto model = unigram ? make_unigram_model(vocabulary, unknown, true, file.path()) : make_scored_pair_model(vocabulary, unknown, file.path());
  if (!model) return model.error();
  return make_marked_text_encoder(vocabulary, std::move(*model), std::move(options), file.path());
}

/// A vocabulary that knows capital letters was made from text that kept them. GGUF has no key that says so.
bool is_cased(const Vocabulary& vocabulary) {
  for (char c = 'A'; c <= 'Z'; ++c)
    if (vocabulary.find_text(std::string{' ', c}) < 0) return false;
  return true;
}

}  // namespace

Result<Tokenizer> Tokenizer::create(const WeightFile& file) try {
  if (file.is_folder()) return from_json_file(file.path());
  const auto model = file.text("tokenizer.ggml.model");
  if (!model) return model.error();
  const auto pre = file.text_or("tokenizer.ggml.pre", "default");
  if (!pre) return pre.error();
  TokenSpelling spelling = TokenSpelling::byte_alphabet;
  if (*model == "llama" || *model == "t5") spelling = TokenSpelling::sentence_piece;
  else if (*model == "bert") spelling = TokenSpelling::word_piece;
  else if (*model != "gpt2")
    return fail(Errc::unsupported, "tokenizer model '" + printable(*model) + "' is not supported (gpt2, llama, t5 and bert are)", "unsupported_tokenizer", file.path());
  const bool unigram = *model == "t5";

  const auto list = read_tokens(file);
  if (!list) return list.error();
  auto vocabulary = Vocabulary::build(*list, spelling);
  if (!vocabulary) return vocabulary.error();
  auto state = std::make_shared<State>();
  state->vocabulary = std::move(*vocabulary);
  state->model = *model;
  state->pre = *pre;
  const Vocabulary& words = state->vocabulary;

  TokenId closing = -1;  // put behind a text: BERT's [SEP]
  TokenId end_of_message = -1, opening = -1, unused = -1;
  const std::pair<std::string_view, TokenId*> ids[] = {
      {"tokenizer.ggml.bos_token_id", &state->bos},
      {"tokenizer.ggml.eos_token_id", &state->eos},
      {"tokenizer.ggml.eot_token_id", &state->eot},
      {"tokenizer.ggml.unknown_token_id", &state->unknown},
      {"tokenizer.ggml.seperator_token_id", &closing},  // the key is spelled so
      {"tokenizer.ggml.eom_token_id", &end_of_message},
      {"tokenizer.ggml.cls_token_id", &opening},
      {"tokenizer.ggml.padding_token_id", &unused},
      {"tokenizer.ggml.mask_token_id", &unused},
  };
  for (const auto& [key, place] : ids) {
    const auto id = read_id(file, words, key);
    if (!id) return id.error();
    *place = *id;
  }
  if (end_of_message >= 0) state->ends.push_back(end_of_message);
  if (spelling == TokenSpelling::word_piece && opening >= 0) state->bos = opening;
  if (spelling == TokenSpelling::sentence_piece) {
    // What files without these keys mean.
    if (state->unknown < 0) state->unknown = unigram ? 2 : 0;
    if (!words.contains(state->unknown)) state->unknown = -1;
    if (!unigram && state->bos < 0 && words.contains(1)) state->bos = 1;
    if (state->eos < 0 && words.contains(unigram ? 1 : 2)) state->eos = unigram ? 1 : 2;
  }
  if (closing < 0) closing = state->eos;
  state->finish();

  const bool begins = (spelling != TokenSpelling::byte_alphabet && !unigram) || find_word_split(*pre) == WordSplit::llama3;
  const auto add_bos = file.boolean_or("tokenizer.ggml.add_bos_token", begins);
  if (!add_bos) return add_bos.error();
  const auto add_eos = file.boolean_or("tokenizer.ggml.add_eos_token", spelling == TokenSpelling::word_piece || unigram);
  if (!add_eos) return add_eos.error();
  if (*add_bos && state->bos >= 0) state->prefix.push_back(state->bos);
  if (*add_eos && closing >= 0) state->suffix.push_back(closing);

  WordPieceOptions pieces;
  if (spelling == TokenSpelling::word_piece) pieces.lower_case = pieces.strip_accents = !is_cased(words);
  auto encoder = spelling == TokenSpelling::byte_alphabet    ? byte_pair_encoder(file, words, *pre)
                 : spelling == TokenSpelling::sentence_piece ? marked_text_encoder(file, words, state->unknown, unigram)
                                                             : make_word_piece_encoder(words, state->unknown, pieces, file.path());
  if (!encoder) return encoder.error();
  state->encoder = std::move(*encoder);
  return Tokenizer(std::move(state));
} catch (const std::bad_alloc&) {
  return fail(Errc::memory, "out of memory", "out_of_memory");
}

}  // namespace kontor::inference
