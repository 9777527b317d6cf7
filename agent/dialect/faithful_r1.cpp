// The Jinja templates of the R1 family: R1, its distills, V3, R1-0528 with the tool copies of SGLang and vLLM,
// llama.cpp's replacement and V3.1. Each function follows its template branch by branch; odd orders and missing resets
// are the templates' own.

#include "agent/dialect/faithful_parts.hpp"

namespace kontor::agent::faithful {

const ToolsText kSglangTools = {
    "\n\nYou are a helpful assistant with tool calling capabilities. When a tool call is needed, you MUST use the following "
    "format to issue the call:\n"
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>FUNCTION_NAME\n```json\n"
    "{\"param1\": \"value1\", \"param2\": \"value2\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>\n\n"
    "Make sure the JSON is valid.## Tools\n\n### Function\n\nYou have the following functions available:\n\n",
    "\n```json\n", "\n```\n", ""};

namespace {

/// The calls of a message as templates iterate over them: missing is nothing to iterate, null is an error.
const Json& calls_of(const Json& message, Prompt& out) {
  static const Json kNone = Json::array();
  const Json* calls = member(message, "tool_calls");
  if (!calls) return kNone;
  if (!calls->is_array()) out.stop("tool_calls is not a list");
  return *calls;
}

const Json* function_part(const Json& call, const char* key) {
  const Json* function = member(call, "function");
  return function ? member(*function, key) : nullptr;
}

enum class Arguments { text, json };

/// <call begin>TYPE<sep>NAME newline fence ARGUMENTS fence <call end>
void r1_call(Prompt& out, const Json& call, Arguments arguments) {
  out << kCallBegin;
  out.join(member(call, "type"), "tool_calls.type") << kSep;
  out.join(function_part(call, "name"), "tool_calls.function.name") << "\n```json\n";
  const Json* value = function_part(call, "arguments");
  if (arguments == Arguments::text) out.join(value, "tool_calls.function.arguments");
  else if (value) out << to_json(*value);
  else out.stop("tool_calls.function.arguments is missing");
  out << "\n```" << kCallEnd;
}

/// System texts, joined with a blank line, or only the last of them.
std::string system_prompt(const Input& input, Prompt& out, bool join) {
  std::string text;
  bool first = true;
  for (const auto& message : input.messages) {
    if (!is_role(message, "system")) continue;
    const std::string* content = out.string_of(member(message, "content"), "system content");
    if (!content) continue;
    if (!join) text = *content;
    else text += (first ? "" : "\n\n") + *content;
    first = false;
  }
  return text;
}

}  // namespace

Result<std::string> render_r1(const Input& input, bool prefill) {
  Prompt out;
  const std::string system = system_prompt(input, out, true);
  out << input.bos << system;
  bool is_first = false, is_tool = false, is_output_first = true;  // never reset
  for (const auto& message : input.messages) {
    const Json* content = member(message, "content");
    if (is_role(message, "user")) {
      is_tool = false;
      out << kUser;
      out.join(content, "user content");
    } else if (is_role(message, "assistant") && message.contains("tool_calls")) {
      is_tool = false;
      const Json& calls = calls_of(message, out);
      if (out.stopped()) break;
      for (const auto& call : calls) {
        if (!is_first) {
          out << kAssistant;
          if (!is_null(content)) out.join(content, "assistant content");
          out << kCallsBegin;
        } else {
          out << "\n";
        }
        is_first = true;
        r1_call(out, call, Arguments::text);
      }
      out << kCallsEnd << kEos;
    } else if (is_role(message, "assistant")) {
      const std::string* text = out.string_of(content, "assistant content");
      if (!text) break;
      if (is_tool) out << kOutputsEnd << *text << kEos;
      else out << kAssistant << behind_last_think(*text) << kEos;
      is_tool = false;
    } else if (is_role(message, "tool")) {
      is_tool = true;
      if (is_output_first) out << kOutputsBegin;
      is_output_first = false;
      out << kOutputBegin;
      out.join(content, "tool content") << kOutputEnd;
    }
  }
  if (is_tool) out << kOutputsEnd;
  if (input.add_generation_prompt && !is_tool) out << kAssistant << (prefill ? "<think>\n" : "");
  return out.take();
}

