#include "inference/tokenizer_vocabulary.hpp"

#include "inference/unicode.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <random>

namespace kontor::inference {
namespace {

Error bad(const WeightFile& file, std::string message, std::string kind = "bad_vocab") {
  return fail(Errc::malformed, std::move(message), std::move(kind), file.path());
}

/// Printable Latin-1 characters stand for themselves, the other 68 bytes for U+0100 onwards, in order.
constexpr std::array<std::int16_t, 0x144> kByteOf = [] {
  std::array<std::int16_t, 0x144> table{};
  for (auto& entry : table) entry = -1;
  std::size_t next = 0x100;
  for (std::size_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    table[printable ? b : next++] = static_cast<std::int16_t>(b);
  }
  return table;
}();

void append_spaced(std::string_view text, std::string& out) {
  constexpr std::string_view kSpaceMark = "\xe2\x96\x81";
  for (std::size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with(kSpaceMark)) {
      out.push_back(' ');
      at += kSpaceMark.size();
    } else {
      out.push_back(text[at++]);
    }
  }
}

/// The byte of "<0xNN>", or -1.
int spelled_byte(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return -1;
    value = 16 * value + digit;
  }
  return value;
}

bool in_brackets(std::string_view text) {
  return text.size() > 2 && ((text.front() == '<' && text.back() == '>') || (text.front() == '[' && text.back() == ']'));
}

/// Normal tokens that can only be meant as markers: some converters lose their type.
bool marker_of_normal_type(std::string_view text) {
  if (text.size() < 5 || text.front() != '<' || text.back() != '>') return false;
  if (text.starts_with("<|") && text.ends_with("|>")) return text.find_first_not_of('|', 1) + 2 < text.size();
  if (text.starts_with("<\xef\xbd\x9c") && text.ends_with("\xef\xbd\x9c>")) return text.size() > 8;
  return text == "<think>" || text == "</think>" || text == "<tool_call>" || text == "</tool_call>" || text == "<tool_response>" || text == "</tool_response>";
}

}  // namespace

void append_from_byte_alphabet(std::string_view text, std::string& out) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    if (point.value < kByteOf.size() && kByteOf[point.value] >= 0) out.push_back(static_cast<char>(kByteOf[point.value]));
    else out.append(text.substr(at, point.bytes));
    at += point.bytes;
  }
}

std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t seed) {
  constexpr std::uint64_t kA = 0x9e3779b97f4a7c15ull;
  constexpr std::uint64_t kB = 0xc2b2ae3d27d4eb4full;
  const auto mix = [](std::uint64_t a, std::uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  std::uint64_t hash = seed ^ (bytes.size() * kA);
  const char* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left > 8; left -= 8, at += 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    hash = mix(hash ^ word, kB);
  }
  std::uint64_t word = 0;
  if (left >= 4) {
    std::uint32_t low, high;
    std::memcpy(&low, at, 4);
    std::memcpy(&high, at + left - 4, 4);
    word = low | static_cast<std::uint64_t>(high) << 32;
  } else if (left > 0) {
    word = static_cast<unsigned char>(at[0]) | static_cast<std::uint64_t>(static_cast<unsigned char>(at[left / 2])) << 8 |
           static_cast<std::uint64_t>(static_cast<unsigned char>(at[left - 1])) << 16;
  }
  return mix(hash ^ word, kA ^ seed);
}

std::string_view Vocabulary::piece(TokenId id) const {
  if (!contains(id)) return {};
  const auto i = static_cast<std::size_t>(id);
  const std::size_t start = i == 0 ? 0 : ends_[i - 1];
  return std::string_view(bytes_).substr(start, ends_[i] - start);
}

TokenId Vocabulary::find(const std::vector<TokenId>& slots, std::string_view bytes) const {
  if (slots.empty()) return -1;
  const std::size_t mask = slots.size() - 1;
  for (std::size_t slot = hash_bytes(bytes, seed_) & mask;; slot = (slot + 1) & mask) {
    const TokenId id = slots[slot];
    if (id < 0 || piece(id) == bytes) return id;
  }
}

void Vocabulary::insert(std::vector<TokenId>& slots, TokenId id) {
  const std::size_t mask = slots.size() - 1;
  for (std::size_t slot = hash_bytes(piece(id), seed_) & mask;; slot = (slot + 1) & mask) {
    if (slots[slot] < 0) slots[slot] = id;
    else if (piece(slots[slot]) != piece(id)) continue;
    return;  // of equal tokens the first one counts
  }
}

void Vocabulary::add_to_trie(TokenId id) {
  std::uint32_t node = 0;
  for (const char c : piece(id)) {
    const auto byte = static_cast<unsigned char>(c);
    auto& edges = trie_[node].next;
    const auto found = std::find_if(edges.begin(), edges.end(), [&](const auto& edge) { return edge.first == byte; });
    if (found != edges.end()) {
      node = found->second;
      continue;
    }
    const auto fresh = static_cast<std::uint32_t>(trie_.size());
    edges.emplace_back(byte, fresh);
    trie_.emplace_back();
    node = fresh;
  }
  if (trie_[node].id < 0) trie_[node].id = id;
  starts_added_[static_cast<unsigned char>(piece(id)[0])] = true;
}

bool Vocabulary::allowed(TokenId id, Which which) const {
  switch (which) {
    case Which::all: return true;
    case Which::user_defined: return type(id) == TokenType::user_defined;
    case Which::plain_user_defined: return !is_control(id);
  }
  return false;
}

