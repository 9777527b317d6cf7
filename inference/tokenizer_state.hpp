#pragma once
// What a Tokenizer is made of; filled in by its sources (tokenizer_gguf.cpp, tokenizer_json.cpp).

#include "inference/tokenizer.hpp"
#include "inference/tokenizer_encoder.hpp"
#include "inference/tokenizer_vocabulary.hpp"

namespace kontor::inference {

struct Tokenizer::State {
  Vocabulary vocabulary;
  std::unique_ptr<TextEncoder> encoder;
  std::string model;
  std::string pre;
  TokenId bos = -1, eos = -1, eot = -1, unknown = -1;
  std::vector<TokenId> ends;              // that end a generation; sorted by finish()
  std::vector<TokenId> prefix, suffix;    // put around a text by encode_with_ends

  /// Adds the well-known end markers to `ends`, and finds eot and, where it is missing, eos among them.
  void finish();
  /// Turns the text into tokens; `plain` collects text until an added token closes it.
  void encode(std::string_view text, Vocabulary::Which which, std::vector<TokenId>& out) const;
  void flush(std::string& plain, Place& place, std::vector<TokenId>& out) const;
};

}  // namespace kontor::inference
