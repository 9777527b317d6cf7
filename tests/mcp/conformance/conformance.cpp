// What the MCP conformance suite looks for in a server: each tool, resource and prompt does one thing of the protocol.

#include "plugins/sdk/kontor_plugin.hpp"

#include <chrono>
#include <string>
#include <thread>

using namespace kontor::plugin;

namespace {

constexpr const char* kImage = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
constexpr const char* kSound = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";

Json text_block(const std::string& text) { return Json{{"type", "text"}, {"text", text}}; }
Json image_block() { return Json{{"type", "image"}, {"data", kImage}, {"mimeType", "image/png"}}; }
Json resource_block(const std::string& uri, const std::string& type, const std::string& text) {
  return Json{{"type", "resource"}, {"resource", Json{{"uri", uri}, {"mimeType", type}, {"text", text}}}};
}

/// Blocks as the result.
Json blocks(const Call& call, const Json& list) {
  call.content(list);
  return Json{{"blocks", list.size()}};
}
Json says(const Call& call, const std::string& text) { return blocks(call, Json::array({text_block(text)})); }

Json field(const char* type) { return Json{{"type", type}}; }
Json elicitation(const std::string& message, const Json& properties, const Json& required = Json::array()) {
  Json schema{{"type", "object"}, {"properties", properties}};
  if (!required.empty()) schema["required"] = required;
  return Json{{"method", "elicitation/create"}, {"params", Json{{"mode", "form"}, {"message", message}, {"requestedSchema", schema}}}};
}
Json sampling(const std::string& text, int tokens) {
  return Json{{"method", "sampling/createMessage"},
              {"params", Json{{"messages", Json::array({Json{{"role", "user"}, {"content", text_block(text)}}})}, {"maxTokens", tokens}}}};
}
Json roots() { return Json{{"method", "roots/list"}, {"params", Json::object()}}; }
Json named(const char* key, const std::string& question) { return Json{{key, elicitation(question, Json{{"name", field("string")}}, Json::array({"name"}))}}; }

std::string content_of(const Json& answer, const char* key) {
  return answer.contains("content") && answer["content"].is_object() ? answer["content"].value(key, "unknown") : "unknown";
}
std::string sampled(const Json& answer) {
  return answer.contains("content") && answer["content"].is_object() ? answer["content"].value("text", "") : "";
}
std::string outcome(const Json& answer) {
  return "action=" + answer.value("action", "") + ", content=" + (answer.contains("content") ? answer["content"] : Json::object()).dump();
}

Json user_message(const Json& content) { return Json{{"role", "user"}, {"content", content}}; }

}  // namespace

struct Suite {
  explicit Suite(const Setup&) {}

