#include "inference/tokenizer_vocabulary.hpp"

#include "inference/unicode.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <random>

namespace kontor::inference {
namespace {

Error bad(const TokenList& list, std::string message, std::string kind = "bad_vocab") {
  return fail(Errc::malformed, std::move(message), std::move(kind), list.where);
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

constexpr std::string_view kWordMark = "\xe2\x96\x81";

void append_spaced(std::string_view text, std::string& out) {
  for (std::size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with(kWordMark)) {
      out.push_back(' ');
      at += kWordMark.size();
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

TokenId Vocabulary::find(const std::vector<TokenId>& slots, std::string_view bytes) const {
  if (slots.empty()) return -1;
  const std::size_t mask = slots.size() - 1;
  for (std::size_t slot = hash_bytes(bytes, seed_) & mask;; slot = (slot + 1) & mask) {
    const TokenId id = slots[slot];
    if (id < 0 || text(id) == bytes) return id;
  }
}

/// False where an equal text is there already: of equal tokens the first one counts.
bool Vocabulary::insert(std::vector<TokenId>& slots, TokenId id) {
  const std::size_t mask = slots.size() - 1;
  for (std::size_t slot = hash_bytes(text(id), seed_) & mask;; slot = (slot + 1) & mask) {
    if (slots[slot] < 0) {
      slots[slot] = id;
      return true;
    }
    if (text(slots[slot]) == text(id)) return false;
  }
}

const AddedRule* Vocabulary::rule(TokenId id) const {
  const auto found = std::lower_bound(rules_.begin(), rules_.end(), id, [](const auto& entry, TokenId value) { return entry.first < value; });
  return found != rules_.end() && found->first == id ? &found->second : nullptr;
}

void Vocabulary::add_to_trie(TokenId id) {
  std::uint32_t node = 0;
  for (const char c : text(id)) {
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
  starts_added_[static_cast<unsigned char>(text(id)[0])] = true;
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

Result<Vocabulary> Vocabulary::build(const TokenList& list, TokenSpelling spelling) {
  const std::size_t count = list.texts.size();
  if (count == 0) return bad(list, "the vocabulary has no tokens");
  if (count > kMaxTokens) return bad(list, "the vocabulary has " + std::to_string(count) + " tokens, more than " + std::to_string(kMaxTokens), "limit_exceeded");
  Vocabulary out;
  out.seed_ = static_cast<std::uint64_t>(std::random_device{}()) << 32 | std::random_device{}();
  out.types_ = list.types;
  out.scores_ = list.scores;
  out.rules_ = list.rules;
  std::sort(out.rules_.begin(), out.rules_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  if (auto added = out.add_texts(list, spelling); !added) return added.error();
  if (auto indexed = out.index(list, spelling); !indexed) return indexed.error();
  return out;
}

Result<void> Vocabulary::add_texts(const TokenList& list, TokenSpelling spelling) {
  const std::size_t count = list.texts.size();
  ends_.reserve(count);
  added_.assign(count, 0);
  if (spelling == TokenSpelling::sentence_piece) shown_ends_.reserve(count);
  std::size_t added_bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view text = list.texts[i];
    const TokenType type = types_[i];
    if (text.size() > kMaxTokenBytes) return bad(list, "token " + std::to_string(i) + " has " + std::to_string(text.size()) + " bytes, more than " + std::to_string(kMaxTokenBytes), "limit_exceeded");
    const bool plain = type == TokenType::normal || type == TokenType::undefined || type == TokenType::byte;
    const bool marker = plain && spelling == TokenSpelling::byte_alphabet && marker_of_normal_type(text);
    const std::size_t start = bytes_.size();
    if (!plain || marker || spelling == TokenSpelling::sentence_piece) bytes_ += text;
    else if (spelling == TokenSpelling::byte_alphabet) append_from_byte_alphabet(text, bytes_);
    else if (text.starts_with(kWordMark)) bytes_.append(1, ' ').append(text.substr(kWordMark.size()));
    else bytes_ += text;
    if (spelling == TokenSpelling::sentence_piece) {
      const int byte = type == TokenType::byte ? spelled_byte(text) : -1;
      if (byte >= 0) shown_.push_back(static_cast<char>(byte));
      else if (plain) append_spaced(text, shown_);
      else shown_ += text;
      shown_ends_.push_back(static_cast<std::uint32_t>(shown_.size()));
    }
    if (bytes_.size() > UINT32_MAX) return bad(list, "the vocabulary is larger than 4 GiB", "limit_exceeded");
    ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
    const std::size_t length = bytes_.size() - start;
    if (type == TokenType::control || type == TokenType::unknown || type == TokenType::user_defined || marker) {
      added_[i] = type != TokenType::user_defined || in_brackets(text) ? 2 : 1;
      added_bytes += length;
      if (length > kMaxAddedBytes || added_bytes > kMaxAddedTotalBytes)
        return bad(list, "added token " + std::to_string(i) + " is too long, or added tokens are together", "limit_exceeded");
    } else if (type != TokenType::unused) {
      longest_ = std::max(longest_, length);
    }
  }
  return {};
}

Result<void> Vocabulary::index(const TokenList& list, TokenSpelling spelling) {
  const std::size_t count = types_.size();
  const auto added_count = static_cast<std::size_t>(std::count_if(added_.begin(), added_.end(), [](std::uint8_t kind) { return kind != 0; }));
  text_slots_.assign(std::bit_ceil(2 * (count - added_count) + 2), -1);
  added_slots_.assign(std::bit_ceil(2 * added_count + 2), -1);
  for (std::size_t i = 0; i < count; ++i) {
    const auto id = static_cast<TokenId>(i);
    if (text(id).empty()) continue;
    if (added_[i] != 0) {
      insert(added_slots_, id);
      if (types_[i] != TokenType::unknown) add_to_trie(id);
    } else if (types_[i] != TokenType::unused) {
      // SentencePiece has the byte tokens beside the same characters as text; they serve as the last resort only.
      const bool fallback = spelling == TokenSpelling::sentence_piece && types_[i] == TokenType::byte;
      if (!fallback && !insert(text_slots_, id) && list.unique) return bad(list, "token " + std::to_string(i) + " has the text of another token");
      if (piece(id).size() == 1 && (fallback || spelling != TokenSpelling::sentence_piece)) {
        TokenId& slot = byte_tokens_[static_cast<unsigned char>(piece(id)[0])];
        if (slot < 0) slot = id;
      }
    }
  }
  return {};
}

}  // namespace kontor::inference
