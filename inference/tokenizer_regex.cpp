#include "inference/tokenizer_regex.hpp"

#include "inference/unicode.hpp"

#include <algorithm>

namespace kontor::inference {
namespace {

struct Reader {
  std::string_view text;
  bool end(std::size_t at) const { return at >= text.size(); }
  CodePoint at(std::size_t position) const {
    const auto byte = static_cast<unsigned char>(text[position]);
    return byte < 0x80 ? CodePoint{byte, 1} : decode_utf8(text, position);
  }
  /// The character that ends at `position`, which must be above 0.
  CodePoint before(std::size_t position) const {
    std::size_t start = position - 1;
    while (start > 0 && position - start < 4 && (static_cast<unsigned char>(text[start]) & 0xc0) == 0x80) --start;
    const CodePoint point = decode_utf8(text, start);
    return start + point.bytes == position ? point : CodePoint{kBadByte, 1};
  }
};

bool is_word(std::uint32_t value) {
  const auto holds = [value](const auto& range) { return value >= range.first && value <= range.second; };
  return is_word_character(value) || std::any_of(std::begin(kLatinNumbers), std::end(kLatinNumbers), holds);
}

}  // namespace

void CharacterSet::finish() {
  std::sort(ranges.begin(), ranges.end());
  std::vector<std::pair<std::uint32_t, std::uint32_t>> merged;
  for (const auto& range : ranges) {
    if (!merged.empty() && range.first <= merged.back().second + 1) merged.back().second = std::max(merged.back().second, range.second);
    else merged.push_back(range);
  }
  ranges = std::move(merged);
  for (CharacterSet& part : unions) part.finish();
  for (CharacterSet& part : intersections) part.finish();
  ascii = {};
  for (std::uint32_t c = 0; c < 128; ++c)
    if (test(c)) ascii[c >> 6] |= std::uint64_t{1} << (c & 63);
}

bool CharacterSet::test_exactly(std::uint32_t value) const {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), value, [](std::uint32_t v, const auto& range) { return v < range.first; });
  bool found = after != ranges.begin() && value <= std::prev(after)->second;
  if (!found && categories != 0 && value != kBadByte) found = (categories & category_bit(general_category(value))) != 0;
  for (const CharacterSet& part : unions) found = found || part.has(value);
  for (const CharacterSet& part : intersections) found = found && part.has(value);
  return found;
}

bool CharacterSet::test(std::uint32_t value) const {
  bool found = test_exactly(value);
  if (!found && any_case && value != kBadByte) {
    const std::uint32_t lower = lower_case(value), upper = upper_case(value);
    found = test_exactly(lower) || test_exactly(upper) || test_exactly(lower_case(upper));
  }
  return found != negated;
}

RegexMatcher::RegexMatcher(const Regex& regex) : regex_(&regex), stride_(std::max<std::size_t>(1, (regex.branches() + 63) / 64)), runs_(regex.steps().size()) {}

void RegexMatcher::start(std::string_view text) {
  text_ = text;
  tried_.assign((text.size() + 1) * stride_, 0);
  if (regex_->looks()) worked_.assign(tried_.size(), 0);
  runs_.assign(runs_.size(), RunEnd{});
}

bool RegexMatcher::enter(std::uint32_t branch, std::size_t position, bool& known) {
  const std::size_t word = position * stride_ + branch / 64;
  const std::uint64_t bit = std::uint64_t{1} << (branch % 64);
  if ((tried_[word] & bit) == 0) {
    tried_[word] |= bit;
    return true;
  }
  known = !worked_.empty() && (worked_[word] & bit) != 0;
  return false;
}

void RegexMatcher::clear(std::size_t position) {
  std::fill_n(tried_.begin() + static_cast<std::ptrdiff_t>(position * stride_), stride_, 0);
}

std::size_t RegexMatcher::run_end(std::size_t step, std::size_t position) {
  RunEnd& known = runs_[step];
  if (position >= known.start && position < known.end) return known.end;
  const CharacterSet& set = regex_->sets()[regex_->steps()[step].set];
  const Reader reader{text_};
  std::size_t end = position;
  while (!reader.end(end)) {
    const CodePoint point = reader.at(end);
    if (!set.has(point.value)) break;
    end += point.bytes;
  }
  known = {position, end};
  return end;
}