  Json simple(const Json&, Call& call) { return says(call, "This is a simple text response for testing."); }
  Json image(const Json&, Call& call) { return blocks(call, Json::array({image_block()})); }
  Json audio(const Json&, Call& call) { return blocks(call, Json::array({Json{{"type", "audio"}, {"data", kSound}, {"mimeType", "audio/wav"}}})); }
  Json embedded(const Json&, Call& call) { return blocks(call, Json::array({resource_block("test://embedded-resource", "text/plain", "This is an embedded resource content.")})); }
  Json mixed(const Json&, Call& call) {
    return blocks(call, Json::array({text_block("Multiple content types test:"), image_block(), resource_block("test://mixed-content-resource", "application/json", R"({"test":"data","value":123})")}));
  }
  Json logging(const Json&, Call& call) {
    for (const char* line : {"Tool execution started", "Tool processing data", "Tool execution completed"}) {
      call.message("info", line);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return says(call, "Tool with logging executed successfully");
  }
  Json error(const Json&, Call&) { throw ToolError("failed", "This tool intentionally returns an error for testing"); }
  Json progress(const Json&, Call& call) {
    for (const double done : {0.0, 0.5, 1.0}) {
      call.progress(done, "step");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return says(call, "Tool with progress executed successfully");
  }
  Json sample(const Json& arguments, Call& call) {
    return says(call, "LLM response: " + sampled(call.ask(Json{{"q", sampling(arguments.value("prompt", ""), 100)}})["q"]));
  }
  Json elicit(const Json& arguments, Call& call) {
    const Json form{{"username", Json{{"type", "string"}, {"description", "User's response"}}}, {"email", Json{{"type", "string"}, {"description", "User's email address"}}}};
    return says(call, "User response: " + outcome(call.ask(Json{{"q", elicitation(arguments.value("message", ""), form, Json::array({"username", "email"}))}})["q"]));
  }
  Json defaults(const Json&, Call& call) {
    const auto with = [](const char* type, const Json& value) { return Json{{"type", type}, {"default", value}}; };
    const Json form{{"name", with("string", "John Doe")}, {"age", with("integer", 30)}, {"score", with("number", 95.5)},
                    {"status", Json{{"type", "string"}, {"enum", Json::array({"active", "inactive", "pending"})}, {"default", "active"}}}, {"verified", with("boolean", true)}};
    return says(call, "Elicitation completed: " + outcome(call.ask(Json{{"q", elicitation("Please review the fields", form)}})["q"]));
  }
  Json enums(const Json&, Call& call) {
    const Json options = Json::array({"option1", "option2", "option3"});
    const auto titled = [](const char* word) {
      Json list = Json::array();
      for (const char* number : {"1", "2", "3"}) list.push_back(Json{{"const", std::string("value") + number}, {"title", word + std::string(" ") + number}});
      return list;
    };
    const Json form{{"untitledSingle", Json{{"type", "string"}, {"enum", options}}},
                    {"titledSingle", Json{{"type", "string"}, {"oneOf", titled("Option")}}},
                    {"legacyEnum", Json{{"type", "string"}, {"enum", Json::array({"opt1", "opt2", "opt3"})}, {"enumNames", Json::array({"Option One", "Option Two", "Option Three"})}}},
                    {"untitledMulti", Json{{"type", "array"}, {"items", Json{{"type", "string"}, {"enum", options}}}}},
                    {"titledMulti", Json{{"type", "array"}, {"items", Json{{"anyOf", titled("Choice")}}}}}};
    return says(call, "Elicitation completed: " + outcome(call.ask(Json{{"q", elicitation("Please select options", form)}})["q"]));
  }
  Json schema(const Json& arguments, Call& call) { return says(call, "JSON Schema 2020-12 tool called with: " + arguments.dump()); }

  Json input_elicitation(const Json&, Call& call) { return says(call, "Hello, " + content_of(call.ask(named("user_name", "What is your name?"))["user_name"], "name") + "!"); }
  Json input_sampling(const Json&, Call& call) {
    return says(call, sampled(call.ask(Json{{"capital_question", sampling("What is the capital of France?", 100)}})["capital_question"]));
  }
  Json input_roots(const Json&, Call& call) { return says(call, "Roots: " + call.ask(Json{{"client_roots", roots()}})["client_roots"].dump()); }
  Json input_state(const Json&, Call& call) {
    call.ask(Json{{"confirm", elicitation("Please confirm", Json{{"ok", field("boolean")}}, Json::array({"ok"}))}});
    return says(call, "state-ok");
  }
  Json input_several(const Json&, Call& call) {
    Json questions = named("user_name", "What is your name?");
    questions["greeting"] = sampling("Generate a greeting", 50);
    questions["client_roots"] = roots();
    const Json answers = call.ask(questions);
    return says(call, sampled(answers.value("greeting", Json::object())) + " " + content_of(answers.value("user_name", Json::object()), "name"));
  }
  Json input_rounds(const Json&, Call& call) {
    const std::string name = content_of(call.ask(named("step1", "Step 1: What is your name?"))["step1"], "name");
    const Json second = call.ask(Json{{"step2", elicitation("Step 2: What is your favorite color?", Json{{"color", field("string")}}, Json::array({"color"}))}});
    return says(call, name + " likes " + content_of(second["step2"], "color"));
  }
  Json input_capabilities(const Json&, Call& call) {
    Json questions = named("user_name", "What is your name?");
    questions["greeting"] = sampling("Generate a greeting", 50);
    return says(call, call.ask(questions).dump());
  }
  Json missing_capability(const Json&, Call& call) { return says(call, sampled(call.ask(Json{{"q", sampling("Hello", 10)}})["q"])); }

  static constexpr std::string_view kRequests[] = {"resources/list", "resources/read", "resources/templates/list", "resources/subscribe", "resources/unsubscribe",
                                                   "prompts/list", "prompts/get", "completion/complete"};

  Json request(const std::string& method, const Json& params, Call& call) {
    if (method == "resources/list") {
      return Json{{"resources", Json::array({resource("test://static-text", "Static Text", "text/plain"), resource("test://static-binary", "Static Binary", "image/png"),
                                             resource("test://watched-resource", "Watched", "text/plain")})}};
    }
    if (method == "resources/templates/list") {
      return Json{{"resourceTemplates", Json::array({Json{{"uriTemplate", "test://template/{id}/data"}, {"name", "Template"}, {"description", "Data by id"}, {"mimeType", "application/json"}}})}};
    }
    if (method == "resources/read") return read(params.value("uri", ""));
    if (method == "prompts/list") return prompts();
    if (method == "prompts/get") return prompt(params.value("name", ""), params.value("arguments", Json::object()), call);
    if (method == "completion/complete") return Json{{"completion", Json{{"values", Json::array()}, {"total", 0}, {"hasMore", false}}}};
    return Json::object();  // Subscriptions are taken; nothing here changes.
  }

 private:
  static Json resource(const char* uri, const char* name, const char* type) { return Json{{"uri", uri}, {"name", name}, {"description", name}, {"mimeType", type}}; }

  static Json read(const std::string& uri) {
    const auto contents = [&](const char* type, const char* member, const std::string& data) { return Json{{"contents", Json::array({Json{{"uri", uri}, {"mimeType", type}, {member, data}}})}}; };
    if (uri == "test://static-text") return contents("text/plain", "text", "This is the content of the static text resource.");
    if (uri == "test://static-binary") return contents("image/png", "blob", kImage);
    if (uri == "test://watched-resource") return contents("text/plain", "text", "Nobody changes this.");
    const std::string begin = "test://template/", end = "/data";
    if (uri.size() > begin.size() + end.size() && uri.compare(0, begin.size(), begin) == 0 && uri.compare(uri.size() - end.size(), end.size(), end) == 0) {
      const std::string id = uri.substr(begin.size(), uri.size() - begin.size() - end.size());
      return contents("application/json", "text", Json{{"id", id}, {"templateTest", true}, {"data", "Data for ID: " + id}}.dump());
    }
    throw ToolError("not_found", "there is no resource " + uri);
  }

  static Json prompts() {
    const auto prompt = [](const char* name, const Json& arguments = nullptr) {
      Json made{{"name", name}, {"description", name}};
      if (!arguments.is_null()) made["arguments"] = arguments;
      return made;
    };
    const auto argument = [](const char* name) { return Json{{"name", name}, {"description", name}, {"required", true}}; };
    return Json{{"prompts", Json::array({prompt("test_simple_prompt"), prompt("test_prompt_with_arguments", Json::array({argument("arg1"), argument("arg2")})),
                                         prompt("test_prompt_with_embedded_resource", Json::array({argument("resourceUri")})), prompt("test_prompt_with_image"),
                                         prompt("test_input_required_result_prompt")})}};
  }

  static Json prompt(const std::string& name, const Json& arguments, Call& call) {
    const auto messages = [](const Json& list) { return Json{{"messages", list}}; };
    if (name == "test_simple_prompt") return messages(Json::array({user_message(text_block("This is a simple prompt for testing."))}));
    if (name == "test_prompt_with_arguments") {
      return messages(Json::array({user_message(text_block("Prompt with arguments: arg1='" + arguments.value("arg1", "") + "', arg2='" + arguments.value("arg2", "") + "'"))}));
    }
    if (name == "test_prompt_with_embedded_resource") {
      return messages(Json::array({user_message(resource_block(arguments.value("resourceUri", ""), "text/plain", "Embedded resource content for testing.")),
                                   user_message(text_block("Please process the embedded resource above."))}));
    }
    if (name == "test_prompt_with_image") return messages(Json::array({user_message(image_block()), user_message(text_block("Please analyze the image above."))}));
    if (name == "test_input_required_result_prompt") {
      const Json answers = call.ask(Json{{"user_context", elicitation("What context should the prompt use?", Json{{"context", field("string")}}, Json::array({"context"}))}});
      return messages(Json::array({user_message(text_block("Context: " + content_of(answers["user_context"], "context")))}));
    }
    throw ToolError("not_found", "there is no prompt " + name);
  }
};

#define NO_ARGUMENTS R"({"type": "object", "properties": {}})"
#define TOOL(tool_name, about, method) {.name = tool_name, .description = about, .parameters = NO_ARGUMENTS, .call = call<&Suite::method>}

KONTOR_PLUGIN(Suite, "conformance", "1.0.0", "What the MCP conformance suite looks for.", KONTOR_NO_PERMISSIONS,
  TOOL("test_simple_text", "Answers with text.", simple),
  TOOL("test_image_content", "Answers with an image.", image),
  TOOL("test_audio_content", "Answers with a sound.", audio),
  TOOL("test_embedded_resource", "Answers with a resource.", embedded),
  TOOL("test_multiple_content_types", "Answers with text, image and resource.", mixed),
  TOOL("test_tool_with_logging", "Logs while it works.", logging),
  TOOL("test_logging_tool", "Logs while it works.", logging),
  TOOL("test_tool_with_progress", "Reports progress.", progress),
  TOOL("test_error_handling", "Fails.", error),
  {.name = "test_sampling", .description = "Asks the model of the client.",
   .parameters = R"({"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]})", .call = call<&Suite::sample>},
  {.name = "test_elicitation", .description = "Asks the person at the client.",
   .parameters = R"({"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]})", .call = call<&Suite::elicit>},
  TOOL("test_elicitation_sep1034_defaults", "Asks with default values.", defaults),
  TOOL("test_elicitation_sep1330_enums", "Asks with all kinds of choices.", enums),
  {.name = "json_schema_2020_12_tool", .description = "Has a schema with all that JSON Schema 2020-12 allows.",
   .parameters = R"({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
     "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
     "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}, "contactMethod": {"type": "string", "enum": ["phone", "email"]},
       "phone": {"type": "string"}, "email": {"type": "string"}},
     "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
     "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]}, "then": {"required": ["phone"]}, "else": {"required": ["email"]},
     "additionalProperties": false})", .call = call<&Suite::schema>},
  TOOL("test_input_required_result_elicitation", "Asks for a name.", input_elicitation),
  TOOL("test_streaming_elicitation", "Asks for a name.", input_elicitation),
  TOOL("test_input_required_result_sampling", "Asks the model.", input_sampling),
  TOOL("test_input_required_result_list_roots", "Asks for the roots.", input_roots),
  TOOL("test_input_required_result_request_state", "Asks and keeps its state.", input_state),
  TOOL("test_input_required_result_tampered_state", "Asks and keeps its state.", input_state),
  TOOL("test_input_required_result_multiple_inputs", "Asks three things at once.", input_several),
  TOOL("test_input_required_result_multi_round", "Asks twice.", input_rounds),
  TOOL("test_input_required_result_capabilities", "Asks what the client can answer.", input_capabilities),
  TOOL("test_missing_capability", "Needs sampling.", missing_capability));
