#pragma once
// One generate() in progress, as a state machine over forward passes: next() says what to compute, take() gets the
// logits. It samples, follows the constraint, checks guesses and talks to the sink; it knows neither threads nor devices.

#include "base/error.hpp"
#include "inference/prompt_lookup.hpp"
#include "inference/session.hpp"
#include "inference/shortlist.hpp"
#include "inference/text_model.hpp"

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace kontor::inference {

/// Used by one thread at a time. Output does not depend on how the work is cut into passes, nor on guesses: every token
/// is drawn from the logits behind all tokens before it, with the random number of its own position.
class Generator {
 public:
  using Sink = std::function<bool(const Piece&)>;
  /// Where it is over by itself.
  enum class Until { end_of_output, prompt };
  /// `request` and `sink` must outlive it.
  Generator(Session session, std::vector<TokenId> prompt, const GenerateRequest& request, const Sink& sink, Until until = Until::end_of_output);

  /// Before the first pass, and again where another session may have computed more of the prompt. Errors: those of
  /// Session::reuse.
  Result<void> reuse();

  bool over() const { return over_; }
  bool prefilling() const { return generation_.tokens.empty() && !over_; }
  /// Prompt tokens that are not computed yet.
  std::int64_t prompt_left() const;
  /// Leading tokens of both prompts that are equal.
  std::int64_t shared_prompt(const Generator& other) const;
  std::int64_t computed() const { return static_cast<std::int64_t>(session_.tokens().size()); }

  struct Work {
    std::span<const TokenId> tokens;  ///< Not empty; valid until take() or fail().
    Output output = Output::none;     ///< none, last_logits or all_logits.
  };
  /// At most `most` tokens (at least 1), with at most `guesses` guessed ones among them. Not when over().
  Work next(std::int64_t most, std::int64_t guesses);
  Extension extension(const Work& work, float* out);
  /// The pass is done. `rows`: vocabulary floats for each token that `output` asked for, unless the extension's shortlist
  /// was filled.
  void take(std::span<const float> rows);

  void cancel();
  void fail(Error error);

  /// When over: what was made, or the error.
  Result<Generation> result();
  Session release() { return std::move(session_); }

 private:
  using Time = std::chrono::steady_clock;

  void prompt_done(std::span<const float> rows);
  void choose_tokens(std::span<const float> rows);
  Result<Candidate> sample(std::span<const float> logits);
  void emit(TokenId token, float probability, bool forced);
  void follow_constraint();
  void stop(StopReason reason);
  void guess(std::size_t most);

  Session session_;                ///< Always a prefix of timeline_.
  const std::size_t prompt_size_;
  const GenerateRequest& request_;
  const Sink& sink_;
  const Until until_;
  TokenChooser chooser_;
  Shortlist shortlist_;            ///< Of the pass in progress, where the device makes one.
  PromptLookup lookup_;
  bool lookup_filled_ = false;
  bool started_reusing_ = false;
  std::vector<TokenId> timeline_;  ///< Prompt and output so far.
  std::vector<TokenId> batch_;     ///< Tokens of the pass in progress: certain ones, then guesses.
  std::size_t guesses_ = 0;        ///< Of batch_, at its end.
  Output output_ = Output::none;
  std::deque<TokenId> forced_;     ///< Have to come next.
  Generation generation_;
  std::optional<Error> error_;
  bool over_ = false;
  Time::time_point started_, first_;
};

}  // namespace kontor::inference
