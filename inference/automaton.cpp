#include "inference/automaton.hpp"

#include "inference/automaton_registers.hpp"
#include "inference/string_steps.hpp"
#include "inference/utf8_steps.hpp"

#include <algorithm>

namespace kontor::inference {
namespace {

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15u + (a << 6) + (a >> 2))) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 29)) * 0x94d049bb133111ebu;
  return x ^ (x >> 32);
}

}  // namespace

Automaton::Automaton(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const VerbatimText> verbatim, std::shared_ptr<const Endings> endings)
    : grammar_(std::move(grammar)), verbatim_(std::move(verbatim)), endings_(std::move(endings)) {
  if (verbatim_) copy_ = verbatim_->shortest();
  frames_.push_back({kNoNode, 0, 0, 0, 1, 2, 1});  // 1: the end of the turn is a token.
  used_.push_back({0, 0, 3});
  used_.push_back({0, 0, 13});  // kUnknownUsed
  names_.push_back({0, 0, 5});
  states_.emplace_back();
}

std::uint32_t Automaton::push(NodeId back, std::uint32_t parent, std::uint64_t data) {
  const std::uint64_t hash = mix(mix(back, parent), data);
  const auto [from, to] = frame_ids_.equal_range(hash);
  for (auto it = from; it != to; ++it) {
    const Frame& frame = frames_[it->second];
    if (frame.back == back && frame.parent == parent && frame.data == data) return it->second;
  }
  const Frame& below = frames_[parent];
  const std::uint64_t value = frame_data_hash(back, data);
  const Frame frame{back, parent, data, below.depth + 1, mix(mix(below.hash_high, back), value), mix(mix(value, below.hash_low), back), left_behind(back, parent, data)};
  frames_.push_back(frame);
  const auto id = static_cast<std::uint32_t>(frames_.size() - 1);
  frame_ids_.emplace(hash, id);
  return id;
}

std::uint32_t Automaton::extend_name(std::uint32_t name, std::uint8_t byte) {
  const std::uint64_t key = std::uint64_t{name} << 8 | byte;
  const auto [it, fresh] = name_ids_.try_emplace(key, static_cast<std::uint32_t>(names_.size()));
  if (fresh) names_.push_back({name, byte, mix(names_[name].hash, byte)});
  return it->second;
}

/// Does not learn new names: what is not known begins no used one.
std::uint32_t Automaton::extend_ahead(std::uint32_t name, std::uint8_t byte) const {
  if (name == kFreshName) return name;
  const auto found = name_ids_.find(std::uint64_t{name & ~kAhead} << 8 | byte);
  return found == name_ids_.end() ? kFreshName : found->second | kAhead;
}

void Automaton::know_declared(const FreshKey& parameters) {
  if (std::find(declared_.begin(), declared_.end(), &parameters) != declared_.end()) return;
  declared_.push_back(&parameters);
  for (const std::string& text : parameters.declared) {
    std::uint32_t name = 0;
    for (const char c : text) name = extend_name(name, static_cast<std::uint8_t>(c));
  }
}

StateId Automaton::ahead(StateId state) {
  const bool keys = std::any_of(states_[state].places.begin(), states_[state].places.end(),
                                [&](const Place& place) { return grammar_->at(place.node).kind == NodeKind::fresh_key; });
  if (!keys) return state;
  for (const Place place : states_[state].places) {
    const Node& node = grammar_->at(place.node);
    const bool key = node.kind == NodeKind::fresh_key;
    if (key) know_declared(grammar_->key_parameters(node));
    work_.push_back({place.node, place.stack, key ? place.data | std::uint64_t{kAhead} << kNameShift : place.data});
  }
  // Nothing is reached from there without reading that is not in the state already.
  return intern();
}

bool Automaton::is_used(std::uint32_t used, std::uint32_t name, const FreshKey& parameters) const {
  for (; used != 0; used = used_[used].before)
    if (used_[used].name == name) return true;
  if (parameters.declared.empty()) return false;
  std::string text;
  for (std::uint32_t at = name; at != 0; at = names_[at].before) text += static_cast<char>(names_[at].byte);
  std::reverse(text.begin(), text.end());
  return std::find(parameters.declared.begin(), parameters.declared.end(), text) != parameters.declared.end();
}

/// Behind an edge, a jump or a string: the register starts anew in the free kinds.
void Automaton::enter(NodeId id, std::uint32_t stack, std::uint64_t data) {
  const NodeKind kind = grammar_->at(id).kind;
  if (kind == NodeKind::fresh_key) data = pack_halves(high_half(data), 0);
  else if (kind == NodeKind::verbatim) data = pack_halves(verbatim_ ? verbatim_->start() : VerbatimText::kDead, 0);
  else if (kind != NodeKind::plain) data = 0;
  arrive(id, stack, data);
}

