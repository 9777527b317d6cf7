// V3.2 and V4: the reference encoders, and llama.cpp's template of V3.2.

#include "agent/dialect/faithful_parts.hpp"

#include <algorithm>
#include <map>
#include <vector>

namespace kontor::agent::faithful {

const ToolsText kV32Tools = {
    "## Tools\n"
    "You have access to a set of tools you can use to answer the user's question.\n"
    "You can invoke functions by writing a \"<｜DSML｜function_calls>\" block like the following as part of your reply to the user:\n"
    "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"$FUNCTION_NAME\">\n"
    "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n...\n"
    "</｜DSML｜invoke>\n<｜DSML｜invoke name=\"$FUNCTION_NAME2\">\n...\n</｜DSML｜invoke>\n</｜DSML｜function_calls>\n"
    "String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should use JSON format. "
    "The \"string\" attribute should be set to \"true\" for string type parameters and \"false\" for other types (numbers, booleans, arrays, objects).\n"
    "If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. Here is an example:\n"
    "<｜DSML｜function_calls>\n...\n</｜DSML｜function_calls>\n<function_results>\n...\n</function_results>\n"
    "<think>...thinking about results</think>\nHere are the functions available in JSONSchema format:\n<functions>\n",
    "", "\n", "</functions>\n"};

const ToolsText kV4Tools = {
    "## Tools\n\n"
    "You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "
    "\"<｜DSML｜tool_calls>\" block like the following:\n\n"
    "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"$TOOL_NAME\">\n"
    "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n...\n"
    "</｜DSML｜invoke>\n<｜DSML｜invoke name=\"$TOOL_NAME2\">\n...\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>\n\n"
    "String parameters should be specified as is and set `string=\"true\"`. For all other types (numbers, booleans, arrays, "
    "objects), pass the value in JSON format and set `string=\"false\"`.\n\n"
    "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> "
    "BEFORE any tool calls or final response.\n\n"
    "Otherwise, output directly after </think> with tool calls or final response.\n\n### Available Tool Schemas\n\n",
    "", "\n", "\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n"};

namespace {

constexpr std::string_view kBosText = "<｜begin▁of▁sentence｜>";

JsonLimits argument_limits() {
  JsonLimits limits;
  limits.refuse_duplicate_keys = false;
  return limits;
}

/// <parameter> elements, one per line; `trailing`: a newline behind the last one, too.
void dsml_parameters(Prompt& out, const Json& arguments, bool trailing) {
  bool first = true;
  for (const auto& [key, value] : arguments.items()) {
    if (!first && !trailing) out << "\n";
    first = false;
    out << "<｜DSML｜parameter name=\"" << key << "\" string=\"" << (value.is_string() ? "true" : "false") << "\">"
        << (value.is_string() ? value.get<std::string>() : to_json(value)) << "</｜DSML｜parameter>";
    if (trailing) out << "\n";
  }
}

const Json* function_of(const Json& item, Prompt& out, const char* what) {
  const Json* function = member(item, "function");
  if (!function || !function->is_object()) out.stop(std::string(what) + " has no function");
  return function;
}

/// The call block of the encoders. `keep_broken`: arguments that are no JSON become one parameter of that name.
void dsml_calls(Prompt& out, const Json& calls, std::string_view block, bool keep_broken) {
  out << "\n\n<｜DSML｜" << block << ">\n";
  bool first = true;
  for (const auto& call : calls) {
    const Json* function = function_of(call, out, "a tool call");
    if (out.stopped()) return;
    if (!first) out << "\n";
    first = false;
    out << "<｜DSML｜invoke name=\"";
    out.join(member(*function, "name"), "tool_calls.function.name") << "\">\n";
    const Json* given = member(*function, "arguments");
    if (!given) return out.stop("tool_calls.function.arguments is missing");
    Json arguments;
    if (auto parsed = given->is_string() ? parse_json(given->get_ref<const std::string&>(), argument_limits())
                                         : Result<Json>(fail(Errc::malformed, "arguments are not text"))) {
      arguments = std::move(*parsed);
    } else if (keep_broken) {
      arguments["arguments"] = *given;
    } else {
      return out.stop("tool_calls.function.arguments is not JSON text");
    }
    if (!arguments.is_object()) return out.stop("tool_calls.function.arguments is not an object");
    dsml_parameters(out, arguments, false);
    out << "\n</｜DSML｜invoke>";
  }
  out << "\n</｜DSML｜" << block << ">";
}

/// The description of the tools; the schemas stand one per line.
void dsml_tools(Prompt& out, const ToolsText& words, const Json& tools) {
  out << words.before;
  bool first = true;
  for (const auto& tool : tools) {
    const Json* function = function_of(tool, out, "a tool");
    if (out.stopped()) return;
    out << (first ? "" : "\n") << to_json(*function);
    first = false;
  }
  out << "\n" << words.after;
}

void response_format(Prompt& out, const Json& message) {
  const Json* format = member(message, "response_format");
  if (is_truthy(format)) {
    out << "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n" << to_json(*format);
  }
}

/// str.format() of a value: null prints as None.
std::string formatted(const Json* value) {
  if (!value || value->is_null()) return "None";
  return value->is_string() ? value->get<std::string>() : to_json(*value);
}
std::string text_or_empty(const Json* value) { return is_truthy(value) ? formatted(value) : std::string(); }

int last_user(const Json& messages) {
  for (std::size_t i = messages.size(); i-- > 0;) {
    if (is_role(messages[i], "user") || is_role(messages[i], "developer")) return static_cast<int>(i);
  }
  return -1;
}

bool thinking_mode(const Json& kwargs, Prompt& out) {
  const Json* mode = member(kwargs, "thinking_mode");
  if (!mode) return true;
  const bool known = mode->is_string() && (*mode == "thinking" || *mode == "chat");
  if (!known) out.stop("thinking_mode is neither thinking nor chat");
  return known && *mode == "thinking";
}

bool flag(const Json& kwargs, const char* key, bool otherwise) {
  const Json* value = member(kwargs, key);
  return value ? is_truthy(value) : otherwise;
}

void v32_result(Prompt& out, const Json& messages, std::size_t index, int last, bool thinking) {
  std::size_t caller = index;
  while (caller > 0 && is_role(messages[caller - 1], "tool")) --caller;
  // `caller` is the first result of the run; the call turn stands in front of it.
  if (caller == 0 || !is_role(messages[caller - 1], "assistant")) return out.stop("a tool result without a call turn");
  const Json* calls = member(messages[caller - 1], "tool_calls");
  const std::size_t order = index - (caller - 1);
  if (!is_truthy(calls) || calls->size() < order) return out.stop("no tool calls but found tool output");
  if (order == 1) out << "\n\n<function_results>";
  out << "\n<result>" << formatted(member(messages[index], "content")) << "</result>";
  if (order < calls->size()) return;
  out << "\n</function_results>\n\n" << (static_cast<int>(index) >= last && thinking ? kThink : kThinkEnd);
}

}  // namespace

Result<std::string> render_v32_official(const Input& input) {
  Prompt out;
  const Json& messages = input.messages;
  const bool thinking = thinking_mode(input.kwargs, out);
  const int last = last_user(messages);
  if (flag(input.kwargs, "add_default_bos_token", true)) out << kBosText;
  for (std::size_t i = 0; i < messages.size() && !out.stopped(); ++i) {
    const Json& message = messages[i];
    const int index = static_cast<int>(i);
    const Json* content = member(message, "content");
    const Json* tools = member(message, "tools");
    const Json* calls = member(message, "tool_calls");
    if (is_truthy(tools) && !tools->is_array()) out.stop("tools is not a list");
    if (is_truthy(calls) && !calls->is_array()) out.stop("tool_calls is not a list");
    if (out.stopped()) break;
    const auto opened = [&] { return index == last && thinking ? kThink : kThinkEnd; };
    if (is_role(message, "system")) {
      out << text_or_empty(content);
      if (is_truthy(tools)) out << "\n\n", dsml_tools(out, kV32Tools, *tools);
      response_format(out, message);
    } else if (is_role(message, "developer")) {
      if (!is_truthy(content)) out.stop("a developer message without content");
      out << kUser;
      if (is_truthy(tools)) out << "\n\n", dsml_tools(out, kV32Tools, *tools);
      response_format(out, message);
      out << "\n\n# The user's message is: " << formatted(content) << kAssistant << opened();
    } else if (is_role(message, "user")) {
      out << kUser << formatted(content) << kAssistant << opened();
    } else if (is_role(message, "tool")) {
      v32_result(out, messages, i, last, thinking);
    } else if (is_role(message, "assistant")) {
      if (thinking && index > last) {
        // Reasoning in front of the last user turn is never printed: that is all that drop_thinking changes.
        const std::string reasoning = text_or_empty(member(message, "reasoning_content"));
        if (reasoning.empty() && !is_truthy(calls)) out.stop("a turn behind the last user message has neither reasoning nor calls");
        out << reasoning << kThinkEnd;
      }
      out << text_or_empty(content);
      if (is_truthy(calls)) dsml_calls(out, *calls, "function_calls", false);
      out << kEos;
    } else {
      out.stop("unknown role");
    }
  }
  return out.take();
}

namespace {

/// Results and neighbouring user texts become one user turn made of blocks, as the V4 encoder prepares them.
Json merged_turns(const Json& messages) {
  Json out = Json::array();
  const auto open_user = [&](bool respect_task) -> Json* {
    if (out.empty() || !is_role(out.back(), "user") || !out.back().contains("content_blocks")) return nullptr;
    const Json* task = member(out.back(), "task");
    return respect_task && task && !task->is_null() ? nullptr : &out.back();
  };
  for (const auto& message : messages) {
    const Json* content = member(message, "content");
    Json block = Json::object();
    if (is_role(message, "tool")) {
      const Json* id = member(message, "tool_call_id");
      block["type"] = "tool_result";
      block["tool_use_id"] = id ? *id : Json("");
      block["content"] = content ? *content : Json("");
      if (Json* user = open_user(false)) {
        (*user)["content_blocks"].push_back(std::move(block));
        continue;
      }
    } else if (is_role(message, "user")) {
      block["type"] = "text";
      block["text"] = content ? *content : Json("");
      if (Json* user = open_user(true)) {
        (*user)["content_blocks"].push_back(std::move(block));
        continue;
      }
    } else {
      out.push_back(message);
      continue;
    }
    Json turn = Json::object();
    turn["role"] = "user";
    for (const char* key : {"task", "wo_eos"}) {
      if (const Json* extra = is_role(message, "user") ? member(message, key) : nullptr) turn[key] = *extra;
    }
    turn["content_blocks"] = Json::array();
    turn["content_blocks"].push_back(std::move(block));
    out.push_back(std::move(turn));
  }
  return out;
}

std::string text_member(const Json& object, const char* key) {
  const Json* value = member(object, key);
  return value && value->is_string() ? value->get<std::string>() : std::string();
}

/// Parallel results in the order of their calls.
void sort_results(Json& messages) {
  std::map<std::string, int> order;
  for (auto& message : messages) {
    const Json* calls = member(message, "tool_calls");
    if (is_role(message, "assistant") && is_truthy(calls) && calls->is_array()) {
      order.clear();
      int position = 0;
      for (const auto& call : *calls) {
        std::string id = text_member(call, "id");
        if (const Json* function = member(call, "function"); id.empty() && function) id = text_member(*function, "id");
        if (!id.empty()) order[id] = position;
        ++position;
      }
    } else if (is_role(message, "user") && message.contains("content_blocks") && !order.empty()) {
      std::vector<Json*> slots;
      for (auto& block : message["content_blocks"]) {
        if (text_member(block, "type") == "tool_result") slots.push_back(&block);
      }
      std::vector<Json> sorted;
      for (const Json* slot : slots) sorted.push_back(*slot);
      const auto rank = [&](const Json& block) {
        const auto found = order.find(text_member(block, "tool_use_id"));
        return found == order.end() ? 0 : found->second;
      };
      std::stable_sort(sorted.begin(), sorted.end(), [&](const Json& a, const Json& b) { return rank(a) < rank(b); });
      for (std::size_t i = 0; i < slots.size(); ++i) *slots[i] = std::move(sorted[i]);
    }
  }
}

std::string block_text(const Json& block, Prompt& out) {
  const std::string type = text_member(block, "type");
  if (type == "text") {
    const std::string* text = out.string_of(member(block, "text"), "user content");
    return text ? *text : std::string();
  }
  if (type != "tool_result") return "[Unsupported " + type + "]";
  const Json* content = member(block, "content");
  if (!content || !content->is_array()) return "<tool_result>" + formatted(content) + "</tool_result>";
  std::string text;
  for (const auto& part : *content) {
    const std::string part_type = text_member(part, "type");
    text += (text.empty() ? "" : "\n\n") + (part_type == "text" ? text_member(part, "text") : "[Unsupported " + part_type + "]");
  }
  return "<tool_result>" + text + "</tool_result>";
}

class V4 {
 public:
  V4(Prompt& out, Json messages, const Json& kwargs, bool thinking)
      : out_(out), messages_(std::move(messages)), thinking_(thinking), drop_(flag(kwargs, "drop_thinking", true)) {
    for (const auto& message : messages_) {
      if (is_truthy(member(message, "tools"))) drop_ = false;
    }
    if (thinking_ && drop_) drop_reasoning();
    last_ = last_user(messages_);
    const Json* effort = member(kwargs, "reasoning_effort");
    max_effort_ = effort && effort->is_string() && *effort == "max";
    if (effort && !effort->is_null() && !max_effort_ && *effort != "high") out_.stop("unknown reasoning_effort");
  }

