#include "inference/generator.hpp"

#include "inference/constraint.hpp"

#include <algorithm>

namespace kontor::inference {
namespace {

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// Whether the token is markup by its id. DeepSeek's files type the call markers and think tags as user-defined, some as
/// normal tokens; one token with exactly that text is no text that merely looks like it.
bool is_markup(const Tokenizer& tokenizer, TokenId id) {
  const std::string_view text = tokenizer.piece(id);
  return tokenizer.is_control(id) || tokenizer.is_added(id) || text == "<think>" || text == "</think>";
}

bool allows(std::span<const std::uint32_t> mask, TokenId id) {
  const auto word = static_cast<std::size_t>(id) / 32;
  return word < mask.size() && (mask[word] >> (id % 32) & 1u) != 0;
}

}  // namespace

Generator::Generator(Session session, std::vector<TokenId> prompt, const GenerateRequest& request, const Sink& sink, Until until)
    : session_(std::move(session)), prompt_size_(prompt.size()), request_(request), sink_(sink), until_(until), chooser_(request.sampling),
      timeline_(std::move(prompt)), started_(Time::now()), first_(started_) {}

std::int64_t Generator::prompt_left() const {
  return static_cast<std::int64_t>(prompt_size_) - std::min(computed(), static_cast<std::int64_t>(prompt_size_));
}

std::int64_t Generator::shared_prompt(const Generator& other) const {
  const auto end = timeline_.begin() + static_cast<std::ptrdiff_t>(prompt_size_);
  const auto other_end = other.timeline_.begin() + static_cast<std::ptrdiff_t>(other.prompt_size_);
  return std::mismatch(timeline_.begin(), end, other.timeline_.begin(), other_end).first - timeline_.begin();
}

Result<void> Generator::reuse() {
  const std::int64_t before = started_reusing_ ? computed() : 0;
  const auto reused = session_.reuse(timeline_);
  if (!reused) return reused.error();
  started_reusing_ = true;
  generation_.usage.prompt_tokens_reused += *reused - before;
  if (request_.max_tokens <= 0) stop(StopReason::length);
  else if (static_cast<std::size_t>(*reused) == timeline_.size()) prompt_done(session_.logits());
  return {};
}

Generator::Work Generator::next(std::int64_t most, std::int64_t guesses) {
  const auto known = session_.tokens().size();
  const auto left = timeline_.size() - known;
  const auto count = std::min(left, static_cast<std::size_t>(std::max<std::int64_t>(1, most)));
  batch_.assign(timeline_.begin() + static_cast<std::ptrdiff_t>(known), timeline_.begin() + static_cast<std::ptrdiff_t>(known + count));
  guesses_ = 0;
  output_ = count < left || until_ == Until::prompt ? Output::none : Output::last_logits;
  if (left == 1 && !prefilling() && request_.guess) guess(static_cast<std::size_t>(std::clamp<std::int64_t>(guesses, 0, most - 1)));
  if (guesses_ > 0) output_ = Output::all_logits;
  return {batch_, output_};
}

/// Where one token is drawn behind tokens that are certain, a device may look for it itself. The logits behind the prompt are
/// kept (take), those behind guesses meet a mask that is not known yet.
Extension Generator::extension(const Work& work, float* out) {
  Extension extension = session_.extension(work.tokens, work.output, out);
  shortlist_.filled = false;
  if (work.output == Output::last_logits && !prefilling() && session_.engine()->shortlists() && suits_shortlist(request_.sampling)) {
    shortlist_.settings = request_.sampling;
    shortlist_.mask = request_.constraint ? request_.constraint->mask() : std::span<const std::uint32_t>();
    extension.shortlist = &shortlist_;
  }
  return extension;
}

/// Adds guesses to the batch, as far as the constraint would allow them.
void Generator::guess(std::size_t most) {
  const auto room = static_cast<std::size_t>(std::max<std::int64_t>(0, session_.engine()->context() - static_cast<std::int64_t>(timeline_.size())));
  const auto wanted = static_cast<std::size_t>(request_.max_tokens) - generation_.tokens.size() - 1;
  most = std::min({most, room, wanted, lookup_.length()});
  if (most == 0) return;
  if (!lookup_filled_) lookup_.append(timeline_), lookup_filled_ = true;
  std::unique_ptr<TokenConstraint> ahead;
  for (const TokenId token : lookup_.guess(most)) {
    if (request_.constraint) {
      if (!ahead) ahead = request_.constraint->fork();
      if (ahead->finished() || !allows(ahead->mask(), token) || !ahead->accept(token)) break;
    }
    batch_.push_back(token);
    ++guesses_;
  }
}

void Generator::take(std::span<const float> rows) {
  // The logits behind the prompt are kept: who asks the same again computes nothing.
  session_.commit(batch_, prefilling() ? rows : std::span<const float>());
  if (prefilling()) session_.publish();
  if (output_ != Output::none || (until_ == Until::prompt && prompt_left() == 0)) prompt_done(rows);
}

void Generator::prompt_done(std::span<const float> rows) {
  if (until_ == Until::prompt) stop(StopReason::length);
  else choose_tokens(rows);
}

/// Draws from the rows as long as what comes is what was guessed; a row is the logits behind one more guess.
void Generator::choose_tokens(std::span<const float> rows) {
  if (generation_.tokens.empty()) {
    first_ = Time::now();
    follow_constraint();
  }
  const auto width = static_cast<std::size_t>(session_.engine()->config().vocabulary);
  const std::size_t certain = session_.tokens().size() - guesses_;
  std::size_t held = 0;
  bool in_step = true;  // The session holds everything that is certain.
  while (!over_ && (in_step || !forced_.empty())) {
    TokenId token = 0;
    if (!forced_.empty()) {
      token = forced_.front();
      forced_.pop_front();
      emit(token, 1.0f, true);
    } else {
      const auto chosen = sample(rows.subspan(held * width, width));
      if (!chosen) return fail(chosen.error());
      token = chosen->id;
      emit(token, static_cast<float>(chosen->probability), false);
    }
    in_step = in_step && held < guesses_ && token == batch_[batch_.size() - guesses_ + held];
    if (in_step) ++held;
  }
  session_.roll_back(certain + held);
  generation_.usage.guessed += static_cast<std::int64_t>(guesses_);
  generation_.usage.guessed_right += static_cast<std::int64_t>(held);
  if (request_.guess) lookup_.learn(guesses_, held);
  guesses_ = 0;
}

Result<Candidate> Generator::sample(std::span<const float> logits) {
  if (shortlist_.filled) {
    shortlist_.filled = false;
    return chooser_.sample(shortlist_);
  }
  const auto mask = request_.constraint ? request_.constraint->mask() : std::span<const std::uint32_t>();
  return chooser_.sample(logits, timeline_, mask);
}

void Generator::emit(TokenId token, float probability, bool forced) {
  const Tokenizer& tokenizer = session_.engine()->tokenizer();
  ++(forced ? generation_.usage.forced : generation_.usage.generated);
  generation_.tokens.push_back(token);
  if (request_.constraint) {
    if (const auto accepted = request_.constraint->accept(token); !accepted) return fail(accepted.error());
  }
  if (tokenizer.is_end(token)) return stop(StopReason::end_of_turn);
  const Piece piece{tokenizer.piece(token), is_markup(tokenizer, token), token, probability};
  generation_.text += piece.text;
  const bool full = static_cast<std::int64_t>(timeline_.size()) >= session_.engine()->context();
  timeline_.push_back(token);
  if (lookup_filled_) lookup_.append(std::span(&token, 1));
  if (sink_ && !sink_(piece)) return stop(StopReason::stopped_by_sink);
  if (request_.stop.stop_requested()) return cancel();
  if (full || generation_.tokens.size() >= static_cast<std::size_t>(request_.max_tokens)) return stop(StopReason::length);
  follow_constraint();
}

void Generator::follow_constraint() {
  if (!request_.constraint || over_) return;
  if (request_.constraint->finished()) return stop(StopReason::end_of_turn);
  if (!forced_.empty()) return;
  const auto tokens = request_.constraint->forced();
  forced_.assign(tokens.begin(), tokens.end());
}

void Generator::stop(StopReason reason) {
  generation_.stop_reason = reason;
  over_ = true;
}

void Generator::cancel() { stop(StopReason::cancelled); }

void Generator::fail(Error error) {
  error_ = std::move(error);
  over_ = true;
}

Result<Generation> Generator::result() {
  if (error_) return *error_;
  const auto now = Time::now();
  const bool decoded = !generation_.tokens.empty();
  generation_.usage.prompt_tokens_new = static_cast<std::int64_t>(prompt_size_) - prompt_left() - generation_.usage.prompt_tokens_reused;
  generation_.usage.prefill_seconds = seconds_between(started_, decoded ? first_ : now);
  if (decoded) generation_.usage.decode_seconds = seconds_between(first_, now);
  session_.publish();
  return std::move(generation_);
}

}  // namespace kontor::inference
