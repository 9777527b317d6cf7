#include "inference/tokenizer_splitter.hpp"

#include "inference/tokenizer_normalizer.hpp"
#include "inference/unicode.hpp"
#include "inference/weight_file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace kontor::inference {
namespace {

constexpr int kMaxSequenceDepth = 8;
constexpr std::size_t kMaxSteps = 64;
constexpr std::string_view kWordMark = "\xe2\x96\x81";

// Expressions whose cuts tokenizer_words.hpp makes.
constexpr std::string_view kLlama3 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseekV3[] = {
    R"(\p{N}{1,3})", "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"};

Error bad(std::string message, const std::string& where) { return fail(Errc::malformed, std::move(message), "bad_vocab", where); }

bool is_space(std::uint32_t value) { return (character_class(value) & kSpace) != 0; }

/// \w of Rust's expressions, joiners included.
bool is_rust_word_character(std::uint32_t value) { return value == 0x200c || value == 0x200d || is_word_character(value); }

/// Tiles [begin, end) with pieces that match and pieces that do not.
class Tiler {
 public:
  template <class Piece>
  static void add(std::vector<Piece>& pieces, std::size_t begin, std::size_t end, bool match) {
    if (end > begin) pieces.push_back({begin, end, match});
  }
};

/// One piece for each character for which `match` holds; runs of the others.
template <class Piece, class Match>
void tile_characters(std::string_view text, std::size_t begin, std::size_t end, const Match& match, std::vector<Piece>& pieces) {
  std::size_t start = begin;
  for (std::size_t at = begin; at < end;) {
    const CodePoint point = decode_utf8(text, at);
    if (match(point.value)) {
      Tiler::add(pieces, start, at, false);
      Tiler::add(pieces, at, at + point.bytes, true);
      start = at + point.bytes;
    }
    at += point.bytes;
  }
  Tiler::add(pieces, start, end, false);
}

template <class Piece>
void tile_regex(RegexMatcher& matcher, std::string_view text, std::size_t begin, std::size_t end, std::vector<Piece>& pieces) {
  const std::string_view part = text.substr(begin, end - begin);
  matcher.start(part);
  std::size_t copied = 0;
  for (std::size_t at = 0; at <= part.size();) {
    const auto match = matcher.find(at);
    if (!match) break;
    if (match->end == match->start) {  // an empty match cuts
      Tiler::add(pieces, begin + copied, begin + match->start, false);
      copied = match->start;
      at = match->end < part.size() ? match->end + decode_utf8(part, match->end).bytes : part.size() + 1;
      continue;
    }
    Tiler::add(pieces, begin + copied, begin + match->start, false);
    Tiler::add(pieces, begin + match->start, begin + match->end, true);
    at = copied = match->end;
  }
  Tiler::add(pieces, begin + copied, end, false);
}

template <class Piece>
void tile_text(std::string_view text, std::size_t begin, std::size_t end, std::string_view pattern, std::vector<Piece>& pieces) {
  std::size_t at = begin;
  for (std::size_t found; !pattern.empty() && (found = text.substr(0, end).find(pattern, at)) != std::string_view::npos; at = found + pattern.size()) {
    Tiler::add(pieces, at, found, false);
    Tiler::add(pieces, found, found + pattern.size(), true);
  }
  Tiler::add(pieces, at, end, false);
}

template <class Piece>
void tile_gpt2(std::string_view text, std::size_t begin, std::size_t end, std::vector<Piece>& pieces) {
  const std::string_view part = text.substr(begin, end - begin);
  for (std::size_t at = 0; at < part.size();) {
    const std::size_t next = next_word(WordSplit::gpt2, part, at);
    Tiler::add(pieces, begin + at, begin + next, true);
    at = next;
  }
}

/// \w+|[^\w\s]+
template <class Piece>
void tile_words(std::string_view text, std::size_t begin, std::size_t end, std::vector<Piece>& pieces) {
  const auto kind = [](std::uint32_t value) { return is_rust_word_character(value) ? 2 : is_space(value) ? 0 : 1; };
  for (std::size_t at = begin; at < end;) {
    const std::size_t start = at;
    const int first = kind(decode_utf8(text, at).value);
    while (at < end && kind(decode_utf8(text, at).value) == first) at += decode_utf8(text, at).bytes;
    Tiler::add(pieces, start, at, first != 0);
  }
}

}  // namespace

void TextSplitter::join(const std::vector<Piece>& pieces, Behaviour behaviour, std::vector<Word>& words) {
  const auto tie = [&](std::size_t i, bool forward) {  // match i joins its non-matching neighbour
    return forward ? i + 1 < pieces.size() && pieces[i].match && !pieces[i + 1].match : i > 0 && pieces[i].match && !pieces[i - 1].match;
  };
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    Word word{pieces[i].begin, pieces[i].end};
    switch (behaviour) {
      case Behaviour::removed:
        if (pieces[i].match) continue;
        break;
      case Behaviour::isolated: break;
      case Behaviour::with_previous:
        if (i + 1 < pieces.size() && tie(i + 1, false)) word.end = pieces[++i].end;
        break;
      case Behaviour::with_next:
        if (tie(i, true)) word.end = pieces[++i].end;
        break;
      case Behaviour::contiguous:
        while (i + 1 < pieces.size() && pieces[i + 1].match == pieces[i].match) word.end = pieces[++i].end;
        break;
    }
    words.push_back(word);
  }
}