void Automaton::arrive(NodeId id, std::uint32_t stack, std::uint64_t data) {
  const Node& node = grammar_->at(id);
  if (frames_[stack].depth + node.height > kCallDepthMax) return;
  if (node.count_to != 0 && low_half(data) < node.count_to) ++data;
  const Place place{id, stack, data};
  // Few places are the rule; hostile grammars meet the bound.
  if (std::find(work_.begin(), work_.end(), place) != work_.end()) return;
  if (work_.size() >= kPlacesMax) {
    overflow_ = true;
    return;
  }
  work_.push_back(place);
}

/// The state of work_ and all that follows from it without reading. Empties work_.
StateId Automaton::intern() {
  std::vector<Place> kept;
  bool thinking = false;
  ends_ = false;
  for (std::size_t i = 0; i < work_.size() && !overflow_; ++i) {
    const Place place = work_[i];
    const Node& node = grammar_->at(place.node);
    thinking |= node.thinking;
    const bool whole = node.kind != NodeKind::text || text_may_leave(place.data, grammar_->text_parameters(node));
    if (node.kind != NodeKind::plain || !node.bytes.empty() || !node.tokens.empty()) kept.push_back(place);
    if (!whole) continue;
    const std::uint64_t data = node.kind == NodeKind::text ? 0 : place.data;
    for (const Jump& jump : node.jumps)
      if (low_half(data) >= jump.least && low_half(data) <= jump.most) enter(jump.to, place.stack, data);
    for (const Call& call : node.calls) {
      if (frames_[place.stack].depth + std::max(grammar_->at(call.start).height + 1, grammar_->at(call.back).height) > kCallDepthMax) continue;
      enter(call.start, push(call.back, place.stack, data), 0);
    }
    if (!node.returns) continue;
    if (place.stack == 0) {
      ends_ = true;
    } else {
      const Frame frame = frames_[place.stack];
      arrive(frame.back, frame.parent, frame.data);
    }
  }
  work_.clear();
  if (overflow_ || (kept.empty() && !ends_)) {
    overflow_ = false;
    return kDeadState;
  }
  std::sort(kept.begin(), kept.end(), [](const Place& a, const Place& b) {
    return a.node != b.node ? a.node < b.node : a.stack != b.stack ? a.stack < b.stack : a.data < b.data;
  });
  std::uint64_t hash = ends_ ? 7 : 11;
  for (const Place& place : kept) hash = mix(mix(mix(hash, place.node), place.stack), place.data);
  const auto [from, to] = state_ids_.equal_range(hash);
  for (auto it = from; it != to; ++it) {
    const State& known = states_[it->second];
    if (known.may_end == ends_ && known.places == kept) return it->second;
  }
  State state;
  state.places = std::move(kept);
  state.may_end = ends_;
  state.thinking = thinking;
  if (endings_) state.left = left_of(state);
  states_.push_back(std::move(state));
  const auto id = static_cast<StateId>(states_.size() - 1);
  state_ids_.emplace(hash, id);
  return id;
}

StateId Automaton::start() { return at(grammar_->start()); }

StateId Automaton::at(NodeId node) {
  enter(node, 0, 0);
  return intern();
}

const StateId* Automaton::row(StateId state) {
  auto& next = states_[state].next;
  if (!next) {
    next = std::make_unique<std::array<StateId, 256>>();
    next->fill(state == kDeadState ? kDeadState : kUnknownState);
  }
  return next->data();
}

StateId Automaton::step(StateId state, std::uint8_t byte) {
  if (state == kDeadState) return kDeadState;
  StateId next = row(state)[byte];
  if (next != kUnknownState) return next;
  for (std::size_t i = 0; i < states_[state].places.size(); ++i) advance(states_[state].places[i], byte);
  next = intern();
  (*states_[state].next)[byte] = next;
  return next;
}

StateId Automaton::step_all(StateId state, std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size() && state != kDeadState; ++i) state = step(state, static_cast<std::uint8_t>(bytes[i]));
  return state;
}

StateId Automaton::step_token(StateId state, TokenId token) {
  for (std::size_t i = 0; i < states_[state].places.size(); ++i) {
    const Place place = states_[state].places[i];
    const Node& node = grammar_->at(place.node);
    if (node.kind == NodeKind::text && !text_may_leave(place.data, grammar_->text_parameters(node), true)) continue;
    for (const TokenEdge& edge : node.tokens)
      if (edge.token == token) enter(edge.to, place.stack, node.kind == NodeKind::text ? 0 : place.data);
  }
  return intern();
}

