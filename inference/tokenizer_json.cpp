// Builds a Tokenizer from the parts of a tokenizer.json.

#include "inference/tokenizer_json.hpp"

#include "inference/tokenizer_normalizer.hpp"
#include "inference/tokenizer_splitter.hpp"
#include "inference/tokenizer_state.hpp"
#include "inference/weight_file.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <new>
#include <utility>

namespace kontor::inference {
namespace {

constexpr std::size_t kMaxConfigBytes = 16u << 20;

Error bad(const TokenizerJson& file, std::string message) { return fail(Errc::malformed, std::move(message), "bad_vocab", file.where); }
Error unsupported(const TokenizerJson& file, std::string message) { return fail(Errc::unsupported, std::move(message), "unsupported_tokenizer", file.where); }

/// Normalise, cut, encode word by word.
class PipelineEncoder final : public TextEncoder {
 public:
  PipelineEncoder(const Vocabulary& vocabulary, TextNormalizer normalizer, TextSplitter splitter, std::unique_ptr<WordModel> model)
      : vocabulary_(vocabulary), normalizer_(std::move(normalizer)), splitter_(std::move(splitter)), model_(std::move(model)),
        cut_at_marks_(vocabulary.shows_spaces() && marks_start_words(vocabulary)) {}

  void encode(std::string_view text, Place place, std::vector<TokenId>& out) const override {
    std::string changed = normalizer_.apply(text);
    std::vector<TextSplitter::Word> words;
    splitter_.split(changed, place, words);
    WordCache cache(changed, vocabulary_.seed());
    const auto encode_word = [&](std::string_view word) {
      cache.encode(word, out, [this](std::string_view rest, std::vector<TokenId>& ids) { model_->encode_word(rest, ids); });
    };
    for (const TextSplitter::Word& word : words) {
      const std::string_view part = std::string_view(changed).substr(word.begin, word.end - word.begin);
      if (cut_at_marks_) for_each_marked_word(part, encode_word);
      else encode_word(part);
    }
  }

 private:
  const Vocabulary& vocabulary_;
  TextNormalizer normalizer_;
  TextSplitter splitter_;
  std::unique_ptr<WordModel> model_;
  bool cut_at_marks_;
};

std::string_view name_of(std::optional<WordSplit> split) {
  if (!split) return "custom";
  switch (*split) {
    case WordSplit::gpt2: return "gpt-2";
    case WordSplit::llama3: return "llama-bpe";
    case WordSplit::qwen2: return "qwen2";
    case WordSplit::deepseek_v3: return "deepseek-v3";
    case WordSplit::deepseek_llm: return "deepseek-llm";
    case WordSplit::default_bpe: break;
  }
  return "default";
}

class Builder {
 public:
  Builder(TokenizerJson& file, Tokenizer::State& state) : file_(file), state_(state) {}

  Result<void> build() {
    auto normalizer = TextNormalizer::create(file_.normalizer, file_.where);
    if (!normalizer) return normalizer.error();
    auto splitter = TextSplitter::create(file_.pre_tokenizer, file_.where);
    if (!splitter) return splitter.error();
    Result<void> built = unsupported(file_, "model '" + printable(file_.type) + "' is not supported (BPE, Unigram and WordPiece are)");
    if (file_.type == "BPE") built = byte_pairs(std::move(*normalizer), std::move(*splitter));
    else if (file_.type == "Unigram") built = unigram(std::move(*normalizer), std::move(*splitter));
    else if (file_.type == "WordPiece") built = word_pieces(std::move(*normalizer), std::move(*splitter));
    if (!built) return built;
    return post_process(file_.post_processor, 0);
  }

 private:
  Result<void> vocabulary(TokenSpelling spelling) {
    auto made = Vocabulary::build(file_.tokens, spelling);
    if (!made) return made.error();
    state_.vocabulary = std::move(*made);
    return {};
  }

  /// Id of a token named in the model, -1 where the name is null or empty.
  Result<TokenId> named(std::string_view key, std::string_view in_front = {}) const {
    const auto found = file_.options.find(key);
    if (found == file_.options.end() || found->is_null()) return TokenId{-1};
    if (!found->is_string()) return bad(file_, "\"" + std::string(key) + "\" is not a text");
    const auto text = found->get<std::string>();
    if (text.empty()) return TokenId{-1};
    TokenId id = state_.vocabulary.find_added(text);
    if (id < 0) id = state_.vocabulary.find_text(std::string(in_front) + text);
    if (id < 0) return bad(file_, "\"" + std::string(key) + "\" is \"" + printable(text) + "\", which is not in the vocabulary");
    return id;
  }

