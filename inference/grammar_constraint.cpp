#include "inference/grammar_constraint.hpp"

#include <algorithm>

namespace kontor::inference {
namespace {

constexpr std::size_t kStatesMax = 20'000;        ///< Of one automaton before it forgets.
constexpr std::size_t kForcedBytesMax = 4096;
constexpr std::int64_t kLoopCheckTokens = 32;
constexpr std::size_t kThoughtBytesMax = 8192;
/// Of an output's limit, reasoning leaves so much for what comes behind it, beside the least that has to come.
constexpr std::int64_t kAnswerShare = 4, kAnswerTokensMax = 512;

}  // namespace

bool repeats_itself(std::string_view text) {
  constexpr std::size_t kPeriodMax = 64, kBytesMin = 384, kTimesMin = 16;
  for (std::size_t period = 1; period <= kPeriodMax; ++period) {
    const std::size_t length = std::max(kBytesMin, kTimesMin * period);
    if (text.size() < length + period) return false;
    std::size_t same = 0;
    while (same < length && text[text.size() - 1 - same] == text[text.size() - 1 - same - period]) ++same;
    if (same == length) return true;
  }
  return false;
}

std::shared_ptr<const TokenMask> MaskCache::find(const Automaton::Key& key) {
  const std::lock_guard lock(mutex_);
  const auto found = masks_.find(key);
  return found == masks_.end() ? nullptr : found->second;
}

void MaskCache::insert(const Automaton::Key& key, std::shared_ptr<const TokenMask> mask) {
  const std::lock_guard lock(mutex_);
  if (masks_.size() >= kMasksMax) masks_.clear();
  masks_.emplace(key, std::move(mask));
}

GrammarConstraint::GrammarConstraint(std::shared_ptr<const GrammarProgram> program, ConstraintOptions options)
    : program_(std::move(program)), options_(std::move(options)),
      automaton_(std::make_unique<Automaton>(program_->grammar, options_.verbatim, program_->endings)), state_(automaton_->start()) {
  shortest_ = automaton_->left(state_);
  if (program_->grammar->think_close() != kNoNode) think_close_left_ = automaton_->left(automaton_->at(program_->grammar->think_close()));
}

Result<void> GrammarConstraint::limit(std::int64_t tokens) {
  if (shortest_ >= kTokensNever) return fail(Errc::limit, "no output can be completed: there is nothing to copy from, or it is too long", "output_limit");
  if (tokens < shortest_)
    return fail(Errc::limit, "the shortest output that the schemas allow takes " + std::to_string(shortest_) + " tokens, and at most " + std::to_string(tokens) + " may be written", "output_limit");
  most_tokens_ = tokens;
  limited_ = program_->endings != nullptr;
  return {};
}

GrammarConstraint::GrammarConstraint(const GrammarConstraint& other, int)
    : program_(other.program_), options_(other.options_), mask_(other.mask_), tokens_(other.tokens_), think_tokens_(other.think_tokens_), most_tokens_(other.most_tokens_),
      shortest_(other.shortest_), think_close_left_(other.think_close_left_), limited_(other.limited_), wound_down_(other.wound_down_),
      thought_(other.thought_), think_forced_(other.think_forced_), think_looped_(other.think_looped_), finished_(other.finished_) {
  automaton_ = other.automaton_->fork(other.state_, state_);
}

std::unique_ptr<TokenConstraint> GrammarConstraint::fork() const { return std::unique_ptr<TokenConstraint>(new GrammarConstraint(*this, 0)); }

std::span<const std::uint32_t> GrammarConstraint::mask() {
  if (mask_) return mask_->tokens;
  if (finished_) {
    mask_ = std::make_shared<const TokenMask>(TokenMask{TokenSet(program_->trie->words(), 0), 0});
    return mask_->tokens;
  }
  // What may be copied differs from conversation to conversation: no sharing then.
  const bool shared = !program_->grammar->uses_verbatim();
  const Automaton::Key key = shared ? automaton_->key(state_, 256) : Automaton::Key{};
  if (shared) mask_ = program_->masks->find(key);
  if (!mask_) {
    mask_ = compute(kTokensNever);
    if (shared) program_->masks->insert(key, mask_);
  }
  if (limited_ && automaton_->left(state_) + mask_->rise > remaining() - 1) {
    mask_ = compute(static_cast<TokenCount>(std::max<std::int64_t>(remaining() - 1, 0)));
    wound_down_ |= !automaton_->thinking(state_);
  }
  return mask_->tokens;
}

/// Sets of tokens that the places allow as a whole; `rest` becomes the trie that is left to be looked at.
void GrammarConstraint::add_slices(TokenMask& out, std::span<const TrieNode>& rest, TokenCount most, TokenCount& worst) {
  const TokenTrie& trie = *program_->trie;
  const auto places = automaton_->places(state_);
  const auto add = [&](const TokenSet& set, std::span<const TrieNode> beside) {
    for (std::size_t i = 0; i < out.tokens.size(); ++i) out.tokens[i] |= set[i];
    rest = beside;
  };
  // Inside a string or a text no more is left behind a token than before it; a name can become one that is used.
  const auto inside = [&](const Place& place) {
    const bool name = automaton_->grammar().at(place.node).kind == NodeKind::fresh_key;
    return add_tokens(automaton_->left(place), name ? Endings::kFreshCharacters : 0);
  };
  const auto fits = [&](TokenCount left) {
    if (left <= most) worst = std::max(worst, left);
    return left <= most;
  };
  for (const Place& place : places) {
    if (const auto room = automaton_->string_room(place)) {
      // With little room only where no other place could read what is left out.
      if (*room < kSliceCharacters && places.size() > 1) continue;
      if (!fits(inside(place))) return;
      return add(trie.inside_string(*room), trie.beside_string());
    }
    if (automaton_->plain_text(place)) {
      if (fits(inside(place))) add(trie.inside_text(), trie.beside_text());
      return;
    }
  }
  TokenCount highest = 0;
  if (const auto run = alphanumeric_run(highest); run && fits(highest)) add(trie.alphanumeric(*run), trie.beside_alphanumeric());
}

/// How many ASCII letters and digits may follow, whichever they are; nullopt where it depends on which, or where none
/// may. kSliceCharacters: at least so many.
std::optional<std::size_t> GrammarConstraint::alphanumeric_run(TokenCount& worst) {
  constexpr std::string_view kBytes = "aA0bcdefghijklmnopqrstuvwxyzBCDEFGHIJKLMNOPQRSTUVWXYZ123456789";
  constexpr std::size_t kTogether = 4;
  std::vector<StateId> states{state_}, next;
  TokenCount highest = 0;
  for (std::size_t length = 0; length < kSliceCharacters; ++length) {
    next.clear();
    std::size_t alive = 0;
    for (const StateId state : states)
      for (const char byte : kBytes) {
        const StateId to = automaton_->step(state, static_cast<std::uint8_t>(byte));
        if (to == kDeadState) {
          if (alive > 0) return std::nullopt;
          continue;
        }
        ++alive;
        highest = std::max(highest, automaton_->left(to));
        if (std::find(next.begin(), next.end(), to) == next.end()) next.push_back(to);
        if (next.size() > kTogether) return std::nullopt;
      }
    if (alive == 0 && length == 0) return std::nullopt;
    if (alive == 0) return worst = std::max(worst, highest), length;
    if (alive != states.size() * kBytes.size()) return std::nullopt;
    states.swap(next);
  }
  worst = std::max(worst, highest);
  return kSliceCharacters;
}

void GrammarConstraint::walk(std::span<const TrieNode> trie, TokenSet& out, TokenCount most, TokenCount& worst) {
  std::vector<StateId> path(program_->trie->longest() + 1);
  std::vector<const StateId*> rows(path.size());
  path[0] = automaton_->ahead(state_);
  for (std::size_t i = 1; i < trie.size();) {
    const TrieNode& node = trie[i];
    const std::size_t above = node.depth - 1u;
    if (!rows[above]) rows[above] = automaton_->row(path[above]);
    StateId next = rows[above][node.byte];
    if (next == kUnknownState) next = automaton_->step(path[above], node.byte);
    if (next == kDeadState) {
      i += node.skip;
      continue;
    }
    path[above + 1] = next;
    rows[above + 1] = nullptr;  // Most nodes are leaves and need none.
    ++i;
    if (node.token < 0) continue;
    const TokenCount left = automaton_->left(next);
    if (left > most) continue;
    worst = std::max(worst, left);
    for (TokenId id = node.token; id >= 0; id = program_->trie->twin(id)) add_token(out, id);
  }
}

std::shared_ptr<const TokenMask> GrammarConstraint::compute(TokenCount most) {
  auto out = std::make_shared<TokenMask>(TokenMask{TokenSet(program_->trie->words(), 0), 0});
  std::span<const TrieNode> rest = program_->trie->all();
  TokenCount worst = 0;
  add_slices(*out, rest, most, worst);
  walk(rest, out->tokens, most, worst);
  std::vector<TokenId> tokens;
  automaton_->tokens(state_, tokens);
  for (const TokenId id : tokens) {
    const TokenCount left = program_->endings ? automaton_->left(automaton_->step_token(state_, id)) : 0;
    if (left > most) continue;
    worst = std::max(worst, left);
    add_token(out->tokens, id);
  }
  if (automaton_->may_end(state_)) {
    if (program_->end >= 0) add_token(out->tokens, program_->end);
    else
      for (const TokenId id : program_->tokenizer.end_tokens()) add_token(out->tokens, id);
  }
  out->rise = std::int64_t{worst} - automaton_->left(state_);
  return out;
}

std::span<const TokenId> GrammarConstraint::forced() {
  forced_.clear();
  if (finished_) return forced_;
  append_forced();
  // Cut as the tokenizer would cut it the text can take more tokens than are left: the mask knows a shorter way.
  if (limited_ && forced_too_much()) forced_.clear();
  return forced_;
}

bool GrammarConstraint::forced_too_much() {
  const auto room = remaining() - static_cast<std::int64_t>(forced_.size());
  if (room < 0) return true;
  StateId state = state_;
  for (const TokenId id : forced_) {
    if (program_->tokenizer.is_end(id)) return false;
    const std::string_view bytes = program_->tokenizer.piece(id);
    state = bytes.empty() || program_->tokenizer.is_control(id) ? automaton_->step_token(state, id) : automaton_->step_all(state, bytes);
  }
  return automaton_->left(state) > room;
}

void GrammarConstraint::append_forced() {
  StateId state = state_;
  std::string text;
  for (std::size_t total = 0; total < kForcedBytesMax; ++total) {
    const OnlySymbol only = automaton_->only(state);
    if (only.kind == OnlySymbol::Kind::byte) {
      text += static_cast<char>(only.byte);
      state = automaton_->step(state, only.byte);
      continue;
    }
    if (only.kind == OnlySymbol::Kind::none) {
      append_forced_text(text, state);
      return;
    }
    if (!append_forced_text(text, kDeadState)) return;
    text.clear();
    if (only.kind == OnlySymbol::Kind::end) {
      if (program_->end >= 0) forced_.push_back(program_->end);
      return;
    }
    forced_.push_back(only.token);
    state = automaton_->step_token(state, only.token);
  }
  append_forced_text(text, state);  // What is cut here is forced again behind it.
}

/// Whether a token that begins with `tail` and goes on may come from the state behind `tail`.
bool GrammarConstraint::longer_token_fits(std::string_view tail, StateId behind) {
  const auto trie = program_->trie->all();
  std::size_t at = 0;
  for (const char c : tail) {
    const std::size_t end = at + trie[at].skip;
    std::size_t child = at + 1;
    while (child < end && trie[child].byte != static_cast<std::uint8_t>(c)) child += trie[child].skip;
    if (child >= end) return false;
    at = child;
  }
  const std::size_t end = at + trie[at].skip, base = trie[at].depth;
  std::vector<StateId> path{behind};
  for (std::size_t i = at + 1; i < end;) {
    path.resize(trie[i].depth - base);
    const StateId next = automaton_->step(path.back(), trie[i].byte);
    if (next == kDeadState) {
      i += trie[i].skip;
      continue;
    }
    if (trie[i].token >= 0) return true;
    path.push_back(next);
    ++i;
  }
  return false;
}

/// How many bytes of the text no token reaches over that begins in it and ends behind it.
std::size_t GrammarConstraint::settled_bytes(const std::string& text, StateId behind) {
  constexpr std::size_t kReach = 64;
  for (std::size_t at = text.size() > kReach ? text.size() - kReach : 0; at < text.size(); ++at)
    if (longer_token_fits(std::string_view(text).substr(at), behind)) return at;
  return text.size();
}

bool GrammarConstraint::append_forced_text(const std::string& text, StateId behind) {
  if (text.empty()) return true;
  const Tokenizer& tokenizer = program_->tokenizer;
  std::vector<TokenId> ids = tokenizer.encode(text, false);
  if (behind != kDeadState) {
    std::size_t settled = settled_bytes(text, behind);
    // Cut at a token, and only where the text up to there is cut in the same way when it stands alone.
    for (;;) {
      std::size_t bytes = 0, count = 0;
      while (count < ids.size() && bytes + tokenizer.piece(ids[count]).size() <= settled) bytes += tokenizer.piece(ids[count++]).size();
      if (count == ids.size() && bytes == text.size()) break;
      const std::vector<TokenId> alone = tokenizer.encode(std::string_view(text).substr(0, bytes), false);
      if (std::equal(alone.begin(), alone.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count))) {
        ids.resize(count);
        break;
      }
      settled = bytes - 1;
    }
  }
  std::string spelled;
  for (const TokenId id : ids) spelled += tokenizer.piece(id);
  // Some tokenizers put a blank in front of a text that begins anew: such text is left to the mask.
  if (!text.starts_with(spelled)) return false;
  forced_.insert(forced_.end(), ids.begin(), ids.end());
  return spelled.size() == text.size();
}