  void run() {
    for (std::size_t i = 0; i < messages_.size() && !out_.stopped(); ++i) {
      if (i == 0 && thinking_ && max_effort_) effort();
      message(messages_[i], i);
      const bool followed = i + 1 < messages_.size() && !is_role(messages_[i + 1], "assistant") && !is_role(messages_[i + 1], "latest_reminder");
      if (!followed) transition(messages_[i], i);
    }
  }

 private:
  void drop_reasoning() {
    const int last = last_user(messages_);
    Json kept = Json::array();
    for (std::size_t i = 0; i < messages_.size(); ++i) {
      Json& message = messages_[i];
      const bool keep = is_role(message, "user") || is_role(message, "system") || is_role(message, "tool") ||
                        is_role(message, "latest_reminder") || is_role(message, "direct_search_results") || static_cast<int>(i) >= last;
      if (!keep && !is_role(message, "assistant")) continue;
      if (!keep) message.erase("reasoning_content");
      kept.push_back(std::move(message));
    }
    messages_ = std::move(kept);
  }

  void effort() {
    out_ << "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
            "You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, "
            "rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.\n"
            "Explicitly write out your entire deliberation process, documenting every intermediate step, considered alternative, "
            "and rejected hypothesis to ensure absolutely no assumption is left unchecked.\n\n";
  }

