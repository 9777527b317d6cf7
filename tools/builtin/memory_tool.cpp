// builtin.memory: remember, recall, list, forget. The store is behind MemoryAccess.

#include "tools/builtin/memory_tool.hpp"

#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"

namespace kontor::tools {
namespace {

constexpr const char* kSpace = R"("namespace":{"type":"string","minLength":1,"maxLength":200,"description":"Which memory; the default one when not given"})";

ToolSpec base_spec(const std::string& group, const std::string& function, const std::string& description, const std::string& properties,
                   const std::string& required) {
  ToolSpec spec;
  spec.name = group + "." + function;
  spec.description = description;
  spec.parameters = schema((R"({"type":"object","properties":{)" + properties + (properties.empty() ? "" : ",") + kSpace +
                            R"(},"required":[)" + required + R"(],"additionalProperties":false})").c_str());
  return spec;
}

Json fact_json(const MemoryFact& fact, bool scored) {
  Json out{{"id", fact.id}, {"text", fact.text}, {"source", fact.source}, {"trusted", fact.trusted}};
  if (fact.secret) out["secret"] = true;
  if (scored) out["score"] = fact.score;
  return out;
}

ToolResult facts(Result<std::vector<MemoryFact>> found, bool scored) {
  if (!found) return error_result(found.error());
  Json list = Json::array();
  Labels labels;
  for (const auto& fact : *found) {
    list.push_back(fact_json(fact, scored));
    labels |= {!fact.trusted, fact.secret};
  }
  ToolResult result = ToolResult::ok(Json{{"facts", std::move(list)}});
  result.labels = labels;
  return result;
}

}  // namespace

std::vector<ToolSpec> describe_memory(const std::string& group) {
  const std::string limit = R"("limit":{"type":"integer","minimum":1,"maximum":100})";
  std::vector<ToolSpec> specs{
      base_spec(group, "remember", "Keeps a fact for later runs. The same text is kept once.",
                R"("text":{"type":"string","minLength":1,"maxLength":8000,"description":"One fact that makes sense alone"})", R"("text")"),
      base_spec(group, "recall", "Finds remembered facts that fit a question best.",
                R"("query":{"type":"string","minLength":1,"maxLength":2000},)" + limit, R"("query")"),
      base_spec(group, "list", "Lists the newest remembered facts.", limit, ""),
      base_spec(group, "forget", "Removes one fact by its id.", R"("id":{"type":"integer","minimum":1})", R"("id")")};
  specs[0].effect = Effect::idempotent;
  specs[3].effect = Effect::idempotent;
  // What was remembered may have come from outside; each fact carries its own label, the whole the weaker one.
  specs[1].untrusted_output = specs[2].untrusted_output = true;
  specs[1].labelled_output = specs[2].labelled_output = true;
  return specs;
}

Result<Tools> make_memory(const std::string& group, const Json& settings, const BuiltinContext& context) {
  if (auto checked = check_settings(settings, group, {"namespace", "limit", "embedder"}); !checked) return checked.error();
  const auto space = text_setting(settings, group, "namespace", "default");
  if (!space) return space.error();
  const auto limit = number_setting(settings, group, "limit", 5, 100);
  if (!limit) return limit.error();
  if (context.memory == nullptr) return fail(Errc::usage, "tools." + group + " needs a memory store, and this run has none", "no_memory");

  const auto memory = context.memory;
  const auto in = [fallback = *space](const Json& arguments) {
    return arguments.contains("namespace") ? arguments["namespace"].get<std::string>() : fallback;
  };
  const auto most = [fallback = *limit](const Json& arguments) {
    return static_cast<std::size_t>(arguments.contains("limit") ? arguments["limit"].get<std::int64_t>() : fallback);
  };
  auto specs = describe_memory(group);
  Tools tools;
  tools.push_back(std::make_shared<FunctionTool>(specs[0], [=](const Json& arguments, const CallContext& call) {
    // The model wrote the text, perhaps under the influence of a stranger: never a trusted source.
    const auto id = memory->remember(in(arguments), arguments["text"].get<std::string>(), "run " + call.run_id + " call " + call.call_id, {true, call.labels.secret});
    return id ? ToolResult::ok(Json{{"id", *id}}) : error_result(id.error());
  }));
  tools.push_back(std::make_shared<FunctionTool>(specs[1], [=](const Json& arguments, const CallContext&) {
    return facts(memory->recall(in(arguments), arguments["query"].get<std::string>(), most(arguments)), true);
  }));
  tools.push_back(std::make_shared<FunctionTool>(specs[2], [=](const Json& arguments, const CallContext&) {
    return facts(memory->list(in(arguments), most(arguments)), false);
  }));
  tools.push_back(std::make_shared<FunctionTool>(specs[3], [=](const Json& arguments, const CallContext&) {
    const auto gone = memory->forget(in(arguments), arguments["id"].get<std::int64_t>());
    return gone ? ToolResult::ok(Json{{"forgotten", *gone}}) : error_result(gone.error());
  }));
  return tools;
}

}  // namespace kontor::tools
