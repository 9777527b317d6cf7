#include "plugins/host/plugin_tool.hpp"

#include "tools/json_text.hpp"

#include <string_view>
#include <utility>

namespace kontor::plugins {
namespace {

constexpr JsonLimits kResultLimits{64, kResultBytesMax, true};

/// Error kinds are words in the journal; what a plugin makes up beyond that is not kept.
std::string word(std::string kind) {
  const bool fine = !kind.empty() && kind.size() <= 64 && kind.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789") == std::string::npos;
  return fine ? std::move(kind) : std::string("failed");
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

/// Lets the plugin talk to the caller: JSON text there, values here.
void let_talk(CallRequest& request, const tools::Talk& talk) {
  if (talk.message) {
    request.message = [&talk](const std::string& level, const std::string& json) {
      if (const auto data = parse_json(json, kResultLimits)) talk.message(level, *data);
    };
  }
  if (talk.content) {
    request.content = [&talk](const std::string& json) {
      if (auto blocks = parse_json(json, kResultLimits)) talk.content(std::move(*blocks));
    };
  }
  if (!talk.ask) return;
  request.ask = [&talk](const std::string& json, std::string& answers) {
    const auto questions = parse_json(json, kResultLimits);
    const auto given = questions ? talk.ask(*questions) : Result<Json>(questions.error());
    answers = tools::compact_json(given ? *given : Json(given.error().message));
    return given.has_value();
  };
}

tools::ToolResult result_of(Answer answer, const std::string& name) {
  if (answer.kind != Answer::Kind::result) {
    if (answer.text.empty()) answer.text = "the tool failed without saying why";
    if (!is_utf8(answer.text)) answer.text = "the tool failed with a message that is not UTF-8";
    return tools::ToolResult::error(word(std::move(answer.error_kind)), answer.text);
  }
  auto value = parse_json(answer.text, kResultLimits);
  if (!value) return tools::ToolResult::error("bad_result", name + " answered with text that is not valid JSON: " + value.error().describe());
  auto result = tools::ToolResult::ok(std::move(*value));
  result.text = trim(answer.text);
  return result;
}

class PluginTool final : public tools::TalkingTool {
 public:
  PluginTool(std::shared_ptr<Instance> instance, std::size_t index, tools::ToolSpec spec)
      : instance_(std::move(instance)), index_(index), spec_(std::move(spec)) {}

  const tools::ToolSpec& spec() const override { return spec_; }

  tools::ToolResult talk(const Json& arguments, const tools::CallContext& context, const tools::Talk& talk) override {
    CallRequest asked = request(arguments, context, false);
    let_talk(asked, talk);
    return result_of(instance_->call(asked), spec_.name);
  }

  tools::Probe probe(const Json& arguments, const tools::CallContext& context) override {
    tools::Probe probe;
    if (!spec_.has_probe) return probe;
    const Answer answer = instance_->call(request(arguments, context, true));
    if (answer.kind != Answer::Kind::probed) return probe;  // A probe that fails has found nothing out.
    if (answer.probe_state == KONTOR_PROBE_NOT_HAPPENED) probe.state = tools::Probe::State::not_happened;
    if (answer.probe_state == KONTOR_PROBE_HAPPENED) {
      probe.state = tools::Probe::State::happened;
      if (auto value = parse_json(answer.text, kResultLimits)) probe.value = std::move(*value);
    }
    return probe;
  }

 private:
  CallRequest request(const Json& arguments, const tools::CallContext& context, bool probe) const {
    CallRequest made;
    made.tool = index_;
    made.probe = probe;
    made.arguments = tools::compact_json(arguments);
    made.run_id = context.run_id;
    made.call_id = context.call_id;
    made.idempotency_key = context.idempotency_key;
    made.timeout_ms = spec_.timeout_ms;
    made.stop = context.stop;
    made.progress = context.progress;
    if (context.partial) made.partial = [tell = context.partial](const std::string& json) { tell(json); };
    return made;
  }

  const std::shared_ptr<Instance> instance_;
  const std::size_t index_;
  const tools::ToolSpec spec_;
};

}  // namespace

std::shared_ptr<tools::Tool> make_plugin_tool(std::shared_ptr<Instance> instance, std::size_t index, tools::ToolSpec spec) {
  return std::make_shared<PluginTool>(std::move(instance), index, std::move(spec));
}

tools::ToolResult request_plugin(Instance& instance, const std::string& method, const Json& params, const tools::CallContext& context, const tools::Talk& talk) {
  CallRequest request;
  request.method = method;
  request.arguments = tools::compact_json(params);
  request.run_id = context.run_id;
  request.call_id = context.call_id;
  request.stop = context.stop;
  request.progress = context.progress;
  let_talk(request, talk);
  return result_of(instance.call(request), method);
}

}  // namespace kontor::plugins
