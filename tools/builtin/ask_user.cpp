// builtin.ask_user: a question to a person. The run asks and waits, as it does for approvals; nothing is called here.

#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"

namespace kontor::tools {

std::vector<ToolSpec> describe_ask_user(const std::string& group) {
  ToolSpec spec;
  spec.name = group + ".ask";
  spec.description = "Asks the person in charge a question and waits for the answer.";
  spec.parameters = schema(R"({"type":"object","properties":{
    "question":{"type":"string","minLength":1,"maxLength":4000,"description":"One question, with what a person has to know to answer it"},
    "choices":{"type":"array","items":{"type":"string","minLength":1,"maxLength":200},"minItems":2,"maxItems":20,"uniqueItems":true,"description":"The possible answers; without them any text is one"}},
    "required":["question"],"additionalProperties":false})");
  spec.result = schema(R"({"type":"object","properties":{"answer":{"type":"string"},"by":{"type":"string"}},"required":["answer","by"]})");
  spec.asks_person = true;
  return {spec};
}

Result<Tools> make_ask_user(const std::string& group, const Json& settings, const BuiltinContext&) {
  if (auto checked = check_settings(settings, group, {}); !checked) return checked.error();
  Tools tools;
  tools.push_back(std::make_shared<FunctionTool>(describe_ask_user(group)[0], [](const Json&, const CallContext&) {
    return ToolResult::error("unsupported", "a person is asked by a run only: call this tool from an agent or a workflow");
  }));
  return tools;
}

}  // namespace kontor::tools
