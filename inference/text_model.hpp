#pragma once
// What the planner sees of a language model: text segments in, pieces of text out. The local engine, a recorded tape
// and a remote endpoint implement it; nothing above this header knows tensors, sockets or files.

#include "base/error.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

using TokenId = std::int32_t;

/// A stretch of the prompt. Only template segments may become control tokens; text from users, tools and files never
/// does. A stretch the model itself generated carries the ids it was sampled as, so that the KV cache is reused
/// exactly; then `text` is for reading only.
struct Segment {
  std::string text;
  bool is_template = false;
  std::vector<TokenId> tokens;
};

/// Sampling settings, applied in this order: penalties, top-k, top-p, min-p, temperature.
struct Sampling {
  float temperature = 0.6f;     ///< <= 0: arg max.
  int top_k = 0;                ///< 0: off.
  float top_p = 0.95f;          ///< 1: off.
  float min_p = 0.0f;           ///< 0: off.
  float repeat_penalty = 1.0f;  ///< 1: off.
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  int penalty_last_n = 64;
  std::uint64_t seed = 0;
};

/// In Piece::probability: the source does not know it.
inline constexpr float kUnknownProbability = -1.0f;

/// One token's text as it arrives. `text` holds raw bytes; a UTF-8 character can be split over pieces.
struct Piece {
  std::string_view text;
  bool control = false;      ///< The token is a control token of the vocabulary, not text that looks like one.
  TokenId id = -1;           ///< -1 where the source has no ids (tapes, endpoints).
  float probability = kUnknownProbability;  ///< Of this token under the sampling distribution before truncation.
};

enum class StopReason { end_of_turn, length, cancelled, stopped_by_sink };

/// Tokens and seconds of one call.
struct Usage {
  std::int64_t prompt_tokens_new = 0;     ///< Computed by prefill.
  std::int64_t prompt_tokens_reused = 0;  ///< Found in the KV cache.
  std::int64_t generated = 0;             ///< Sampled.
  std::int64_t forced = 0;                ///< Appended without sampling.
  std::int64_t guessed = 0;               ///< Tokens that were computed ahead on a guess ...
  std::int64_t guessed_right = 0;         ///< ... and came out as guessed; part of `generated` or `forced`.
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

/// What prefill() computed of a prompt.
struct Prefilled {
  std::vector<TokenId> tokens;  ///< Of the prompt, as far as it was computed.
  std::int64_t from = 0;        ///< Those before were there already.
};

class TokenConstraint;
class TokenTrie;
class Tokenizer;

struct GenerateRequest {
  /// Stands before `prompt`. A long conversation is kept by the caller and not copied for each turn; it must outlive the call.
  std::span<const Segment> earlier;
  std::vector<Segment> prompt;  ///< With `earlier` the full prefix; the session works out what it already holds.
  Sampling sampling;
  int max_tokens = 4096;
  const Prefilled* ahead = nullptr;             ///< What was computed ahead for this prompt: its tokens count as new, not as reused.
  std::stop_token stop;                         ///< Checked at every token and between prefill chunks.
  bool guess = true;  ///< Compute likely tokens ahead. Changes the speed only, never the output.
  std::shared_ptr<TokenConstraint> constraint;  ///< Null: every token may come. Sources without token ids ignore it.

