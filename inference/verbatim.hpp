#pragma once
// What may be copied: every stretch of a text that begins and ends between a word and something else, as a suffix
// automaton (Blumer et al. 1985). Built in linear time, read byte by byte.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// Immutable after the last add(). A word is a run of letters, digits, '_' and bytes of other alphabets: what is read
/// cannot begin or end inside one, so no digit of a number can be lost at either end. Two texts never run into another.
class VerbatimText {
 public:
  /// What one conversation may hold; beyond it the oldest text is left out by the caller.
  static constexpr std::size_t kBytesMax = 512 * 1024;

  VerbatimText();
  void add(std::string_view text);
  /// Behind the last add(): works out left() and shortest(), which are kNowhere before.
  void finish();
  /// Bytes added so far.
  std::size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }

  using State = std::uint32_t;
  static constexpr State kDead = 0;
  /// In front of the first byte, at any place where a copy may begin.
  State start() const;
  /// kDead where the stretch read so far and this byte stand nowhere.
  State step(State state, std::uint8_t byte) const;
  /// Whether a copy may end here.
  bool may_end(State state) const { return state != kDead && to(index(state), kBoundary) != kNone; }
  static constexpr std::uint32_t kNowhere = 1u << 30;
  /// Bytes to the nearest place where a copy may end that has begun.
  std::uint32_t left(State state) const;
  /// Bytes of the shortest copy, as a JSON string spells it.
  std::uint32_t shortest() const { return shortest_; }

 private:
  static constexpr std::uint16_t kBoundary = 256, kBreak = 257;
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Vertex {
    std::uint32_t length = 0;
    std::uint32_t link = kNone;
    std::uint32_t first = kNone;  ///< Edge list.
  };
  struct Edge {
    std::uint16_t symbol;
    std::uint32_t to;
    std::uint32_t next;
  };
  /// A state is a vertex and whether the last byte belongs to a word.
  static std::uint32_t index(State state) { return (state >> 1) - 1; }
  static State state_of(std::uint32_t vertex, bool word) { return ((vertex + 1) << 1) | (word ? 1u : 0u); }

  std::uint32_t to(std::uint32_t vertex, std::uint16_t symbol) const;
  void set(std::uint32_t vertex, std::uint16_t symbol, std::uint32_t target);
  void extend(std::uint16_t symbol);

  std::vector<Vertex> vertices_;
  std::vector<Edge> edges_;
  std::vector<std::uint32_t> word_ends_;  ///< By vertex: bytes of the word that is being read.
  std::uint32_t shortest_ = kNowhere;
  std::uint32_t last_ = 0;
  std::size_t bytes_ = 0;
};

/// Letters, digits, '_' and everything beyond ASCII.
constexpr bool is_word_byte(std::uint8_t byte) {
  return byte >= 0x80 || byte == '_' || (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

}  // namespace kontor::inference