Vocabulary::AddedMatch Vocabulary::match_added(std::string_view text, std::size_t at, Which which) const {
  AddedMatch best;
  std::uint32_t node = 0;
  for (std::size_t end = at; end < text.size();) {
    const auto byte = static_cast<unsigned char>(text[end]);
    const auto& edges = trie_[node].next;
    const auto found = std::find_if(edges.begin(), edges.end(), [&](const auto& edge) { return edge.first == byte; });
    if (found == edges.end()) break;
    node = found->second;
    ++end;
    if (trie_[node].id >= 0 && allowed(trie_[node].id, which)) best = {trie_[node].id, end - at};
  }
  return best;
}

Result<Vocabulary> Vocabulary::read(const WeightFile& file, TokenSpelling spelling) {
  const auto texts = file.texts("tokenizer.ggml.tokens");
  if (!texts) return texts.error();
  const std::size_t count = texts->size();
  if (count == 0) return bad(file, "'tokenizer.ggml.tokens' is empty");
  if (count > kMaxTokens) return bad(file, "'tokenizer.ggml.tokens' has " + std::to_string(count) + " entries, more than " + std::to_string(kMaxTokens), "limit_exceeded");

  Vocabulary out;
  out.seed_ = static_cast<std::uint64_t>(std::random_device{}()) << 32 | std::random_device{}();
  out.types_.assign(count, TokenType::normal);
  if (const MetadataEntry* entry = file.find("tokenizer.ggml.token_type")) {
    if (entry->type != MetadataType::array || (entry->element_type != MetadataType::i32 && entry->element_type != MetadataType::u32))
      return bad(file, "'tokenizer.ggml.token_type' is not an array of 32-bit integers", "wrong_key_type");
    const auto types = file.integers(entry->key);
    if (!types) return types.error();
    if (types->size() != count) return bad(file, "'tokenizer.ggml.token_type' has " + std::to_string(types->size()) + " entries for " + std::to_string(count) + " tokens");
    for (std::size_t i = 0; i < count; ++i) {
      if ((*types)[i] < 0 || (*types)[i] > 6) return bad(file, "token " + std::to_string(i) + " has unknown type " + std::to_string((*types)[i]));
      out.types_[i] = static_cast<TokenType>((*types)[i]);
    }
  }
  if (file.has("tokenizer.ggml.scores")) {
    auto scores = file.numbers("tokenizer.ggml.scores");
    if (!scores) return scores.error();
    if (scores->size() != count) return bad(file, "'tokenizer.ggml.scores' has " + std::to_string(scores->size()) + " entries for " + std::to_string(count) + " tokens");
    out.scores_ = std::move(*scores);
  }

  out.ends_.reserve(count);
  out.added_.assign(count, 0);
  std::size_t added_count = 0, added_bytes = 0, text_count = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view text = (*texts)[i];
    const TokenType type = out.types_[i];
    if (text.size() > kMaxTokenBytes) return bad(file, "token " + std::to_string(i) + " has " + std::to_string(text.size()) + " bytes, more than " + std::to_string(kMaxTokenBytes), "limit_exceeded");
    const bool plain = type == TokenType::normal || type == TokenType::undefined || type == TokenType::byte;
    const bool marker = plain && spelling == TokenSpelling::byte_alphabet && marker_of_normal_type(text);
    const std::size_t start = out.bytes_.size();
    if (const int byte = spelling == TokenSpelling::sentence_piece && type == TokenType::byte ? spelled_byte(text) : -1; byte >= 0) out.bytes_.push_back(static_cast<char>(byte));
    else if (!plain || marker) out.bytes_ += text;
    else if (spelling == TokenSpelling::byte_alphabet) append_from_byte_alphabet(text, out.bytes_);
    else append_spaced(text, out.bytes_);
    if (out.bytes_.size() > UINT32_MAX) return bad(file, "the vocabulary is larger than 4 GiB", "limit_exceeded");
    out.ends_.push_back(static_cast<std::uint32_t>(out.bytes_.size()));
    const std::size_t length = out.bytes_.size() - start;
    if (type == TokenType::control || type == TokenType::unknown || type == TokenType::user_defined || marker) {
      out.added_[i] = type != TokenType::user_defined || in_brackets(text) ? 2 : 1;
      ++added_count;
      added_bytes += length;
      if (length > kMaxAddedBytes || added_bytes > kMaxAddedTotalBytes)
        return bad(file, "added token " + std::to_string(i) + " is too long, or added tokens are together", "limit_exceeded");
    } else if (type != TokenType::unused) {
      ++text_count;
      out.longest_ = std::max(out.longest_, length);
    }
  }

  out.text_slots_.assign(std::bit_ceil(2 * text_count + 2), -1);
  out.added_slots_.assign(std::bit_ceil(2 * added_count + 2), -1);
  for (std::size_t i = 0; i < count; ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string_view piece = out.piece(id);
    if (piece.empty()) continue;
    if (out.added_[i] != 0) {
      out.insert(out.added_slots_, id);
      if (out.types_[i] != TokenType::unknown) out.add_to_trie(id);
    } else if (out.types_[i] != TokenType::unused) {
      // SentencePiece has the byte tokens beside the same characters as text; they serve as the last resort only.
      const bool fallback = spelling == TokenSpelling::sentence_piece && out.types_[i] == TokenType::byte;
      if (!fallback) out.insert(out.text_slots_, id);
      if (piece.size() == 1 && (fallback || spelling != TokenSpelling::sentence_piece)) {
        TokenId& slot = out.byte_tokens_[static_cast<unsigned char>(piece[0])];
        if (slot < 0) slot = id;
      }
    }
  }
  return out;
}

}  // namespace kontor::inference