/// Spaces become marks and a mark may be put in front: the text is written anew.
void TextSplitter::insert_marks(const Step& step, std::string& text, Place place, std::vector<Word>& words) {
  std::string out;
  out.reserve(text.size() + text.size() / 2 + 3 * words.size());
  const bool marks = step.kind == Kind::metaspace;
  for (Word& word : words) {
    const std::string_view part = std::string_view(text).substr(word.begin, word.end - word.begin);
    const bool first = word.begin == 0 && place == Place::start;
    word.begin = out.size();
    const bool wanted = step.prepend == Step::Prepend::always || (step.prepend == Step::Prepend::first && first);
    const bool there = part.starts_with(step.text) || (part.starts_with(' ') && (marks || step.text == " "));
    if (wanted && !there && !part.empty()) out += step.text;
    if (!marks) {
      out += part;
    } else {
      for (const char c : part) {
        if (c == ' ') out += step.text;
        else out.push_back(c);
      }
    }
    word.end = out.size();
  }
  text = std::move(out);
}

void TextSplitter::apply(const Step& step, std::string& text, Place place, std::vector<Word>& words) {
  if (step.kind == Kind::metaspace || step.kind == Kind::prefix_space) {
    insert_marks(step, text, place, words);
    if (!step.single) return;
  }
  std::optional<RegexMatcher> matcher;
  if (step.regex) matcher.emplace(*step.regex);
  std::vector<Word> out;
  out.reserve(words.size() * 2 + text.size() / 6);
  std::vector<Piece> pieces;
  for (const Word& word : words) {
    pieces.clear();
    const auto tile = [&](const auto& match) { tile_characters(text, word.begin, word.end, match, pieces); };
    switch (step.kind) {
      case Kind::split:
        if (matcher) tile_regex(*matcher, text, word.begin, word.end, pieces);
        else tile_text(text, word.begin, word.end, step.text, pieces);
        break;
      case Kind::gpt2: tile_gpt2(text, word.begin, word.end, pieces); break;
      case Kind::metaspace:
      case Kind::character: tile_text(text, word.begin, word.end, step.text, pieces); break;
      case Kind::digits: tile([](std::uint32_t value) { return (character_class(value) & kNumber) != 0; }); break;
      case Kind::spaces: tile(is_space); break;
      case Kind::punctuation: tile(is_bert_punctuation); break;
      case Kind::words: tile_words(text, word.begin, word.end, pieces); break;
      case Kind::bert: {
        std::vector<Piece> parts;
        tile_characters(text, word.begin, word.end, is_space, parts);
        for (const Piece& part : parts)
          if (!part.match) tile_characters(text, part.begin, part.end, is_bert_punctuation, pieces);
        break;
      }
      case Kind::prefix_space: break;
    }
    if (step.invert)
      for (Piece& piece : pieces) piece.match = !piece.match;
    join(pieces, step.behaviour, out);
  }
  words = std::move(out);
}

void TextSplitter::split(std::string& text, Place place, std::vector<Word>& words) const {
  if (text.empty()) return;
  std::vector<Word> parts{{0, text.size()}};
  for (const Step& step : steps_) apply(step, text, place, parts);
  words.insert(words.end(), parts.begin(), parts.end());
}

std::optional<WordSplit> TextSplitter::known_split() const {
  if (!byte_level_) return std::nullopt;
  std::vector<std::string_view> patterns;
  for (const Step& step : steps_) {
    if (step.kind == Kind::gpt2) patterns.push_back(kGpt2);
    else if (step.kind == Kind::split && step.regex && step.behaviour == Behaviour::isolated) patterns.push_back(step.text);
    else return std::nullopt;
  }
  if (patterns.size() == 1 && patterns[0] == kLlama3) return WordSplit::llama3;
  if (patterns.size() == 1 && patterns[0] == kQwen2) return WordSplit::qwen2;
  if (patterns.size() == 1 && patterns[0] == kGpt2) return WordSplit::gpt2;
  if (std::equal(patterns.begin(), patterns.end(), std::begin(kDeepseekV3), std::end(kDeepseekV3))) return WordSplit::deepseek_v3;
  return std::nullopt;
}

Result<TextSplitter> TextSplitter::create(const Json& json, const std::string& where) {
  TextSplitter out;
  if (auto added = out.add(json, where, 0); !added) return added.error();
  return out;
}

