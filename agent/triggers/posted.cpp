#include "agent/triggers/posted.hpp"

#include "agent/assembly.hpp"

#include <algorithm>

namespace kontor::agent {
namespace {

constexpr const char* kWhole = "body";
constexpr std::size_t kDepthMax = 64;

const InputSpec* find_input(const Spec& spec, const std::string& name) {
  const auto found = std::find_if(spec.inputs.begin(), spec.inputs.end(), [&](const InputSpec& input) { return input.name == name; });
  return found == spec.inputs.end() ? nullptr : &*found;
}

}  // namespace

Result<Json> posted_inputs(const Spec& spec, const TriggerSpec& trigger, std::string_view text) {
  JsonLimits limits;
  limits.depth = kDepthMax;
  auto body = parse_json(text, limits);
  if (!body) return fail(body.error().code, "the body is not a JSON object: " + body.error().describe(), body.error().kind);
  if (!body->is_object()) return fail(Errc::malformed, "the body is not a JSON object", "body");
  Json inputs = trigger.inputs;
  const InputSpec* whole = find_input(spec, kWhole);
  if (whole && whole->type == "object" && !inputs.contains(kWhole)) {
    inputs[kWhole] = std::move(*body);
    return resolve_inputs(spec, inputs);
  }
  for (auto& [name, value] : body->items()) {
    const InputSpec* input = find_input(spec, name);
    if (input && (input->type == "file" || input->type == "dir")) return fail(Errc::usage, "the input '" + name + "' names a place on the machine and is not taken from a message", "input");
    if (inputs.contains(name)) return fail(Errc::usage, "the input '" + name + "' is set by the trigger", "input");
    inputs[name] = std::move(value);
  }
  return resolve_inputs(spec, inputs);
}

}  // namespace kontor::agent
