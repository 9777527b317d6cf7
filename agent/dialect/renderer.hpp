#pragma once
// Renders a conversation into a model family's prompt format. Faithful keys reproduce the official templates byte for
// byte (with their defects); the canonical ones are what Kontor itself uses.

#include "agent/dialect/parser.hpp"
#include "agent/message.hpp"
#include "base/error.hpp"
#include "inference/text_model.hpp"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kontor::agent {

enum class AfterTool { carry_on, assistant };     ///< official: continue behind the results | EOS + Assistant + pre-fill.
enum class KeepReasoning { never, since_last_user, all };

/// How Kontor's own prompts for one model are made.
struct DialectOptions {
  std::string key = "r1-0528";       ///< Model key: r1, r1-distill, r1-0528, v3.1, v3.2, v4, qwen3, qwq, ...
  Prefill think_prefill = Prefill::open;
  AfterTool after_tool = AfterTool::carry_on;
  KeepReasoning keep_reasoning = KeepReasoning::since_last_user;
  std::string bos = "<｜begin▁of▁sentence｜>";
  std::string eos = "<｜end▁of▁sentence｜>";
  int eos_id = -1;  ///< Id of `eos` in the model's vocabulary; -1: a turn's ids are taken to end with it.
};

/// The options that fit a model key (ModelInfo::dialect): r1-0528 writes <think> itself, r1 has it pre-filled, ...
/// Errors: usage (unknown key, with a suggestion).
Result<DialectOptions> dialect_for(const std::string& key);

struct Rendered {
  std::span<const inference::Segment> earlier;  ///< Only of a RollingPrompt: what stands before `segments`, kept by it.
  std::vector<inference::Segment> segments;  ///< Template text and message text alternate; message text is never template.
  Prefill prefill = Prefill::none;           ///< What the parser must be told.
  std::string parser_format;                 ///< ParserOptions::format that fits.
};

/// Kontor's canonical prompt for the next assistant turn. An assistant message that carries `tokens` becomes one
/// segment with those ids, unless they hold reasoning that is to be dropped; its text is then `generated_text` and the
/// end-of-turn text. The R1 keys use the turn structure of R1-0528 and the tool preface of the SGLang template.
/// System texts move to the front. Calls are written as the model wrote them where that is canonical JSON.
/// Errors: usage (unknown key), malformed (a result without a call).
Result<Rendered> render(const DialectOptions& options, const std::vector<Message>& messages,
                        const std::vector<ToolSchema>& tools);

/// render() for a conversation that grows: what was rendered (and encoded) for one turn is not done again for the next,
/// so that a turn costs the same however long the conversation is. The prompt is the one render() makes.
class RollingPrompt {
 public:
  /// Ids of a prompt, as Tokenizer::encode_segments of the model that reads it.
  using Encode = std::function<Result<std::vector<inference::TokenId>>(std::span<const inference::Segment>)>;

  RollingPrompt();
  RollingPrompt(RollingPrompt&&) noexcept;
  RollingPrompt& operator=(RollingPrompt&&) noexcept;
  ~RollingPrompt();

  /// `messages` are those of the last call, unchanged, and what came after them; `options` and `tools` stay the same.
  /// With `encode` turns with ids are joined with what stands before them into one encoded segment. `earlier` of the
  /// result is valid until the next call. Errors: as render().
  Result<Rendered> next(const DialectOptions& options, const std::vector<Message>& messages, const std::vector<ToolSchema>& tools,
                        const Encode& encode = {});
  /// What is certain of the prompt after that: the messages, the results that followed, and `begun`, one more whose content is
  /// known up to where it ends; without what closes it off. Results are those of the next call's messages.
  Result<Rendered> ahead(const DialectOptions& options, const std::vector<Message>& messages, std::span<const Message> results, const Message* begun,
                         const std::vector<ToolSchema>& tools, const Encode& encode = {});
  /// To be called when earlier messages changed: the next prompt is rendered from the start.
  void forget();

 private:
  class Writer;
  std::unique_ptr<Writer> writer_;
};

}  // namespace kontor::agent