Result<TextSplitter::Step> TextSplitter::metaspace(const Json& json, const std::string& where) const {
  Step step;
  step.kind = Kind::metaspace;
  step.text = kWordMark;
  if (json.contains("replacement")) {
    auto text = json_text(json, "replacement", where);
    if (!text) return text.error();
    if (text->empty()) return bad("the replacement of a Metaspace is empty", where);
    step.text = std::move(*text);
  }
  const auto cut = json_flag(json, "split", true, where);
  if (!cut) return cut.error();
  step.single = *cut;
  step.behaviour = Behaviour::with_next;
  const auto prefix = json_flag(json, "add_prefix_space", true, where);
  if (!prefix) return prefix.error();
  step.prepend = *prefix ? Step::Prepend::always : Step::Prepend::never;
  if (json.contains("prepend_scheme") && !json.at("prepend_scheme").is_null()) {
    const auto scheme = json_text(json, "prepend_scheme", where);
    if (!scheme) return scheme.error();
    if (*scheme == "always") step.prepend = Step::Prepend::always;
    else if (*scheme == "first") step.prepend = Step::Prepend::first;
    else if (*scheme == "never") step.prepend = Step::Prepend::never;
    else return bad("\"prepend_scheme\" is none of always, first, never", where);
  }
  return step;
}

Result<void> TextSplitter::add(const Json& json, const std::string& where, int depth) {
  if (json.is_null()) return {};
  const auto type = json_type(json, "pre-tokenizer", where);
  if (!type) return type.error();
  if (depth > kMaxSequenceDepth || steps_.size() >= kMaxSteps) return fail(Errc::limit, "too many pre-tokenizers, or nested too deep", "limit_exceeded", where);
  if (byte_level_) return fail(Errc::unsupported, "a pre-tokenizer behind ByteLevel is not supported", "unsupported_tokenizer", where);
  if (*type == "Sequence") {
    if (!json.contains("pretokenizers") || !json.at("pretokenizers").is_array()) return bad("a Sequence without \"pretokenizers\"", where);
    for (const Json& part : json.at("pretokenizers"))
      if (auto added = add(part, where, depth + 1); !added) return added;
    return {};
  }
  const auto behaviour = [&](Step& step) -> Result<void> {
    const auto name = json_text(json, "behavior", where);
    if (!name) return name.error();
    const std::pair<std::string_view, Behaviour> names[] = {{"Removed", Behaviour::removed}, {"Isolated", Behaviour::isolated}, {"MergedWithPrevious", Behaviour::with_previous}, {"MergedWithNext", Behaviour::with_next}, {"Contiguous", Behaviour::contiguous}};
    for (const auto& [known, value] : names)
      if (known == *name) {
        step.behaviour = value;
        return {};
      }
    return bad("unknown behavior '" + printable(*name) + "' of a pre-tokenizer", where);
  };
  Step step;
  if (*type == "Split") {
    if (!json.contains("pattern")) return bad("a Split without \"pattern\"", where);
    auto pattern = json_pattern(json.at("pattern"), where);
    if (!pattern) return pattern.error();
    step.regex = std::move(pattern->regex);
    step.text = std::move(pattern->text);
    if (auto read = behaviour(step); !read) return read;
    const auto invert = json_flag(json, "invert", false, where);
    if (!invert) return invert.error();
    step.invert = *invert;
  } else if (*type == "ByteLevel") {
    const auto prefix = json_flag(json, "add_prefix_space", true, where), regex = json_flag(json, "use_regex", true, where);
    if (!prefix || !regex) return prefix ? regex.error() : prefix.error();
    byte_level_ = true;
    if (*prefix) {
      step.kind = Kind::prefix_space;
      step.text = " ";
      step.prepend = Step::Prepend::always;
      steps_.push_back(step);
    }
    if (!*regex) return {};
    step = Step{};
    step.kind = Kind::gpt2;
  } else if (*type == "Digits") {
    const auto single = json_flag(json, "individual_digits", false, where);
    if (!single) return single.error();
    step.kind = Kind::digits;
    step.behaviour = *single ? Behaviour::isolated : Behaviour::contiguous;
  } else if (*type == "Metaspace") {
    auto made = metaspace(json, where);
    if (!made) return made.error();
    step = std::move(*made);
  } else if (*type == "Punctuation") {
    step.kind = Kind::punctuation;
    if (json.contains("behavior"))
      if (auto read = behaviour(step); !read) return read;
  } else if (*type == "CharDelimiterSplit") {
    auto text = json_text(json, "delimiter", where);
    if (!text) return text.error();
    step.kind = Kind::character;
    step.text = std::move(*text);
    step.behaviour = Behaviour::removed;
  } else if (*type == "BertPreTokenizer") {
    step.kind = Kind::bert;
  } else if (*type == "WhitespaceSplit") {
    step.kind = Kind::spaces;
    step.behaviour = Behaviour::removed;
  } else if (*type == "Whitespace") {
    step.kind = Kind::words;
    step.behaviour = Behaviour::removed;
    step.invert = true;
  } else {
    return fail(Errc::unsupported, "pre-tokenizer '" + printable(*type) + "' is not supported", "unsupported_tokenizer", where);
  }
  steps_.push_back(std::move(step));
  return {};
}

}  // namespace kontor::inference