Result<std::string> render_distill(const Input& input, std::string_view generation, bool join_system, bool drop_reasoning) {
  Prompt out;
  const std::string system = system_prompt(input, out, join_system);
  out << input.bos << system;
  bool is_first = false, is_tool = false, is_output_first = true;  // never reset
  for (const auto& message : input.messages) {
    const Json* content = member(message, "content");
    if (is_role(message, "user")) {
      is_tool = false;
      out << kUser;
      out.join(content, "user content");
    } else if (is_role(message, "assistant") && is_null(content)) {
      is_tool = false;
      const Json& calls = calls_of(message, out);
      if (out.stopped()) break;
      for (const auto& call : calls) {
        if (!is_first) {
          out << kAssistant << kCallsBegin;
          r1_call(out, call, Arguments::text);
          is_first = true;
        } else {
          // The block is closed behind every further call, and never behind a single one.
          out << "\n";
          r1_call(out, call, Arguments::text);
          out << kCallsEnd << kEos;
        }
      }
    } else if (is_role(message, "assistant")) {
      const std::string* text = out.string_of(content, "assistant content");
      if (!text) break;
      if (is_tool) out << kOutputsEnd << *text << kEos;
      else out << kAssistant << (drop_reasoning ? behind_last_think(*text) : std::string_view(*text)) << kEos;
      is_tool = false;
    } else if (is_role(message, "tool")) {
      is_tool = true;
      out << (is_output_first ? kOutputsBegin : std::string_view("\n")) << kOutputBegin;
      is_output_first = false;
      out.join(content, "tool content") << kOutputEnd;
    }
  }
  if (is_tool) out << kOutputsEnd;
  if (input.add_generation_prompt && !is_tool) out << generation;
  return out.take();
}

Result<std::string> render_r1_0528(const Input& input, Tools0528 variant) {
  Prompt out;
  std::string system = system_prompt(input, out, true);
  if (variant != Tools0528::none && input.tools) {
    system += kSglangTools.before;
    for (const auto& tool : *input.tools) {
      system += kSglangTools.each;
      system += to_json(tool);
      system += kSglangTools.behind;
    }
  }
  out << input.bos << system;
  // vLLM's copy prints the indentation in front of these places.
  const auto leak = [&](std::size_t blanks) { out << std::string(variant == Tools0528::vllm ? blanks : 0, ' '); };
  const Arguments arguments = variant == Tools0528::none ? Arguments::text : Arguments::json;
  bool is_tool = false, is_output_first = true, is_last_user = false;
  for (const auto& message : input.messages) {
    const Json* content = member(message, "content");
    if (is_role(message, "user")) {
      is_tool = false;
      is_last_user = true;
      out << kUser;
      out.join(content, "user content") << kAssistant;
    } else if (is_role(message, "assistant")) {
      is_last_user = false;
      const Json* calls = member(message, "tool_calls");
      if (content && !content->is_string()) {  // looked into before it is tested for null
        out.stop("assistant content is not a string");
        break;
      }
      if (!calls || calls->is_null()) {
        const std::string* text = out.string_of(content, "assistant content");
        if (!text) break;
        if (is_tool) leak(12), out << kOutputsEnd;
        out << behind_last_think(*text) << kEos;
        is_tool = false;
        continue;
      }
      if (is_tool) leak(12), out << kOutputsEnd;
      is_tool = false;
      is_output_first = true;
      if (!calls->is_array()) {
        out.stop("tool_calls is not a list");
        break;
      }
      bool first = true;
      for (const auto& call : *calls) {
        leak(first ? 20 : 16);
        if (first) {
          const std::string* text = out.string_of(content, "assistant content");
          if (!text) break;
          out << behind_last_think(*text) << kCallsBegin;
        } else {
          out << "\n";
        }
        r1_call(out, call, arguments);
        first = false;
      }
      leak(8);
      out << kCallsEnd << kEos;
    } else if (is_role(message, "tool")) {
      is_last_user = false;
      is_tool = true;
      leak(12);
      out << (is_output_first ? kOutputsBegin : std::string_view("\n")) << kOutputBegin;
      is_output_first = false;
      out.join(content, "tool content") << kOutputEnd;
    }
  }
  if (is_tool) {
    leak(4);
    out << kOutputsEnd << (variant == Tools0528::vllm ? "\n" : "");
  }
  if (input.add_generation_prompt && !is_last_user && !is_tool) out << kAssistant;
  return out.take();
}