  void mark_byte_tokens() {
    for (std::size_t i = 0; i < file_.tokens.texts.size(); ++i) {
      const std::string_view text = file_.tokens.texts[i];
      if (text.size() == 6 && text.starts_with("<0x") && text[5] == '>' && file_.tokens.types[i] == TokenType::normal) file_.tokens.types[i] = TokenType::byte;
    }
  }

  Result<void> byte_pairs(TextNormalizer normalizer, TextSplitter splitter) {
    const Json& options = file_.options;
    if (const auto dropout = options.find("dropout"); dropout != options.end() && dropout->is_number() && dropout->get<double>() != 0)
      return unsupported(file_, "merges with dropout are not supported");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (const auto found = options.find(key); found != options.end() && found->is_string() && !found->get<std::string>().empty())
        return unsupported(file_, std::string("\"") + key + "\" is not supported");
    const auto ignore_merges = json_flag(options, "ignore_merges", false, file_.where), byte_fallback = json_flag(options, "byte_fallback", false, file_.where),
               fuse = json_flag(options, "fuse_unk", false, file_.where);
    if (!ignore_merges) return ignore_merges.error();
    if (!byte_fallback) return byte_fallback.error();
    if (!fuse) return fuse.error();
    const bool bytes = splitter.byte_level();
    if (*byte_fallback && !bytes) mark_byte_tokens();
    const TokenSpelling spelling = bytes ? TokenSpelling::byte_alphabet : TokenSpelling::sentence_piece;
    if (auto made = vocabulary(spelling); !made) return made;
    const auto unknown = named("unk_token");
    if (!unknown) return unknown.error();
    state_.unknown = *unknown;
    auto merges = MergeTable::build(file_.merges, state_.vocabulary, spelling, file_.where);
    if (!merges) return merges.error();
    if (!bytes) {
      state_.model = "llama";
      state_.pre = "custom";
      auto model = make_character_pair_model(state_.vocabulary, std::move(*merges), {*byte_fallback, *fuse, *ignore_merges, *unknown});
      state_.encoder = std::make_unique<PipelineEncoder>(state_.vocabulary, std::move(normalizer), std::move(splitter), std::move(model));
      return {};
    }
    auto model = make_byte_pair_model(state_.vocabulary, std::move(*merges), *ignore_merges, file_.where);
    if (!model) return model.error();
    const auto split = splitter.known_split();
    state_.model = "gpt2";
    state_.pre = name_of(split);
    if (split && (normalizer.empty() || normalizer.only_nfc())) state_.encoder = make_byte_pair_encoder(state_.vocabulary, std::move(*model), *split, normalizer.only_nfc());
    else state_.encoder = std::make_unique<PipelineEncoder>(state_.vocabulary, std::move(normalizer), std::move(splitter), std::move(*model));
    return {};
  }

  Result<void> unigram(TextNormalizer normalizer, TextSplitter splitter) {
    if (splitter.byte_level()) return unsupported(file_, "a byte-level Unigram model is not supported");
    const auto byte_fallback = json_flag(file_.options, "byte_fallback", false, file_.where);
    if (!byte_fallback) return byte_fallback.error();
    if (file_.tokens.scores.empty()) return bad(file_, "the vocabulary of a Unigram model has no scores");
    if (*byte_fallback) mark_byte_tokens();
    TokenId unknown = -1;
    if (const auto found = file_.options.find("unk_id"); found != file_.options.end() && !found->is_null()) {
      if (!found->is_number_integer() || found->get<std::int64_t>() < 0 || found->get<std::int64_t>() >= static_cast<std::int64_t>(file_.tokens.texts.size()))
        return bad(file_, "\"unk_id\" is outside the vocabulary");
      unknown = found->get<TokenId>();
      // The unknown token is never composed of text.
      if (file_.tokens.types[static_cast<std::size_t>(unknown)] == TokenType::normal) file_.tokens.types[static_cast<std::size_t>(unknown)] = TokenType::unknown;
    }
    if (auto made = vocabulary(TokenSpelling::sentence_piece); !made) return made;
    state_.unknown = unknown;
    state_.model = "t5";
    state_.pre = "custom";
    auto model = make_unigram_model(state_.vocabulary, unknown, *byte_fallback, file_.where);
    if (!model) return model.error();
    state_.encoder = std::make_unique<PipelineEncoder>(state_.vocabulary, std::move(normalizer), std::move(splitter), std::move(*model));
    return {};
  }