void Automaton::tokens(StateId state, std::vector<TokenId>& out) const {
  for (const Place& place : states_[state].places) {
    const Node& node = grammar_->at(place.node);
    if (node.kind == NodeKind::text && !text_may_leave(place.data, grammar_->text_parameters(node), true)) continue;
    for (const TokenEdge& edge : node.tokens) out.push_back(edge.token);
  }
}

void Automaton::advance(const Place& place, std::uint8_t byte) {
  const Node& node = grammar_->at(place.node);
  switch (node.kind) {
    case NodeKind::plain:
      for (const ByteEdge& edge : node.bytes)
        if (byte >= edge.low && byte <= edge.high) enter(edge.to, place.stack, place.data);
      return;
    case NodeKind::string_body: return advance_string(place, node, byte);
    case NodeKind::fresh_key: return advance_key(place, node, byte);
    case NodeKind::verbatim: return advance_verbatim(place, node, byte);
    case NodeKind::text: return advance_text(place, node, byte);
  }
}

void Automaton::advance_string(const Place& place, const Node& node, std::uint8_t byte) {
  const StringBody& limits = grammar_->string_parameters(node);
  std::uint32_t count = high_half(place.data);
  const StringStep next = string_step(static_cast<std::uint8_t>(low_half(place.data)), byte);
  if (next.state == kStringBad) return;
  if (next.closes) {
    if (count >= limits.least) enter(node.next, place.stack, 0);
    return;
  }
  // A character counts from its first byte on, so that none is begun that has no room.
  if (low_half(place.data) == 0) {
    if (limits.most != kNoLimit && count >= limits.most) return;
    if (limits.most != kNoLimit || count < limits.least) ++count;
  }
  arrive(place.node, place.stack, pack_halves(count, next.state));
}

void Automaton::advance_key(const Place& place, const Node& node, std::uint8_t byte) {
  std::uint32_t name = low_half(place.data) >> kNameShift;
  const StringStep next = string_step(static_cast<std::uint8_t>(low_half(place.data) & kStepMask), byte);
  if (next.state == kStringBad) return;
  std::uint32_t used = high_half(place.data);
  if (!next.closes) {
    const std::uint32_t longer = (name & kAhead) ? extend_ahead(name, byte) : extend_name(name, byte);
    if (!(name & kAhead) && longer >= kAhead - 1) return;
    return arrive(place.node, place.stack, pack_halves(used, longer << kNameShift | next.state));
  }
  if (used == kUnknownUsed) return;
  if (name == kFreshName) return enter(node.next, place.stack, pack_halves(kUnknownUsed, 0));
  name &= ~kAhead;
  if (is_used(used, name, grammar_->key_parameters(node))) return;
  const std::uint64_t key = pack_halves(used, name);
  const auto [it, fresh] = used_ids_.try_emplace(key, static_cast<std::uint32_t>(used_.size()));
  if (fresh) used_.push_back({used, name, mix(used_[used].hash, names_[name].hash)});
  enter(node.next, place.stack, pack_halves(it->second, 0));
}

void Automaton::advance_verbatim(const Place& place, const Node& node, std::uint8_t byte) {
  if (!verbatim_) return;
  const auto at = static_cast<VerbatimText::State>(high_half(place.data));
  const StringStep next = string_step(static_cast<std::uint8_t>(low_half(place.data)), byte);
  if (next.state == kStringBad) return;
  if (next.closes) {
    const bool empty = at == verbatim_->start();
    if (empty ? grammar_->verbatim_parameters(node).may_be_empty : verbatim_->may_end(at)) enter(node.next, place.stack, 0);
    return;
  }
  if (next.character >= 0) {
    const auto to = verbatim_->step(at, static_cast<std::uint8_t>(next.character));
    if (to != VerbatimText::kDead) arrive(place.node, place.stack, pack_halves(to, next.state));
    return;
  }
  // Inside an escape: go on only where a character that it can spell comes next.
  for (int c = 0; c < 0x80; ++c) {
    if (!string_can_spell(next.state, c)) continue;
    if (verbatim_->step(at, static_cast<std::uint8_t>(c)) == VerbatimText::kDead) continue;
    return arrive(place.node, place.stack, pack_halves(at, next.state));
  }
}

void Automaton::advance_text(const Place& place, const Node& node, std::uint8_t byte) {
  const FreeText& text = grammar_->text_parameters(node);
  const TextStep next = text_step(place.data, byte, text);
  if (next.dead) return;
  if (next.marker >= 0) return enter(text.markers[static_cast<std::size_t>(next.marker)].to, place.stack, 0);
  arrive(place.node, place.stack, next.data);
}

