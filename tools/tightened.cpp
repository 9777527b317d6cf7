#include "tools/tightened.hpp"

namespace kontor::tools {
namespace {

class Tightened final : public Tool {
 public:
  Tightened(std::shared_ptr<Tool> inner, Effect effect) : inner_(std::move(inner)), spec_(inner_->spec()) { spec_.effect = effect; }

  const ToolSpec& spec() const override { return spec_; }
  ToolResult call(const Json& arguments, const CallContext& context) override { return inner_->call(arguments, context); }
  Probe probe(const Json& arguments, const CallContext& context) override { return inner_->probe(arguments, context); }

 private:
  std::shared_ptr<Tool> inner_;
  ToolSpec spec_;
};

}  // namespace

Result<Effect> effect_named(std::string_view name) {
  for (const Effect effect : {Effect::none, Effect::idempotent, Effect::once}) {
    if (name == to_string(effect)) return effect;
  }
  return fail(Errc::malformed, "an effect is none, idempotent or once, not '" + std::string(name) + "'", "effect");
}

Result<std::shared_ptr<Tool>> tightened(std::shared_ptr<Tool> tool, Effect effect) {
  const Effect declared = tool->spec().effect;
  if (effect == declared) return tool;
  if (effect < declared) {
    return fail(Errc::conflict, tool->spec().name + " declares effect " + std::string(to_string(declared)) +
                                    "; a setting may make it stricter, not " + std::string(to_string(effect)),
                "effect");
  }
  return std::shared_ptr<Tool>(std::make_shared<Tightened>(std::move(tool), effect));
}

}  // namespace kontor::tools