  Result<void> word_pieces(TextNormalizer normalizer, TextSplitter splitter) {
    if (splitter.byte_level()) return unsupported(file_, "a byte-level WordPiece model is not supported");
    std::string prefix = "##";
    if (file_.options.contains("continuing_subword_prefix")) {
      auto text = json_text(file_.options, "continuing_subword_prefix", file_.where);
      if (!text) return text.error();
      prefix = std::move(*text);
    }
    std::size_t longest = 100;
    if (const auto found = file_.options.find("max_input_chars_per_word"); found != file_.options.end()) {
      if (!found->is_number_unsigned() || found->get<std::uint64_t>() > 10000) return bad(file_, "\"max_input_chars_per_word\" is not a number up to 10,000");
      longest = found->get<std::size_t>();
    }
    // As GGUF spells them: tokens that start a word carry a mark, the others nothing.
    std::vector<std::string> spelled(file_.tokens.texts.size());
    for (std::size_t i = 0; i < spelled.size(); ++i) {
      std::string_view& text = file_.tokens.texts[i];
      if (file_.tokens.types[i] != TokenType::normal) continue;
      spelled[i] = !prefix.empty() && text.starts_with(prefix) && text.size() > prefix.size() ? std::string(text.substr(prefix.size())) : "\xe2\x96\x81" + std::string(text);
      text = spelled[i];
    }
    if (auto made = vocabulary(TokenSpelling::word_piece); !made) return made;
    const auto unknown = named("unk_token", " ");
    if (!unknown) return unknown.error();
    state_.unknown = *unknown;
    state_.model = "bert";
    state_.pre = "custom";
    const auto bert = normalizer.only_bert();
    if (bert && splitter.only_bert()) {
      const WordPieceOptions options{bert->lower_case, bert->strip_accents, bert->clean_text, bert->ideographs_alone, longest, prefix};
      auto encoder = make_word_piece_encoder(state_.vocabulary, *unknown, options, file_.where);
      if (!encoder) return encoder.error();
      state_.encoder = std::move(*encoder);
      return {};
    }
    auto model = make_word_piece_model(state_.vocabulary, *unknown, longest, prefix, file_.where);
    if (!model) return model.error();
    state_.encoder = std::make_unique<PipelineEncoder>(state_.vocabulary, std::move(normalizer), std::move(splitter), std::move(*model));
    return {};
  }

  Result<void> post_process(const Json& json, int depth) {
    if (json.is_null()) return {};
    const auto type = json_type(json, "post-processor", file_.where);
    if (!type) return type.error();
    if (*type == "ByteLevel") return {};
    if (*type == "Sequence" && depth < 8 && json.contains("processors") && json.at("processors").is_array()) {
      for (const Json& part : json.at("processors"))
        if (auto done = post_process(part, depth + 1); !done) return done;
      return {};
    }
    if (*type == "BertProcessing" || *type == "RobertaProcessing") {
      const auto pair = [&](const char* key, std::vector<TokenId>& into) {
        if (!json.contains(key) || !json.at(key).is_array() || json.at(key).size() != 2) return false;
        return add_id(json.at(key).at(1), into);
      };
      if (!pair("cls", state_.prefix) || !pair("sep", state_.suffix)) return bad(file_, "\"cls\" or \"sep\" is not [text, id]");
      return {};
    }
    if (*type != "TemplateProcessing") return unsupported(file_, "post-processor '" + printable(*type) + "' is not supported");
    return apply_template(json);
  }

  bool add_id(const Json& id, std::vector<TokenId>& into) const {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() >= static_cast<std::int64_t>(state_.vocabulary.size()) || into.size() >= 64) return false;
    into.push_back(id.get<TokenId>());
    return true;
  }

  Result<void> apply_template(const Json& json) {
    if (!json.contains("single") || !json.at("single").is_array()) return bad(file_, "a TemplateProcessing without \"single\"");
    bool behind = false;
    for (const Json& item : json.at("single")) {
      if (!item.is_object() || item.size() != 1) return bad(file_, "an entry of \"single\" is neither a SpecialToken nor a Sequence");
      if (item.contains("Sequence")) {
        behind = true;
        continue;
      }
      const auto special = item.find("SpecialToken");
      if (special == item.end() || !special->is_object() || !special->contains("id") || !special->at("id").is_string()) return bad(file_, "an entry of \"single\" is neither a SpecialToken nor a Sequence");
      const auto name = special->at("id").get<std::string>();
      const Json none;
      const Json& known = json.contains("special_tokens") ? json.at("special_tokens") : none;
      if (!known.is_object() || !known.contains(name) || !known.at(name).is_object() || !known.at(name).contains("ids") || !known.at(name).at("ids").is_array())
        return bad(file_, "\"special_tokens\" does not say what \"" + printable(name) + "\" is");
      for (const Json& id : known.at(name).at("ids"))
        if (!add_id(id, behind ? state_.suffix : state_.prefix)) return bad(file_, "\"special_tokens\" names an id outside the vocabulary");
    }
    return {};
  }