  /// The whole prompt, for sources that read text.
  std::string prompt_text() const {
    std::string text;
    for (const Segment& segment : earlier) text += segment.text;
    for (const Segment& segment : prompt) text += segment.text;
    return text;
  }
};

struct Generation {
  std::string text;             ///< All pieces, without the end-of-turn token.
  std::vector<TokenId> tokens;  ///< Ids of `text`; with the end-of-turn token when that was generated. Empty for tapes.
  StopReason stop_reason = StopReason::end_of_turn;
  Usage usage;
};

struct ModelInfo {
  std::string name;          ///< general.name or file name.
  std::string description;   ///< What the file says of itself (general.description), cut to 500 bytes; mostly "".
  std::string architecture;  ///< "qwen2", "llama", "tape", "endpoint", ...
  std::string quantization;  ///< "Q8_0", "mixed Q4_K", ...
  std::string dialect;       ///< Key of formats: "r1", "r1-distill", "r1-0528", "qwen3", ...
  std::string device;        ///< "cpu", "cuda:0", "tape", host of the endpoint.
  std::int64_t parameters = 0;
  std::int64_t context = 0;          ///< Longest token timeline.
  std::int64_t embedding_width = 0;  ///< 0: no embeddings.
  bool has_call_tokens = false;      ///< The vocabulary has the call markers as control tokens.
};

/// A language model. Local models may be called by several threads at the same time, each call with a timeline of its
/// own; tapes by one at a time.
class TextModel {
 public:
  virtual ~TextModel() = default;
  virtual const ModelInfo& info() const = 0;

  /// Extends the prompt until the model ends its turn, max_tokens, a stop request, or the sink returns false. Blocks.
  /// Errors: limit (prompt longer than the context; kind context_full), cancelled is a stop reason, not an error.
  virtual Result<Generation> generate(const GenerateRequest& request,
                                      const std::function<bool(const Piece&)>& sink) = 0;

  /// Computes a prompt of which more will follow, so that generate() has less to do; blocks until done or stopped. `before`:
  /// what the last call for the same conversation gave. Changes the speed of generate() only, never its output. Errors are
  /// those that generate() will meet. Does nothing where nothing is kept between calls.
  virtual Prefilled prefill(const GenerateRequest& /*request*/, Prefilled before) { return before; }
  virtual bool computes_ahead() const { return false; }

  /// Mean-pooled, L2-normalised hidden states of the text; `embedding_width` floats. Does not disturb the timeline.
  /// Errors: unsupported.
  virtual Result<std::vector<float>> embed(std::string_view text) = 0;

  /// Number of tokens the text would take; an estimate of 4 bytes per token where there is no vocabulary.
  virtual std::int64_t count_tokens(std::string_view text) const = 0;

  /// The most tokens that the prompt of the request can take, for budgets.
  virtual std::int64_t prompt_bound(const GenerateRequest& request) const;

  /// Whether several threads may call generate() at the same time.
  virtual bool is_concurrent() const { return false; }

  /// Whether the same request gives the same tokens again, on any day and beside any other work.
  virtual bool is_reproducible() const { return true; }

  /// Writes what was computed for the latest timelines to a file, for load_state() in another process. Nothing happens
  /// where nothing is kept between calls. Errors: io, memory.
  virtual Result<void> save_state(const std::string& path);
  /// Errors: not_found, io, and those of read_snapshot; nothing was loaded then.
  virtual Result<void> load_state(const std::string& path);

  /// What a TokenConstraint is compiled against. Null: the source has no token ids and ignores constraints (tapes,
  /// endpoints).
  virtual const Tokenizer* tokenizer() const { return nullptr; }
  /// The vocabulary of tokenizer() as constraints look at it, made once for all who use the model. Null where that is.
  virtual std::shared_ptr<const TokenTrie> token_trie() const { return nullptr; }
};

inline std::int64_t TextModel::prompt_bound(const GenerateRequest& request) const {
  std::int64_t tokens = 0;
  for (const auto& part : {request.earlier, std::span<const Segment>(request.prompt)}) {
    // One more each: what is cut apart can take more tokens than the whole.
    for (const Segment& segment : part) tokens += segment.tokens.empty() ? count_tokens(segment.text) + 1 : static_cast<std::int64_t>(segment.tokens.size());
  }
  return tokens;
}
inline Result<void> TextModel::save_state(const std::string&) { return {}; }
inline Result<void> TextModel::load_state(const std::string&) { return {}; }

}  // namespace kontor::inference
