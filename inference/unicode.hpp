#pragma once
// UTF-8 reading and the character classes that tokenizers split by. Categories come from utf8proc.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace kontor::inference {

/// True when the bytes are well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
bool is_valid_utf8(std::string_view bytes);

/// One code point, or one byte that belongs to none.
struct CodePoint {
  std::uint32_t value = 0;  ///< kBadByte for a byte that is not part of well-formed UTF-8.
  std::uint32_t bytes = 1;  ///< Length in the text, 1 to 4.
};
inline constexpr std::uint32_t kBadByte = 0xffffffff;

/// Decodes at `at`, which must be below text.size().
CodePoint decode_utf8(std::string_view text, std::size_t at);

/// Appends the UTF-8 form of a code point up to U+10FFFF.
void append_utf8(std::string& out, std::uint32_t value);

/// Classes as regular expressions name them, plus the subsets that pre-tokenizers need. Bit flags.
enum CharacterClass : std::uint8_t {
  kLetter = 1,       ///< \p{L}
  kNumber = 2,       ///< \p{N}
  kSpace = 4,        ///< \s with Unicode on: White_Space
  kMark = 8,         ///< \p{M}
  kPunctuation = 16, ///< \p{P}
  kSymbol = 32,      ///< \p{S}
};

/// General categories, numbered as utf8proc does.
enum class GeneralCategory : std::uint8_t { cn, lu, ll, lt, lm, lo, mn, mc, me, nd, nl, no, pc, pd, ps, pe, pi, pf, po, sm, sc, sk, so, zs, zl, zp, cc, cf, cs, co };
/// cn (unassigned) above U+10FFFF.
GeneralCategory general_category(std::uint32_t value);
constexpr std::uint32_t category_bit(GeneralCategory category) { return std::uint32_t{1} << static_cast<unsigned>(category); }

/// Circled and squared letters: symbols that Unicode counts as alphabetic.
inline constexpr std::pair<std::uint32_t, std::uint32_t> kEnclosedLetters[] = {{0x24b6, 0x24e9}, {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189}};
/// Letters, marks, digits, letter numbers and connectors: with enclosed letters what \w of expressions takes.
inline constexpr std::uint32_t kWordCategories =
    category_bit(GeneralCategory::lu) | category_bit(GeneralCategory::ll) | category_bit(GeneralCategory::lt) | category_bit(GeneralCategory::lm) |
    category_bit(GeneralCategory::lo) | category_bit(GeneralCategory::mn) | category_bit(GeneralCategory::mc) | category_bit(GeneralCategory::me) |
    category_bit(GeneralCategory::nd) | category_bit(GeneralCategory::nl) | category_bit(GeneralCategory::pc);
bool is_word_character(std::uint32_t value);

/// One code point in the other case, or itself.
std::uint32_t lower_case(std::uint32_t value);
std::uint32_t upper_case(std::uint32_t value);

/// Flags of a code point; 0 for kBadByte, controls, unassigned and format characters.
std::uint8_t character_class(std::uint32_t value);

/// Unicode normalisation form C. Returns false, with `out` empty, where the text is in that form already. Bytes that
/// are not UTF-8 stay as they are. Linear, apart from sorting runs of combining marks.
bool normalise_nfc(std::string_view text, std::string& out);

enum class NormalForm { nfc, nfd, nfkc, nfkd };
/// The text in a Unicode normalisation form. Bytes that are not UTF-8 stay as they are.
std::string normalise(std::string_view text, NormalForm form);

/// The code point in lower case, which may be two code points.
void append_lower(std::uint32_t value, std::string& out);
/// The code point decomposed, without nonspacing marks.
void append_without_accents(std::uint32_t value, std::string& out);
/// The code point decomposed, without nonspacing marks, in lower case: what uncased BERT vocabularies hold.
void append_folded(std::uint32_t value, std::string& out);

/// Controls, format characters, private use, and kBadByte.
bool is_control_or_format(std::uint32_t value);

}  // namespace kontor::inference