bool Automaton::between_characters(StateId state) const {
  return std::all_of(states_[state].places.begin(), states_[state].places.end(), [&](const Place& place) {
    return grammar_->at(place.node).kind != NodeKind::text || text_character(place.data) == 0;
  });
}

std::optional<std::uint32_t> Automaton::string_room(const Place& place) const {
  const Node& node = grammar_->at(place.node);
  if (node.kind == NodeKind::fresh_key && (low_half(place.data) & kStepMask) == 0) return kNoLimit;
  if (node.kind != NodeKind::string_body || low_half(place.data) != 0) return std::nullopt;
  const StringBody& limits = grammar_->string_parameters(node);
  return limits.most == kNoLimit ? kNoLimit : limits.most - high_half(place.data);
}

bool Automaton::plain_text(const Place& place) const {
  return grammar_->at(place.node).kind == NodeKind::text && text_is_plain(place.data);
}

OnlySymbol Automaton::only(StateId state) const {
  OnlySymbol found;
  const auto meet = [&](OnlySymbol symbol) {
    if (found.kind == OnlySymbol::Kind::none) return found = symbol, true;
    return found.kind == symbol.kind && found.byte == symbol.byte && found.token == symbol.token;
  };
  if (may_end(state)) meet({OnlySymbol::Kind::end});
  for (const Place& place : places(state)) {
    const Node& node = grammar_->at(place.node);
    if (node.kind != NodeKind::plain) return {};
    for (const ByteEdge& edge : node.bytes)
      if (edge.low != edge.high || !meet({OnlySymbol::Kind::byte, edge.low})) return {};
    for (const TokenEdge& edge : node.tokens)
      if (!meet({OnlySymbol::Kind::token, 0, edge.token})) return {};
  }
  return found;
}

std::uint64_t Automaton::frame_data_hash(NodeId, std::uint64_t data) const {
  // A frame's register is a count, or the names used in an object (in the upper half).
  return high_half(data) == 0 ? low_half(data) : mix(used_[std::min<std::size_t>(high_half(data), used_.size() - 1)].hash, low_half(data));
}

std::uint64_t Automaton::data_hash(const Place& place, std::uint32_t horizon) const {
  const Node& node = grammar_->at(place.node);
  switch (node.kind) {
    case NodeKind::string_body: {
      const StringBody& limits = grammar_->string_parameters(node);
      const std::uint32_t count = high_half(place.data);
      const std::uint32_t missing = std::min(horizon, limits.least > count ? limits.least - count : 0);
      const std::uint32_t room = limits.most == kNoLimit ? horizon : std::min(horizon, limits.most - count);
      return mix(mix(missing, room), low_half(place.data));
    }
    case NodeKind::fresh_key: {
      const std::uint32_t mask = kStepMask;
      const std::uint32_t name = low_half(place.data) >> kNameShift;
      return mix(mix(used_[high_half(place.data)].hash, name < names_.size() ? names_[name].hash : name), low_half(place.data) & mask);
    }
    case NodeKind::plain: return frame_data_hash(place.node, place.data);
    default: return place.data;
  }
}

Automaton::Key Automaton::key(StateId state, std::uint32_t horizon) const {
  // Places are sorted by ids that differ between automata: the sum does not depend on their order.
  Key key{states_[state].may_end ? 3u : 5u, states_[state].places.size()};
  for (const Place& place : states_[state].places) {
    const Frame& frame = frames_[place.stack];
    const std::uint64_t data = data_hash(place, horizon);
    key.high += mix(mix(frame.hash_high, place.node), data);
    key.low += mix(mix(data, frame.hash_low), mix(place.node, 17));
  }
  return key;
}

StateId Automaton::compact(StateId keep) {
  State kept = std::move(states_[keep]);
  kept.next.reset();
  states_.clear();
  state_ids_.clear();
  states_.emplace_back();
  states_.push_back(std::move(kept));
  return 1;
}

std::unique_ptr<Automaton> Automaton::fork(StateId state, StateId& id) const {
  auto copy = std::make_unique<Automaton>(grammar_, verbatim_, endings_);
  copy->frames_ = frames_;
  copy->frame_ids_ = frame_ids_;
  copy->used_ = used_;
  copy->names_ = names_;
  copy->name_ids_ = name_ids_;
  copy->used_ids_ = used_ids_;
  copy->declared_ = declared_;
  id = kDeadState;
  if (state != kDeadState) {
    State known;
    known.places = states_[state].places;
    known.may_end = states_[state].may_end;
    known.thinking = states_[state].thinking;
    known.left = states_[state].left;
    copy->states_.push_back(std::move(known));
    id = 1;
  }
  return copy;
}

}  // namespace kontor::inference
