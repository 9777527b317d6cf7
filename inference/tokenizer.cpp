#include "inference/tokenizer.hpp"

#include "inference/tokenizer_state.hpp"
#include "inference/unicode.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace kontor::inference {

namespace {

constexpr std::array kTurnEnds = {
    std::string_view("<|eot_id|>"), std::string_view("<|im_end|>"), std::string_view("<|end|>"),
    std::string_view("<end_of_turn>"), std::string_view("<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"),
};
constexpr std::array kOtherEnds = {
    std::string_view("<|endoftext|>"), std::string_view("<|end_of_text|>"), std::string_view("<|eom_id|>"), std::string_view("<|EOT|>"),
};

Vocabulary::Which which_of(AddedTokens added) {
  switch (added) {
    case AddedTokens::text_only: return Vocabulary::Which::plain_user_defined;
    case AddedTokens::user_defined: return Vocabulary::Which::user_defined;
    case AddedTokens::all: break;
  }
  return Vocabulary::Which::all;
}

std::optional<TokenId> known(TokenId id) { return id >= 0 ? std::optional<TokenId>(id) : std::nullopt; }

bool is_space_at(std::string_view text, std::size_t at) { return (character_class(decode_utf8(text, at).value) & kSpace) != 0; }
bool is_word_at(std::string_view text, std::size_t at) {
  const std::uint32_t value = decode_utf8(text, at).value;
  return value == '_' || (character_class(value) & (kLetter | kNumber | kMark)) != 0;
}
std::size_t character_before(std::string_view text, std::size_t at) {
  std::size_t start = at - 1;
  while (start > 0 && at - start < 4 && (static_cast<unsigned char>(text[start]) & 0xc0) == 0x80) --start;
  return start;
}

/// The stretch of text that an added token takes, spaces around it included; {0, 0} where its rule forbids it.
std::pair<std::size_t, std::size_t> stretch_of(const AddedRule& rule, std::string_view text, std::size_t floor, std::size_t begin, std::size_t end) {
  if (rule.single_word && ((begin > 0 && is_word_at(text, character_before(text, begin))) || (end < text.size() && is_word_at(text, end)))) return {0, 0};
  while (rule.strip_left && begin > floor && is_space_at(text, character_before(text, begin))) begin = std::max(floor, character_before(text, begin));
  while (rule.strip_right && end < text.size() && is_space_at(text, end)) end += decode_utf8(text, end).bytes;
  return {begin, end};
}

/// Calls on_text(stretch) and on_token(id) in turn.
template <class OnText, class OnToken>
void split_added(const Vocabulary& vocabulary, std::string_view text, Vocabulary::Which which, const OnText& on_text, const OnToken& on_token) {
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (!vocabulary.may_start_added(static_cast<unsigned char>(text[at]))) {
      ++at;
      continue;
    }
    const Vocabulary::AddedMatch match = vocabulary.match_added(text, at, which);
    std::pair<std::size_t, std::size_t> taken{at, at + match.bytes};
    if (match.id >= 0)
      if (const AddedRule* rule = vocabulary.rule(match.id)) taken = stretch_of(*rule, text, start, taken.first, taken.second);
    if (match.id < 0 || taken.second == 0) {
      ++at;
      continue;
    }
    if (taken.first > start) on_text(text.substr(start, taken.first - start));
    on_token(match.id);
    start = at = taken.second;
  }
  if (start < text.size()) on_text(text.substr(start));
}

}  // namespace

void Tokenizer::State::encode(std::string_view text, Vocabulary::Which which, std::vector<TokenId>& out) const {
  Place place = Place::start;
  split_added(
      vocabulary, text, which,
      [&](std::string_view stretch) {
        encoder->encode(stretch, place, out);
        place = Place::middle;
      },
      [&](TokenId id) {
        out.push_back(id);
        place = Place::behind_added;
      });
}

void Tokenizer::State::flush(std::string& plain, Place& place, std::vector<TokenId>& out) const {
  if (plain.empty()) return;
  encoder->encode(plain, place, out);
  plain.clear();
  place = Place::middle;
}

void Tokenizer::State::finish() {
  for (const std::string_view text : kTurnEnds)
    if (const TokenId id = vocabulary.find_added(text); id >= 0) {
      ends.push_back(id);
      if (eot < 0) eot = id;
    }
  for (const std::string_view text : kOtherEnds)
    if (const TokenId id = vocabulary.find_added(text); id >= 0) ends.push_back(id);
  if (eos >= 0) ends.push_back(eos);
  if (eot >= 0) ends.push_back(eot);
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

Tokenizer::Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool parse_special) const {
  return encode(text, parse_special ? AddedTokens::all : AddedTokens::text_only);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, AddedTokens added) const {
  std::vector<TokenId> out;
  state_->encode(text, which_of(added), out);
  return out;
}

