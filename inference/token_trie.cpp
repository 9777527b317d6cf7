#include "inference/token_trie.hpp"

#include "inference/utf8_steps.hpp"

#include <algorithm>
#include <string_view>

namespace kontor::inference {
namespace {

struct Entry {
  std::string_view bytes;
  TokenId id;
};

/// Depth-first trie of sorted entries without duplicates.
std::vector<TrieNode> trie_of(const std::vector<Entry>& entries) {
  std::vector<TrieNode> nodes(1);
  std::vector<std::uint32_t> path{0};  // Nodes from the root to the last one.
  std::string_view last;
  const auto close_to = [&](std::size_t depth) {
    while (path.size() > depth + 1) {
      nodes[path.back()].skip = static_cast<std::uint32_t>(nodes.size()) - path.back();
      path.pop_back();
    }
  };
  for (const Entry& entry : entries) {
    const auto common = static_cast<std::size_t>(std::mismatch(last.begin(), last.end(), entry.bytes.begin(), entry.bytes.end()).first - last.begin());
    close_to(common);
    for (std::size_t i = common; i < entry.bytes.size(); ++i) {
      path.push_back(static_cast<std::uint32_t>(nodes.size()));
      nodes.push_back({1, -1, static_cast<std::uint16_t>(i + 1), static_cast<std::uint8_t>(entry.bytes[i])});
    }
    nodes[path.back()].token = entry.id;
    last = entry.bytes;
  }
  close_to(0);
  nodes[0].skip = static_cast<std::uint32_t>(nodes.size());
  return nodes;
}

/// Characters of a text that is whole UTF-8, or -1.
std::int64_t characters(std::string_view text) {
  std::uint8_t state = 0;
  std::int64_t count = 0;
  for (const char c : text) {
    state = utf8_step(state, static_cast<std::uint8_t>(c));
    if (state == kUtf8Bad) return -1;
    count += state == 0;
  }
  return state == 0 ? count : -1;
}

bool plain_in_string(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20; });
}

bool is_alphanumeric(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
}

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer) : vocabulary_(tokenizer.size()) {
  std::vector<Entry> entries;
  entries.reserve(vocabulary_);
  for (std::size_t i = 0; i < vocabulary_; ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string_view bytes = tokenizer.piece(id);
    if (bytes.empty() || tokenizer.is_control(id) || tokenizer.is_end(id) || id == tokenizer.unknown() || bytes.size() > 0xffff) continue;
    entries.push_back({bytes, id});
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.bytes != b.bytes ? a.bytes < b.bytes : a.id < b.id; });
  // Several tokens of one text: the first is in the trie, the others hang on it.
  std::vector<Entry> unique;
  unique.reserve(entries.size());
  for (const Entry& entry : entries) {
    if (unique.empty() || unique.back().bytes != entry.bytes) {
      unique.push_back(entry);
      continue;
    }
    if (twins_.empty()) twins_.assign(vocabulary_, -1);
    TokenId at = unique.back().id;
    while (twins_[static_cast<std::size_t>(at)] >= 0) at = twins_[static_cast<std::size_t>(at)];
    twins_[static_cast<std::size_t>(at)] = entry.id;
  }
  inside_text_.assign(words(), 0);
  inside_string_.fill(TokenSet(words(), 0));
  alphanumeric_.fill(TokenSet(words(), 0));
  std::vector<Entry> beside_string, beside_text, beside_alphanumeric;
  const auto add_all = [&](TokenSet& set, TokenId id) {
    for (; id >= 0; id = twin(id)) add_token(set, id);
  };
  for (const Entry& entry : unique) {
    longest_ = std::max(longest_, entry.bytes.size());
    if (entry.bytes.size() <= kSliceCharacters && is_alphanumeric(entry.bytes)) {
      for (std::size_t n = entry.bytes.size(); n <= kSliceCharacters; ++n) add_all(alphanumeric_[n], entry.id);
    } else {
      beside_alphanumeric.push_back(entry);
    }
    const std::int64_t count = characters(entry.bytes);
    if (count >= 0 && static_cast<std::size_t>(count) <= kSliceCharacters && plain_in_string(entry.bytes)) {
      for (auto n = static_cast<std::size_t>(count); n <= kSliceCharacters; ++n) add_all(inside_string_[n], entry.id);
    } else {
      beside_string.push_back(entry);
    }
    if (count >= 0 && entry.bytes.find('<') == std::string_view::npos) add_all(inside_text_, entry.id);
    else beside_text.push_back(entry);
  }
  all_ = trie_of(unique);
  beside_string_ = trie_of(beside_string);
  beside_text_ = trie_of(beside_text);
  beside_alphanumeric_ = trie_of(beside_alphanumeric);
}

}  // namespace kontor::inference
