#pragma once
// What is certain of a conversation's next prompt, computed while its tools still work: results that are there while other
// calls of the turn go on, and what a tool has written so far of its result.

#include "agent/dialect/renderer.hpp"
#include "agent/message.hpp"
#include "inference/text_model.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

/// Of one turn's calls. Works on a thread of its own, once there is something to compute; the prompt and the messages are its own until take(). What it computed
/// and the next prompt does not begin with is rolled back by the session, so nothing depends on it but time.
class PromptAhead {
 public:
  struct Conversation {
    DialectOptions dialect;
    RollingPrompt* prompt = nullptr;
    const std::vector<Message>* messages = nullptr;  ///< With the turn that made the calls.
    const std::vector<ToolSchema>* tools = nullptr;
  };
  /// `model` computes prompts ahead (TextModel::computes_ahead).
  PromptAhead(inference::TextModel& model, Conversation conversation);
  /// As take().
  ~PromptAhead();
  PromptAhead(const PromptAhead&) = delete;
  PromptAhead& operator=(const PromptAhead&) = delete;

  /// The next result, in the order of the calls.
  void result(Message message);
  /// For the tool whose result is the next one: told with what its text begins. Thread-safe, may be called by a tool that was
  /// left behind; then nothing happens.
  std::function<void(std::string_view)> partial_of(Message message);

  /// Stops; what was computed is for the next turn.
  inference::Prefilled take();

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace kontor::agent
