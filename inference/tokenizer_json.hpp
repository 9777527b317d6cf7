#pragma once
// tokenizer.json, the file of the Hugging Face tokenizers library, read into its parts.
//
// Understood: models BPE (byte-level, and over characters with byte fallback), Unigram, WordPiece; the normalizers and
// pre-tokenizers of tokenizer_normalizer.hpp and tokenizer_splitter.hpp; added tokens with their rules;
// TemplateProcessing, BertProcessing, RobertaProcessing. Decoders are not needed: each token stands for its bytes.
// Refused, with the name of what is missing: everything else, so that no text is ever cut in another way than the
// file says.
//
// Beside it lie tokenizer_config.json (bos_token, eos_token, add_bos_token, add_eos_token) and generation_config.json
// (eos_token_id): read where they exist.

#include "base/error.hpp"
#include "base/json.hpp"
#include "inference/json_scanner.hpp"
#include "inference/tokenizer_pairs.hpp"
#include "inference/tokenizer_vocabulary.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

inline constexpr std::size_t kMaxTokenizerJsonBytes = 256u << 20;

struct TokenizerJson {
  struct Added {
    TokenId id = -1;
    std::string content;
    bool special = false;
    AddedRule rule;
  };
  std::string where;
  std::string type;        // of the model
  TokenList tokens;        // texts, scores; types not set yet
  MergePairs merges;
  Json options;            // of the model, without vocab and merges
  Json normalizer, pre_tokenizer, post_processor;
  std::vector<Added> added;
};

/// Views into `text` and into `scanner`, which both must live on. Errors: json_syntax, bad_vocab, limit_exceeded,
/// unsupported_tokenizer.
Result<TokenizerJson> read_tokenizer_json(std::string_view text, JsonScanner& scanner, const std::string& where);

}  // namespace kontor::inference