  TokenizerJson& file_;
  Tokenizer::State& state_;
};

/// Text of a special token in tokenizer_config.json: "text" or {"content": "text"}; "" where there is none.
std::string token_text(const Json& config, std::string_view key) {
  const auto found = config.find(key);
  if (found == config.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && found->at("content").is_string()) return found->at("content").get<std::string>();
  return {};
}

void apply_config(const Json& config, Tokenizer::State& state) {
  const auto find = [&](std::string_view text) {
    const TokenId id = text.empty() ? -1 : state.vocabulary.find_added(text);
    return id >= 0 || text.empty() ? id : state.vocabulary.find_text(text);
  };
  if (const TokenId id = find(token_text(config, "bos_token")); id >= 0) state.bos = id;
  if (const TokenId id = find(token_text(config, "eos_token")); id >= 0) state.eos = id;
  const auto flag = [&](const char* key) { return config.contains(key) && config.at(key).is_boolean() ? std::optional(config.at(key).get<bool>()) : std::nullopt; };
  // The classes that read these flags put their own begin and end around a text.
  if (const auto add = flag("add_bos_token"); add && state.model != "bert") {
    state.prefix.clear();
    if (*add && state.bos >= 0) state.prefix.push_back(state.bos);
  }
  if (const auto add = flag("add_eos_token"); add && state.model != "bert") {
    state.suffix.clear();
    if (*add && state.eos >= 0) state.suffix.push_back(state.eos);
  }
}

void apply_generation(const Json& json, Tokenizer::State& state) {
  const auto add = [&](const Json& id) {
    if (id.is_number_integer() && id.get<std::int64_t>() >= 0 && id.get<std::int64_t>() < static_cast<std::int64_t>(state.vocabulary.size())) state.ends.push_back(id.get<TokenId>());
  };
  if (!json.contains("eos_token_id")) return;
  const Json& ids = json.at("eos_token_id");
  if (ids.is_array()) for (const Json& id : ids) add(id);
  else add(ids);
}

Result<std::string> read_file(const std::filesystem::path& path, std::size_t most) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return fail(std::filesystem::exists(path, error) ? Errc::io : Errc::not_found, "not a file", std::filesystem::exists(path, error) ? "not_regular_file" : "not_found", path.string());
  const auto size = std::filesystem::file_size(path, error);
  if (error || size > most) return fail(Errc::limit, "it has more than " + std::to_string(most) + " bytes", "limit_exceeded", path.string());
  std::ifstream in(path, std::ios::binary);
  std::string text(size, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size))) return fail_errno("read", path.string());
  return text;
}

/// Null where there is no such file.
Result<Json> read_config(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return Json();
  const auto text = read_file(path, kMaxConfigBytes);
  if (!text) return text.error();
  auto json = parse_json(*text);
  if (!json) return fail(json.error().code, json.error().message, json.error().kind, path.string() + ":" + json.error().where);
  if (!json->is_object()) return fail(Errc::malformed, "it is not a JSON object", "bad_vocab", path.string());
  return json;
}

}  // namespace

Result<Tokenizer> Tokenizer::from_json(std::string_view tokenizer, const Json& config, const Json& generation, const std::string& where) try {
  JsonScanner scanner(tokenizer);
  auto file = read_tokenizer_json(tokenizer, scanner, where);
  if (!file) return file.error();
  auto state = std::make_shared<State>();
  if (auto built = Builder(*file, *state).build(); !built) return built.error();
  if (!state->prefix.empty()) state->bos = state->prefix.front();
  if (!state->suffix.empty()) state->eos = state->suffix.back();
  apply_config(config, *state);
  apply_generation(generation, *state);
  state->finish();
  if (state->eos < 0 && !state->ends.empty()) state->eos = state->eot >= 0 ? state->eot : state->ends.front();
  return Tokenizer(std::move(state));
} catch (const std::bad_alloc&) {
  return fail(Errc::memory, "out of memory", "out_of_memory", where);
}

Result<Tokenizer> Tokenizer::from_json_file(const std::string& path) try {
  std::filesystem::path file(path);
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored)) file /= "tokenizer.json";
  const auto text = read_file(file, kMaxTokenizerJsonBytes);
  if (!text) return text.error();
  const auto config = read_config(file.parent_path() / "tokenizer_config.json");
  if (!config) return config.error();
  const auto generation = read_config(file.parent_path() / "generation_config.json");
  if (!generation) return generation.error();
  return from_json(*text, *config, *generation, file.string());
} catch (const std::bad_alloc&) {
  return fail(Errc::memory, "out of memory", "out_of_memory", path);
}

}  // namespace kontor::inference