  void message(const Json& message, std::size_t index) {
    const Json* content = member(message, "content");
    const Json* tools = member(message, "tools");
    const Json* calls = member(message, "tool_calls");
    if (is_truthy(tools) && !tools->is_array()) return out_.stop("tools is not a list");
    if (is_truthy(calls) && !calls->is_array()) return out_.stop("tool_calls is not a list");
    if (is_role(message, "system")) {
      out_ << text_or_empty(content);
      if (is_truthy(tools)) out_ << "\n\n", dsml_tools(out_, kV4Tools, *tools);
      response_format(out_, message);
    } else if (is_role(message, "developer")) {
      if (!is_truthy(content)) return out_.stop("a developer message without content");
      out_ << kUser << formatted(content);
      if (is_truthy(tools)) out_ << "\n\n", dsml_tools(out_, kV4Tools, *tools);
      response_format(out_, message);
    } else if (is_role(message, "user")) {
      out_ << kUser;
      bool first = true;
      for (const auto& block : message["content_blocks"]) {
        out_ << (first ? "" : "\n\n") << block_text(block, out_);
        first = false;
      }
    } else if (is_role(message, "latest_reminder")) {
      out_ << "<｜latest_reminder｜>" << formatted(content);
    } else if (is_role(message, "assistant")) {
      const Json* task = index > 0 ? member(messages_[index - 1], "task") : nullptr;
      const bool answers_task = task && !task->is_null();
      if (thinking_ && !answers_task && (!drop_ || static_cast<int>(index) > last_)) {
        out_ << text_or_empty(member(message, "reasoning_content")) << kThinkEnd;
      }
      out_ << text_or_empty(content);
      if (is_truthy(calls)) dsml_calls(out_, *calls, "tool_calls", true);
      if (!is_truthy(member(message, "wo_eos"))) out_ << kEos;
    } else {
      out_.stop("unknown role");
    }
  }

