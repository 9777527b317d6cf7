#pragma once
// One streamed answer of /completions as it arrives: events with JSON inside become pieces of text. Everything in it is
// written by somebody else and is bounded and checked.

#include "base/json.hpp"
#include "base/stream_reader.hpp"
#include "inference/text_model.hpp"

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference::remote {

/// The message of a server's error, in the usual spellings: {"error": {"message"}}, {"error": "..."}, {"message"},
/// {"detail"}; "" where there is none.
std::string error_message(const Json& body);

/// Whether a message says that the prompt does not fit.
bool says_context_full(std::string_view message);

class Answer {
 public:
  static constexpr std::size_t kEventBytesMax = 1u << 20;

  /// `max_tokens`: what was asked for; a server that writes on is not listened to. `sink` as in TextModel::generate.
  Answer(int max_tokens, std::stop_token stop, std::function<bool(const Piece&)> sink);

  /// The next bytes of the stream. False: nothing more is wanted, because the answer is over or wrong.
  bool feed(std::string_view bytes);

  /// Text has arrived.
  bool began() const { return !text_.empty(); }
  /// The end has been said, or the sink or the stop request ended it.
  bool over() const { return over_ || finished_; }
  /// What was wrong. Errors: malformed and limit (kind endpoint), limit (kind context_full).
  const std::optional<Error>& error() const { return error_; }

  /// The text and what the server told of the tokens. A count it did not tell is replaced by one that is not too small:
  /// `prompt_bound` for the prompt; the bytes, but no more than were asked for, for the text. No seconds.
  Generation take(std::int64_t prompt_bound);
  /// The server has told how many tokens the text has.
  bool counted() const { return generated_ >= 0; }
  /// The prompt's tokens as the server told them; -1 where it did not.
  std::int64_t prompt_tokens() const { return prompt_tokens_; }

 private:
  struct Token {
    std::string text;
    float probability;
  };
  static std::vector<Token> tokens_of(const Json& choice);

  bool on_event(std::string_view data);
  void read_usage(const Json& event);
  bool emit(const std::string& text, const std::vector<Token>& tokens);
  bool put(std::string_view text, float probability);
  bool refuse(const std::string& what, bool full = false);

  int max_tokens_;
  std::stop_token stop_;
  std::function<bool(const Piece&)> sink_;
  SseReader events_{kEventBytesMax};
  std::string text_;
  StopReason stop_reason_ = StopReason::end_of_turn;
  std::optional<Error> error_;
  std::int64_t prompt_tokens_ = -1, cached_ = 0;
  std::int64_t generated_ = -1;   ///< As told.
  std::int64_t counted_ = 0;      ///< Tokens that came by name; bytes of the text that came without.
  std::size_t named_ = 0;
  bool finished_ = false, over_ = false;
};

}  // namespace kontor::inference::remote
