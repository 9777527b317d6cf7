#include "plugins/host/plugin_tool.hpp"

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

class PluginTool final : public tools::Tool {
 public:
  PluginTool(std::shared_ptr<Instance> instance, std::size_t index, tools::ToolSpec spec)
      : instance_(std::move(instance)), index_(index), spec_(std::move(spec)) {}

  const tools::ToolSpec& spec() const override { return spec_; }

  tools::ToolResult call(const Json& arguments, const tools::CallContext& context) override {
    Answer answer = instance_->call(request(arguments, context, false));
    if (answer.kind != Answer::Kind::result) {
      if (answer.text.empty()) answer.text = "the tool failed without saying why";
      if (!is_utf8(answer.text)) answer.text = "the tool failed with a message that is not UTF-8";
      return tools::ToolResult::error(word(std::move(answer.error_kind)), answer.text);
    }
    auto value = parse_json(answer.text, kResultLimits);
    if (!value) {
      return tools::ToolResult::error("bad_result", spec_.name + " answered with text that is not valid JSON: " + value.error().describe());
    }
    auto result = tools::ToolResult::ok(std::move(*value));
    result.text = trim(answer.text);
    return result;
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
    return {index_, probe, arguments.dump(-1, ' ', false, Json::error_handler_t::replace), context.run_id, context.call_id,
            context.idempotency_key, spec_.timeout_ms, context.stop, context.progress};
  }

  const std::shared_ptr<Instance> instance_;
  const std::size_t index_;
  const tools::ToolSpec spec_;
};

}  // namespace

std::shared_ptr<tools::Tool> make_plugin_tool(std::shared_ptr<Instance> instance, std::size_t index, tools::ToolSpec spec) {
  return std::make_shared<PluginTool>(std::move(instance), index, std::move(spec));
}

}  // namespace kontor::plugins
