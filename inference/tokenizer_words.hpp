#pragma once
// Cuts text into the words within which byte pairs are merged. The published tokenizers describe the cuts by regular
// expressions; these are scanners written by hand for the same cuts, in linear time. A byte that is not UTF-8 counts
// as a character of no class.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace kontor::inference {

enum class WordSplit {
  gpt2,
  default_bpe,   ///< What converters write as "default": punctuation apart, digits in threes, then as gpt2.
  llama3,
  qwen2,         ///< llama3 with single digits; "deepseek-r1-qwen" is the same.
  deepseek_llm,
  deepseek_v3,
};

/// From tokenizer.ggml.pre; empty for names this build does not know.
std::optional<WordSplit> find_word_split(std::string_view pre);

/// End of the word that starts at `at`, which must be below text.size() and the end of the word before (or 0).
/// Not for deepseek_llm, whose cuts depend on more than the text that follows.
std::size_t next_word(WordSplit split, std::string_view text, std::size_t at);

/// Ends of all words, for any split.
std::vector<std::size_t> word_ends(WordSplit split, std::string_view text);

}  // namespace kontor::inference