void GrammarConstraint::close_thinking() {
  if (program_->grammar->think_close() == kNoNode || (limited_ && think_close_left_ > remaining())) return;
  think_forced_ = true;
  state_ = automaton_->at(program_->grammar->think_close());
}

Result<void> GrammarConstraint::accept(TokenId token) {
  const auto refuse = [&] {
    return fail(Errc::usage, "token " + std::to_string(token) + " must not come here", "constraint_violated");
  };
  if (finished_) return refuse();
  if (automaton_->size() > kStatesMax) state_ = automaton_->compact(state_);
  if (program_->tokenizer.is_end(token)) {
    if (!automaton_->may_end(state_) || (program_->end >= 0 && token != program_->end)) return refuse();
    finished_ = true;
    ++tokens_;
    mask_.reset();
    return {};
  }
  const std::string_view bytes = program_->tokenizer.piece(token);
  const bool thought = automaton_->thinking(state_);
  const StateId next = bytes.empty() || program_->tokenizer.is_control(token) ? automaton_->step_token(state_, token) : automaton_->step_all(state_, bytes);
  if (next == kDeadState) return refuse();
  state_ = next;
  ++tokens_;
  mask_.reset();
  if (!thought || !automaton_->thinking(state_)) return {};
  ++think_tokens_;
  thought_ += bytes;
  if (thought_.size() > kThoughtBytesMax) thought_.erase(0, kThoughtBytesMax / 2);
  if (!automaton_->between_characters(state_)) return {};
  const bool over = options_.think_tokens > 0 && think_tokens_ >= options_.think_tokens;
  think_looped_ = options_.stop_think_loops && think_tokens_ % kLoopCheckTokens == 0 && repeats_itself(thought_);
  const std::int64_t reserve = think_close_left_ + std::min(most_tokens_ / kAnswerShare, kAnswerTokensMax);
  const bool short_of_room = limited_ && think_close_left_ <= remaining() && remaining() <= reserve;
  if (over || think_looped_ || short_of_room) close_thinking();
  return {};
}

}  // namespace kontor::inference