  void transition(const Json& message, std::size_t index) {
    const Json* task = member(message, "task");
    if (task && !task->is_null()) {
      const std::string name = task->is_string() ? task->get<std::string>() : std::string();
      bool known = false;
      for (const char* word : {"action", "query", "authority", "domain", "title", "read_url"}) known |= name == word;
      if (!known) return out_.stop("unknown task");
      if (name == "action") out_ << kAssistant << (thinking_ ? kThink : kThinkEnd);
      out_ << "<｜" << name << "｜>";
    } else if (is_role(message, "user") || is_role(message, "developer")) {
      const bool think = thinking_ && (!drop_ || static_cast<int>(index) >= last_);
      out_ << kAssistant << (think ? kThink : kThinkEnd);
    }
  }

  Prompt& out_;
  Json messages_;
  bool thinking_;
  bool drop_;
  bool max_effort_ = false;
  int last_ = -1;
};

}  // namespace

Result<std::string> render_v4_official(const Input& input) {
  Prompt out;
  const bool thinking = thinking_mode(input.kwargs, out);
  if (flag(input.kwargs, "add_default_bos_token", true)) out << kBosText;
  Json messages = merged_turns(input.messages);
  sort_results(messages);
  V4(out, std::move(messages), input.kwargs, thinking).run();
  return out.take();
}

Result<std::string> render_v32_llamacpp(const Input& input) {
  Prompt out;
  const Json& messages = input.messages;
  const Json* mode = member(input.kwargs, "thinking");
  const bool thinking = is_truthy(mode ? mode : member(input.kwargs, "enable_thinking"));
  std::string system;
  bool first_system = true;
  for (const auto& message : messages) {
    if (!is_role(message, "system")) continue;
    system += (first_system ? "" : "\n\n") + text_or_empty(member(message, "content"));
    first_system = false;
  }
  out << input.bos << system;
  if (is_truthy(input.tools)) {
    if (!system.empty()) out << "\n\n";
    out << "## Tools\n\n"
           "You have access to a set of tools you can use to answer the user's question.\n"
           "You can invoke functions by writing a \"<｜DSML｜function_calls>\" block like the following as part of your reply to the user:\n"
           "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"$FUNCTION_NAME\">\n"
           "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n...\n"
           "</｜DSML｜invoke>\n<｜DSML｜invoke name=\"$FUNCTION_NAME2\">\n...\n</｜DSML｜invoke>\n</｜DSML｜function_calls>\n\n"
           "String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should use JSON format. "
           "The \"string\" attribute should be set to \"true\" for string type parameters and \"false\" for other types (numbers, booleans, arrays, objects).\n\n"
           "If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. Here is an example:\n\n"
           "<｜DSML｜function_calls>\n...\n</｜DSML｜function_calls>\n\n<function_results>\n...\n</function_results>\n\n"
           "<think>...thinking about results</think>\n\nHere are the functions available in JSONSchema format:\n<functions>\n";
    for (const auto& tool : *input.tools) {
      if (text_member(tool, "type") != "function") continue;
      if (const Json* function = member(tool, "function")) out << to_json(*function) << "\n";
    }
    out << "</functions>\n";
  }
  const int last = last_user(messages);
  bool after_user = false, after_results = false;
  int caller = -1;
  for (std::size_t i = 0; i < messages.size() && !out.stopped(); ++i) {
    const Json& message = messages[i];
    const Json* content = member(message, "content");
    if (is_role(message, "user")) {
      out << kUser << text_or_empty(content);
      after_user = true;
      after_results = false;
    } else if (is_role(message, "assistant")) {
      if (after_user) out << kAssistant;
      else if (after_results) out << "\n\n";
      if (after_user || after_results) {
        if (static_cast<int>(i) > last && thinking) out << kThink << text_or_empty(member(message, "reasoning_content"));
        out << kThinkEnd;
      }
      after_user = after_results = false;
      out << text_or_empty(content);
      const Json* calls = member(message, "tool_calls");
      if (is_truthy(calls)) {
        if (!calls->is_array()) {
          out.stop("tool_calls is not a list");
          break;
        }
        caller = static_cast<int>(i);
        out << "\n\n<｜DSML｜function_calls>\n";
        for (const auto& call : *calls) {
          const Json* function = function_of(call, out, "a tool call");
          if (out.stopped()) break;
          out << "<｜DSML｜invoke name=\"";
          out.join(member(*function, "name"), "tool_calls.function.name") << "\">\n";
          const Json* given = member(*function, "arguments");
          Json arguments = given ? *given : Json();
          if (arguments.is_string()) {
            auto parsed = parse_json(arguments.get_ref<const std::string&>(), argument_limits());
            arguments = parsed ? std::move(*parsed) : Json();
          }
          if (!arguments.is_object()) out.stop("tool_calls.function.arguments is not an object");
          else dsml_parameters(out, arguments, true);
          out << "</｜DSML｜invoke>\n";
        }
        out << "</｜DSML｜function_calls>";
      }
      out << kEos;
    } else if (is_role(message, "tool")) {
      if (caller < 0) {
        out.stop("a tool result without a call turn");
        break;
      }
      const std::size_t order = i - static_cast<std::size_t>(caller);
      if (order == 1) out << "\n\n<function_results>";
      out << "\n<result>" << text_or_empty(content) << "</result>";
      if (order == messages[caller]["tool_calls"].size()) {
        out << "\n</function_results>";
        after_user = false;
        after_results = true;
      }
    }
  }
  if (input.add_generation_prompt && (after_user || after_results)) {
    out << (after_user ? kAssistant : std::string_view("\n\n")) << kThink << (thinking ? "" : "</think>");
  }
  return out.take();
}

}  // namespace kontor::agent::faithful