bool RegexMatcher::holds(const Regex::Step& step, std::size_t position) const {
  const Reader reader{text_};
  const bool at_end = reader.end(position);
  const auto edge = [&] { return (position > 0 && is_word(reader.before(position).value)) != (!at_end && is_word(reader.at(position).value)); };
  switch (step.op) {
    case Regex::Op::line_start: return position == 0 || text_[position - 1] == '\n';
    case Regex::Op::line_end: return at_end || text_[position] == '\n';
    case Regex::Op::text_start: return position == 0;
    case Regex::Op::text_end: return at_end;
    case Regex::Op::text_end_line: return at_end || (position + 1 == text_.size() && text_[position] == '\n');
    case Regex::Op::word_edge: return edge();
    case Regex::Op::no_word_edge: return !edge();
    default: break;
  }
  // look_set
  const bool exists = step.flag ? position > 0 : !at_end;
  const bool found = exists && regex_->sets()[step.set].has(step.flag ? reader.before(position).value : reader.at(position).value);
  return found != step.negative;
}

bool RegexMatcher::look(std::size_t step, std::size_t position) {
  std::size_t end = 0;
  return run(step + 1, position, true, end) != regex_->steps()[step].flag;
}

bool RegexMatcher::run(std::size_t step, std::size_t position, bool looking, std::size_t& end) {
  const std::size_t floor = pending_.size(), trail_floor = trail_.size();
  const Reader reader{text_};
  const auto succeed = [&] {
    for (std::size_t i = trail_floor; looking && i < trail_.size(); ++i)
      worked_[trail_[i].second * stride_ + trail_[i].first / 64] |= std::uint64_t{1} << (trail_[i].first % 64);
    pending_.resize(floor);
    trail_.resize(trail_floor);
    end = position;
    return true;
  };
  for (;;) {
    const Regex::Step& now = regex_->steps()[step];
    bool good = true;
    switch (now.op) {
      case Regex::Op::set: {
        const CodePoint point = reader.end(position) ? CodePoint{} : reader.at(position);
        good = !reader.end(position) && regex_->sets()[now.set].has(point.value);
        position += point.bytes;
        ++step;
        break;
      }
      case Regex::Op::branch: {
        bool known = false;
        good = enter(now.set, position, known);
        if (!good && known && looking) return succeed();
        if (!good) break;
        if (looking) trail_.emplace_back(now.set, position);
        pending_.push_back({static_cast<std::size_t>(static_cast<std::ptrdiff_t>(step) + now.second), position, trail_.size()});
        step = static_cast<std::size_t>(static_cast<std::ptrdiff_t>(step) + now.first);
        break;
      }
      case Regex::Op::jump: step = static_cast<std::size_t>(static_cast<std::ptrdiff_t>(step) + now.first); break;
      case Regex::Op::run: {
        std::size_t count = 0;
        if (now.second < 0 && now.first <= 1) {
          const std::size_t stop = run_end(step, position);
          good = now.first == 0 || stop > position;
          position = stop;
        } else {
          for (; !reader.end(position) && count != static_cast<std::size_t>(now.second); ++count) {
            const CodePoint point = reader.at(position);
            if (!regex_->sets()[now.set].has(point.value)) break;
            position += point.bytes;
          }
          good = count >= static_cast<std::size_t>(now.first);
        }
        ++step;
        break;
      }
      case Regex::Op::look:
        good = look(step, position);
        step += static_cast<std::size_t>(now.first) + 1;
        break;
      case Regex::Op::match: return succeed();
      default:
        good = holds(now, position);
        ++step;
        break;
    }
    if (good) continue;
    if (pending_.size() == floor) {
      trail_.resize(trail_floor);
      return false;
    }
    step = pending_.back().step;
    position = pending_.back().position;
    trail_.resize(pending_.back().trail);
    pending_.pop_back();
  }
}

std::optional<RegexMatcher::Match> RegexMatcher::find(std::size_t at) {
  const Reader reader{text_};
  for (;;) {
    std::size_t end = 0;
    if (run(0, at, false, end)) {
      // What failed stays failed, but branches of this match may have been tried at its end.
      clear(end);
      return Match{at, end};
    }
    if (reader.end(at)) return std::nullopt;
    at += reader.at(at).bytes;
  }
}

}  // namespace kontor::inference
