#pragma once
// The whole output of a turn as one grammar: reasoning, then calls or the answer, in the notation of the model's dialect.

#include "agent/dialect/renderer.hpp"
#include "agent/message.hpp"
#include "base/error.hpp"
#include "inference/grammar_constraint.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

struct OutputRequest {
  DialectOptions dialect;
  std::string parser_format;             ///< Rendered::parser_format.
  Prefill prefill = Prefill::none;       ///< What the prompt already wrote.
  bool call_tokens = false;              ///< ModelInfo::has_call_tokens: text never counts as markup.
  std::vector<ToolSchema> tools;
  std::optional<Json> output;            ///< The answer is JSON of this schema. Absent: free text.
  ToolChoice choice = ToolChoice::automatic;
  std::string named;                     ///< For ToolChoice::named.
};

/// Calls of one turn.
inline constexpr std::uint32_t kTurnCallsMax = 16;

/// The grammar of a turn. Markers are tokens where the vocabulary has them as control tokens, else their canonical text.
/// While thinking, markers of calls and of other turns and the end of the turn are excluded. An answer that has to be
/// JSON may follow up to two line ends; nothing follows it. Errors: those of SchemaGrammar::add, with the tool's name in
/// the message.
Result<std::shared_ptr<inference::GrammarProgram>> compile_output(const OutputRequest& request, const inference::Tokenizer& tokenizer,
                                                                  std::shared_ptr<const inference::TokenTrie> trie);

/// Whether what an agent needs can be enforced, without a model: its tools' schemas and the one of its answer. `dialect`:
/// the model's, where that is known; DSML (V3.2 and V4) has rules of its own. Errors: as compile_output.
Result<void> check_output_schemas(const std::vector<ToolSchema>& tools, const std::optional<Json>& output, std::string_view dialect = {});

/// Whether a dialect writes an element for each argument (DSML), whose rules check_output_schemas only knows with it.
bool writes_elements(std::string_view dialect);

/// Texts of users and tools of a conversation, which verbatim values are copied from; the newest kBytesMax of them.
std::shared_ptr<const inference::VerbatimText> verbatim_text(const std::vector<Message>& messages);

/// Compiled grammars by name, so that a run compiles each once. Thread-safe.
class OutputGrammars {
 public:
  /// `name` stands for the tools and the output schema of the request. `model` has a tokenizer.
  Result<std::shared_ptr<const inference::GrammarProgram>> get(const std::string& name, const OutputRequest& request, const inference::TextModel& model);

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const inference::GrammarProgram>> programs_;
};

}  // namespace kontor::agent
