#pragma once
// A tool that answers at once with what it was given, for tests and benchmarks of what lies around a call.

#include "tools/tool.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <utility>

namespace kontor::test {

class AnswerTool final : public tools::Tool {
 public:
  AnswerTool(const std::string& name, Json value, tools::Effect effect, bool at_once = false) : value_(std::move(value)) {
    spec_.name = name;
    spec_.description = "Answers at once.";
    spec_.parameters = Json{{"type", "object"}};
    spec_.effect = effect;
    spec_.at_once = at_once;
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::ToolResult call(const Json&, const tools::CallContext&) override { return tools::ToolResult::ok(value_); }

 private:
  tools::ToolSpec spec_;
  Json value_;
};

}  // namespace kontor::test