std::vector<TokenId> Tokenizer::encode_with_ends(std::string_view text, bool parse_special) const {
  std::vector<TokenId> out = state_->prefix;
  state_->encode(text, which_of(parse_special ? AddedTokens::all : AddedTokens::text_only), out);
  out.insert(out.end(), state_->suffix.begin(), state_->suffix.end());
  return out;
}

Result<std::vector<TokenId>> Tokenizer::encode_segments(std::span<const Segment> segments, std::span<const Segment> more) const {
  const std::size_t count = segments.size() + more.size();
  const auto at = [&](std::size_t i) -> const Segment& { return i < segments.size() ? segments[i] : more[i - segments.size()]; };
  const auto template_text = [&](std::size_t i) { return i < count && at(i).is_template && at(i).tokens.empty(); };
  std::vector<TokenId> out;
  std::string plain;
  std::string joined;
  Place place = Place::start;
  for (std::size_t i = 0; i < count; ++i) {
    const Segment& segment = at(i);
    if (!segment.tokens.empty()) {
      state_->flush(plain, place, out);
      for (const TokenId id : segment.tokens) {
        if (!state_->vocabulary.contains(id)) return fail(Errc::usage, "token " + std::to_string(id) + " is outside the vocabulary", "bad_token");
        out.push_back(id);
      }
      place = state_->vocabulary.is_added(out.back()) ? Place::behind_added : Place::middle;
      continue;
    }
    std::string_view text = segment.text;
    if (segment.is_template && template_text(i + 1)) {
      // A marker may be cut over neighbouring stretches of template.
      joined = segment.text;
      while (template_text(i + 1)) joined += at(++i).text;
      text = joined;
    }
    split_added(
        state_->vocabulary, text, which_of(segment.is_template ? AddedTokens::all : AddedTokens::text_only),
        [&](std::string_view stretch) { plain += stretch; },
        [&](TokenId id) {
          state_->flush(plain, place, out);
          out.push_back(id);
          place = Place::behind_added;
        });
  }
  state_->flush(plain, place, out);
  return out;
}

std::string_view Tokenizer::piece(TokenId id) const { return state_->vocabulary.piece(id); }

std::string Tokenizer::decode(std::span<const TokenId> ids, bool with_control) const {
  std::string out;
  for (const TokenId id : ids) {
    if (!state_->vocabulary.contains(id)) continue;
    if (!with_control && state_->vocabulary.type(id) == TokenType::control) continue;
    out += state_->vocabulary.piece(id);
  }
  return out;
}

bool Tokenizer::is_control(TokenId id) const { return state_->vocabulary.is_control(id); }
bool Tokenizer::is_added(TokenId id) const { return state_->vocabulary.is_added(id); }

std::optional<TokenId> Tokenizer::find(std::string_view text) const {
  const Vocabulary& vocabulary = state_->vocabulary;
  if (const TokenId added = vocabulary.find_added(text); added >= 0) return added;
  if (!vocabulary.shows_spaces()) return known(vocabulary.find_text(text));
  std::string marked;
  for (const char c : text) {
    if (c == ' ') marked += "\xe2\x96\x81";
    else marked.push_back(c);
  }
  const TokenId id = vocabulary.find_text(marked);
  return known(id < 0 && text.size() == 1 ? vocabulary.byte_token(static_cast<unsigned char>(text[0])) : id);
}

std::optional<TokenId> Tokenizer::bos() const { return known(state_->bos); }
std::optional<TokenId> Tokenizer::eos() const { return known(state_->eos); }
std::optional<TokenId> Tokenizer::eot() const { return known(state_->eot); }
std::optional<TokenId> Tokenizer::unknown() const { return known(state_->unknown); }
std::span<const TokenId> Tokenizer::end_tokens() const { return state_->ends; }
bool Tokenizer::is_end(TokenId id) const { return std::binary_search(state_->ends.begin(), state_->ends.end(), id); }
bool Tokenizer::add_bos() const { return state_->bos >= 0 && !state_->prefix.empty() && state_->prefix.front() == state_->bos; }
bool Tokenizer::add_eos() const { return !state_->suffix.empty(); }
std::size_t Tokenizer::size() const { return state_->vocabulary.size(); }
std::string_view Tokenizer::model() const { return state_->model; }
std::string_view Tokenizer::pre() const { return state_->pre; }

}  // namespace kontor::inference
