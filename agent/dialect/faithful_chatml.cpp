// The ChatML templates: Qwen3, QwQ and Hermes-2-Pro.

#include "agent/dialect/faithful_parts.hpp"

namespace kontor::agent::faithful {

const ToolsText kQwenTools = {
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>",
    "\n", "",
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> "
    "XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>"};

namespace {

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>\n";

void qwen_tools(Prompt& out, const Json& tools) {
  out << kQwenTools.before;
  for (const auto& tool : tools) out << kQwenTools.each << to_json(tool);
  out << kQwenTools.after << kEnd;
}

/// What `{{ value }}` prints.
std::string printed(const Json* value) {
  if (!value) return {};
  if (value->is_string()) return value->get<std::string>();
  if (value->is_null()) return "None";
  if (value->is_boolean()) return value->get<bool>() ? "True" : "False";
  return to_json(*value);
}

const Json& unwrapped(const Json& call) {
  const Json* function = member(call, "function");
  return function && is_truthy(function) ? *function : call;
}

void chatml_turn(Prompt& out, const Json& message) {
  out << kStart;
  out.join(member(message, "role"), "role") << "\n";
  out.join(member(message, "content"), "content") << kEnd;
}

void tool_response(Prompt& out, const Json& messages, std::size_t index) {
  if (index == 0 || !is_role(messages[index - 1], "tool")) out << kStart << "user";
  out << "\n<tool_response>\n" << printed(member(messages[index], "content")) << "\n</tool_response>";
  if (index + 1 == messages.size() || !is_role(messages[index + 1], "tool")) out << kEnd;
}

bool is_tool_response(std::string_view text) { return text.starts_with("<tool_response>") && text.ends_with("</tool_response>"); }

}  // namespace

Result<std::string> render_qwen3(const Input& input) {
  Prompt out;
  const Json& messages = input.messages;
  const bool has_system = !messages.empty() && is_role(messages[0], "system");
  if (is_truthy(input.tools)) {
    out << kStart << "system\n";
    if (has_system) out.join(member(messages[0], "content"), "system content") << "\n\n";
    qwen_tools(out, *input.tools);
  } else if (has_system) {
    chatml_turn(out, messages[0]);
  }
  // The last user turn that is not a wrapped tool result.
  std::size_t last_query = messages.size() - 1;
  for (std::size_t i = messages.size(); i-- > 0;) {
    if (!is_role(messages[i], "user")) continue;
    const std::string* text = out.string_of(member(messages[i], "content"), "user content");
    if (text && is_tool_response(*text)) continue;
    last_query = i;
    break;
  }
  for (std::size_t i = 0; i < messages.size() && !out.stopped(); ++i) {
    const Json& message = messages[i];
    if (is_role(message, "user") || (is_role(message, "system") && i > 0)) {
      chatml_turn(out, message);
    } else if (is_role(message, "tool")) {
      tool_response(out, messages, i);
    } else if (is_role(message, "assistant")) {
      const std::string* whole = out.string_of(member(message, "content"), "assistant content");
      if (!whole) break;
      std::string_view content = *whole, reasoning;
      const Json* given = member(message, "reasoning_content");
      if (given && !given->is_null()) {
        const std::string* text = out.string_of(given, "reasoning_content");
        if (!text) break;
        reasoning = *text;
      } else if (const std::size_t close = content.find(kThinkEnd); close != std::string_view::npos) {
        reasoning = strip_newlines(content.substr(0, close), false, true);
        if (const std::size_t open = reasoning.rfind(kThink); open != std::string_view::npos) reasoning = reasoning.substr(open + kThink.size());
        reasoning = strip_newlines(reasoning, true, false);
        content = strip_newlines(behind_last_think(content), true, false);
      }
      out << kStart << "assistant\n";
      if (i > last_query && (i + 1 == messages.size() || !reasoning.empty())) {
        out << "<think>\n" << strip_newlines(reasoning) << "\n</think>\n\n" << strip_newlines(content, true, false);
      } else {
        out << content;
      }
      const Json* calls = member(message, "tool_calls");
      if (is_truthy(calls) && !calls->is_array()) out.stop("tool_calls is not a list");
      bool first = true;
      for (const auto& call : is_truthy(calls) ? *calls : Json::array()) {
        if (!first || !content.empty()) out << "\n";
        first = false;
        const Json& function = unwrapped(call);
        out << "<tool_call>\n{\"name\": \"" << printed(member(function, "name")) << "\", \"arguments\": ";
        const Json* arguments = member(function, "arguments");
        if (!arguments) out.stop("tool_calls.function.arguments is missing");
        else out << (arguments->is_string() ? arguments->get<std::string>() : to_json(*arguments));
        out << "}\n</tool_call>";
      }
      out << kEnd;
    }
  }
  if (input.add_generation_prompt) {
    out << kStart << "assistant\n";
    const Json* thinking = member(input.kwargs, "enable_thinking");
    if (thinking && thinking->is_boolean() && !thinking->get<bool>()) out << "<think>\n\n</think>\n\n";
  }
  return out.take();
}

Result<std::string> render_qwq(const Input& input) {
  Prompt out;
  const Json& messages = input.messages;
  const bool has_system = !messages.empty() && is_role(messages[0], "system");
  if (is_truthy(input.tools)) {
    out << kStart << "system\n";
    if (has_system) out.join(member(messages[0], "content"), "system content");
    out << "\n\n";
    qwen_tools(out, *input.tools);
  } else if (has_system) {
    chatml_turn(out, messages[0]);
  }
  for (std::size_t i = 0; i < messages.size() && !out.stopped(); ++i) {
    const Json& message = messages[i];
    if (is_role(message, "user") || (is_role(message, "system") && i > 0)) {
      chatml_turn(out, message);
    } else if (is_role(message, "tool")) {
      tool_response(out, messages, i);
    } else if (is_role(message, "assistant")) {
      const Json* calls = member(message, "tool_calls");
      const Json* value = member(message, "content");
      const bool last = i + 1 == messages.size();
      const bool with_calls = is_truthy(calls);
      // Only the turn at the very end is not looked into, and only a call turn may do without text.
      std::string_view content;
      if (!(with_calls && last && !is_truthy(value))) {
        const std::string* text = out.string_of(value, "assistant content");
        if (!text) break;
        content = last ? std::string_view(*text) : strip_newlines(behind_last_think(*text), true, false);
      }
      out << kStart << "assistant";
      if (!with_calls) {
        out << "\n" << content << kEnd;
        continue;
      }
      if (is_truthy(value)) out << "\n" << content;
      if (!calls->is_array()) out.stop("tool_calls is not a list");
      for (const auto& call : *calls) {
        const Json* inner = member(call, "function");
        const Json& function = inner ? *inner : call;
        out << "\n<tool_call>\n{\"name\": \"" << printed(member(function, "name")) << "\", \"arguments\": ";
        const Json* arguments = member(function, "arguments");
        if (!arguments) out.stop("tool_calls.function.arguments is missing");
        else out << to_json(*arguments);
        out << "}\n</tool_call>";
      }
      out << kEnd;
    }
  }
  if (input.add_generation_prompt) out << kStart << "assistant\n<think>\n";
  return out.take();
}

namespace {

// A schema deeper than this is no parameter list; the template itself would recurse without end.
constexpr int kTypeDepth = 64;

/// The template's names for JSON Schema types.
std::string python_type(const Json* spec, Prompt& out, int depth = 0) {
  if (depth > kTypeDepth) return out.stop("parameter types nest too deep"), std::string();
  const Json* type = spec ? member(*spec, "type") : nullptr;
  if (type && type->is_string()) {
    const std::string& name = type->get_ref<const std::string&>();
    if (name == "string") return "str";
    if (name == "number") return "float";
    if (name == "integer") return "int";
    if (name == "boolean") return "bool";
    if (name == "array") return "list[" + python_type(nullptr, out, depth + 1) + "]";
    if (name == "object") {
      const Json* values = member(*spec, "additionalProperties");
      return values ? "dict[str, " + python_type(values, out, depth + 1) + "]" : "dict";
    }
    if (!name.empty()) out.stop("parameter type '" + name + "' is not one the template knows");
    return "Union[]";
  }
  if (type && type->is_array()) {
    std::string names;
    for (const auto& item : *type) {
      Json one = Json::object();
      one["type"] = item;
      names += (names.empty() ? "" : ",") + python_type(&one, out, depth + 1);
    }
    return "Union[" + names + "]";
  }
  return type && !type->is_object() ? "Any" : "Union[]";
}

void hermes_tool(Prompt& out, const Json& given) {
  static const Json kNone = Json::object();
  const Json* inner = member(given, "function");
  const Json& tool = inner ? *inner : given;
  const Json* parameters = member(tool, "parameters");
  const Json* found = parameters ? member(*parameters, "properties") : nullptr;
  if (found && !found->is_object()) return out.stop("parameters.properties is not an object");
  const Json& properties = found ? *found : kNone;
  const std::string* name = out.string_of(member(tool, "name"), "tool name");
  if (!name) return;
  out << "{\"type\": \"function\", \"function\": {\"name\": \"" << *name << "\", \"description\": \"" << *name << "(";
  bool first = true;
  for (const auto& [key, fields] : properties.items()) {
    out << (first ? "" : ", ") << key << ": " << python_type(&fields, out);
    first = false;
  }
  out << ")";
  const Json* result = member(tool, "return");
  if (result) out << " -> " << python_type(result, out);
  out << " - ";
  out.join(member(tool, "description"), "tool description") << "\n\n";
  first = true;
  for (const auto& [key, fields] : properties.items()) {
    if (first) out << "    Args:\n";
    first = false;
    std::string text = printed(member(fields, "description"));
    const std::size_t begin = text.find_first_not_of(" \t\r\n");
    text = begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
    out << "        " << key << "(" << python_type(&fields, out) << "): " << text;
  }
  if (const Json* description = result ? member(*result, "description") : nullptr) {
    out << "\n    Returns:\n        ";
    out.join(description, "return description");
  }
  out << "\", \"parameters\": " << (properties.empty() ? "{}" : to_json(*parameters)) << "}";
}

}  // namespace

Result<std::string> render_hermes2pro(const Input& input) {
  Prompt out;
  const Json& messages = input.messages;
  out << input.bos << kStart
      << "system\nYou are a function calling AI model. You are provided with function signatures within <tools></tools> XML "
         "tags. You may call one or more functions to assist with the user query. Don't make assumptions about what values "
         "to plug into functions. Here are the available tools: <tools> ";
  if (input.tools) {
    bool first = true;
    for (const auto& tool : *input.tools) {
      out << (first ? "" : "\n");
      first = false;
      hermes_tool(out, tool);
    }
  }
  out << " </tools>Use the following pydantic model json schema for each tool call you will make: {\"properties\": {\"name\": "
         "{\"title\": \"Name\", \"type\": \"string\"}, \"arguments\": {\"title\": \"Arguments\", \"type\": \"object\"}}, "
         "\"required\": [\"name\", \"arguments\"], \"title\": \"FunctionCall\", \"type\": \"object\"}}\n"
         "For each function call return a json object with function name and arguments within <tool_call></tool_call> XML "
         "tags as follows:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-dict>}\n</tool_call><|im_end|>\n";
  for (std::size_t i = 0; i < messages.size() && !out.stopped(); ++i) {
    const Json& message = messages[i];
    const bool last = i + 1 == messages.size();
    if (is_role(message, "user") || is_role(message, "system") ||
        (is_role(message, "assistant") && !message.contains("tool_calls"))) {
      chatml_turn(out, message);
    } else if (is_role(message, "assistant")) {
      out << kStart << "assistant";
      const Json& calls = message["tool_calls"];
      if (!calls.is_array()) out.stop("tool_calls is not a list");
      for (const auto& call : calls.is_array() ? calls : Json::array()) {
        const Json* inner = member(call, "function");
        const Json& function = inner ? *inner : call;
        out << "\n<tool_call>\n{\"name\": \"" << printed(member(function, "name")) << "\", ";
        if (const Json* arguments = member(function, "arguments")) {
          out << "\"arguments\": " << (arguments->is_string() ? arguments->get<std::string>() : to_json(*arguments));
        }
        out << "}\n</tool_call>";
      }
      out << kEnd;
    } else if (is_role(message, "tool")) {
      if (i > 0 && !is_role(messages[i - 1], "tool")) out << kStart << "tool\n";
      out << "<tool_response>\n" << printed(member(message, "content")) << "\n</tool_response>" << (last ? "" : "\n");
      if (last || !is_role(messages[i + 1], "tool")) out << "<|im_end|>";
    }
  }
  if (input.add_generation_prompt) out << kStart << "assistant\n";
  return out.take();
}

}  // namespace kontor::agent::faithful