Result<std::string> render_r1_llamacpp(const Input& input) {
  Prompt out;
  const std::string system = system_prompt(input, out, false);
  out << input.bos;
  if (is_truthy(input.tools)) {
    Json functions = Json::array();
    for (const auto& tool : *input.tools) {
      const Json* function = member(tool, "function");
      if (!function) out.stop("a tool has no function");
      else functions.push_back(*function);
    }
    out << "You can call any of the following function tools to satisfy the user's requests: " << to_json(functions, 2)
        << "\n\nExample function tool call syntax:\n\n"
           "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>example_function_name\n```json\n"
           "{\n  \"arg1\": \"some_value\"\n  ...\n}\n```\n<｜tool▁call▁end｜><｜tool▁calls▁end｜>\n\n";
  }
  out << system;
  bool open_outputs = false, is_output_first = true;  // the latter is never reset
  const auto flush = [&] {
    if (open_outputs) out << kOutputsEnd << kEos;
    open_outputs = false;
  };
  for (const auto& message : input.messages) {
    const Json* content = member(message, "content");
    if (!is_role(message, "tool")) flush();
    if (is_role(message, "user")) {
      out << kUser;
      out.join(content, "user content") << kEos;
    } else if (is_role(message, "assistant") && is_null(content)) {
      out << kAssistant << kCallsBegin;
      const Json& calls = calls_of(message, out);
      if (out.stopped()) break;
      bool first = true;
      for (const auto& call : calls) {
        if (!first) out << "\n";
        first = false;
        r1_call(out, call, Arguments::text);
      }
      out << kCallsEnd << kEos;
    } else if (is_role(message, "assistant")) {
      const std::string* text = out.string_of(content, "assistant content");
      if (!text) break;
      out << kAssistant << behind_last_think(*text) << kEos;
    } else if (is_role(message, "tool")) {
      open_outputs = true;
      if (is_output_first) out << kOutputsBegin;
      is_output_first = false;
      out << "\n" << kOutputBegin;
      out.join(content, "tool content") << kOutputEnd;
    }
  }
  flush();
  if (input.add_generation_prompt) out << kAssistant << "<think>\n";
  return out.take();
}

Result<std::string> render_v31(const Input& input) {
  Prompt out;
  const std::string system = system_prompt(input, out, true);
  const bool thinking = is_truthy(member(input.kwargs, "thinking"));
  out << input.bos << system;
  bool is_tool = false, is_last_user = false;
  for (const auto& message : input.messages) {
    const Json* content = member(message, "content");
    if (is_role(message, "user")) {
      is_tool = false;
      is_last_user = true;
      out << kUser;
      out.join(content, "user content");
    } else if (is_role(message, "assistant")) {
      const Json* calls = member(message, "tool_calls");
      if (calls && !calls->is_null()) {
        if (is_last_user) out << kAssistant << kThinkEnd;
        is_last_user = is_tool = false;
        if (!calls->is_array()) {
          out.stop("tool_calls is not a list");
          break;
        }
        bool first = true;
        for (const auto& call : *calls) {
          if (first && !is_null(content)) out.join(content, "assistant content");
          if (first) out << kCallsBegin;
          first = false;
          out << kCallBegin;
          out.join(function_part(call, "name"), "tool_calls.function.name") << kSep;
          out.join(function_part(call, "arguments"), "tool_calls.function.arguments") << kCallEnd;
        }
        out << kCallsEnd << kEos;
        continue;
      }
      if (is_last_user) out << kAssistant << (is_truthy(member(message, "prefix")) && thinking ? kThink : kThinkEnd);
      is_last_user = false;
      const std::string* text = out.string_of(content, "assistant content");
      if (!text) break;
      out << (is_tool ? std::string_view(*text) : behind_first_think(*text)) << kEos;
      is_tool = false;
    } else if (is_role(message, "tool")) {
      is_last_user = false;
      is_tool = true;
      out << kOutputBegin;
      out.join(content, "tool content") << kOutputEnd;
    }
  }
  if (input.add_generation_prompt && is_last_user && !is_tool) out << kAssistant << (thinking ? kThink : kThinkEnd);
  return out.take();
}

}  // namespace kontor::agent::faithful
