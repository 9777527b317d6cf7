#pragma once
// Shared by the faithful renderers: access to messages with the meaning templates give to missing and null values, and
// an output that remembers the first thing a template would have stumbled over. Internal to agent/dialect.

#include "base/error.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace kontor::agent::faithful {

inline constexpr std::string_view kUser = "<｜User｜>";
inline constexpr std::string_view kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>";
inline constexpr std::string_view kCallsEnd = "<｜tool▁calls▁end｜>";
inline constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
inline constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
inline constexpr std::string_view kSep = "<｜tool▁sep｜>";
inline constexpr std::string_view kOutputsBegin = "<｜tool▁outputs▁begin｜>";
inline constexpr std::string_view kOutputsEnd = "<｜tool▁outputs▁end｜>";
inline constexpr std::string_view kOutputBegin = "<｜tool▁output▁begin｜>";
inline constexpr std::string_view kOutputEnd = "<｜tool▁output▁end｜>";
inline constexpr std::string_view kThink = "<think>";
inline constexpr std::string_view kThinkEnd = "</think>";

/// A conversation as it came in.
struct Input {
  const Json& messages;             ///< An array of objects.
  const Json* tools = nullptr;      ///< nullptr: not given or null.
  const Json& kwargs;               ///< An object.
  bool add_generation_prompt = false;
  std::string bos;
};

/// Member of an object; nullptr when it is missing (a template's "undefined").
inline const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}
inline bool is_null(const Json* value) { return value && value->is_null(); }
inline bool is_role(const Json& message, std::string_view role) {
  const Json* value = member(message, "role");
  return value && value->is_string() && value->get_ref<const std::string&>() == role;
}
inline bool is_true(const Json* value) { return value && value->is_boolean() && value->get<bool>(); }
/// Truth as Python and Jinja see it.
bool is_truthy(const Json* value);

/// json.dumps(value, ensure_ascii=False), optionally indented.
std::string to_json(const Json& value, int indent = 0);

/// Behind the last (or first) </think>, or the whole text.
std::string_view behind_last_think(std::string_view text);
std::string_view behind_first_think(std::string_view text);
std::string_view strip_newlines(std::string_view text, bool left = true, bool right = true);

/// The fixed text around the tool schemas of a tool description.
struct ToolsText {
  std::string_view before;   ///< In front of all schemas.
  std::string_view each;     ///< In front of each schema.
  std::string_view behind;   ///< Behind each schema.
  std::string_view after;    ///< Behind all of them.
};
extern const ToolsText kSglangTools;
extern const ToolsText kQwenTools;
extern const ToolsText kV32Tools;
extern const ToolsText kV4Tools;

class Prompt {
 public:
  Prompt& operator<<(std::string_view text) {
    text_ += text;
    return *this;
  }
  /// A value that must be a string: templates cannot join anything else to text.
  Prompt& join(const Json* value, const char* what) {
    if (const std::string* text = string_of(value, what)) text_ += *text;
    return *this;
  }
  /// The string, or nullptr after noting the error.
  const std::string* string_of(const Json* value, const char* what) {
    if (value && value->is_string()) return &value->get_ref<const std::string&>();
    stop(std::string(what) + (value ? value->is_null() ? " is null" : " is not a string" : " is missing"));
    return nullptr;
  }
  void stop(std::string message) {
    if (!error_) error_ = fail(Errc::malformed, std::move(message), "template");
  }
  bool stopped() const { return error_.has_value(); }
  Result<std::string> take() {
    if (error_) return *error_;
    return std::move(text_);
  }

 private:
  std::string text_;
  std::optional<Error> error_;
};

Result<std::string> render_r1(const Input& input, bool prefill);
Result<std::string> render_distill(const Input& input, std::string_view generation, bool join_system, bool drop_reasoning);
enum class Tools0528 { none, sglang, vllm };
Result<std::string> render_r1_0528(const Input& input, Tools0528 variant);
Result<std::string> render_r1_llamacpp(const Input& input);
Result<std::string> render_v31(const Input& input);
Result<std::string> render_v32_llamacpp(const Input& input);
Result<std::string> render_v32_official(const Input& input);
Result<std::string> render_v4_official(const Input& input);
Result<std::string> render_qwen3(const Input& input);
Result<std::string> render_qwq(const Input& input);
Result<std::string> render_hermes2pro(const Input& input);

}  // namespace kontor::agent::faithful
