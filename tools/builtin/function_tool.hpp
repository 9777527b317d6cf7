#pragma once
// A tool made of its description and one function; how the built-ins are written.

#include "tools/tool.hpp"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kontor::tools {

class FunctionTool final : public Tool {
 public:
  using Function = std::function<ToolResult(const Json& arguments, const CallContext& context)>;

  FunctionTool(ToolSpec spec, Function function) : spec_(std::move(spec)), function_(std::move(function)) {}

  const ToolSpec& spec() const override { return spec_; }
  ToolResult call(const Json& arguments, const CallContext& context) override { return function_(arguments, context); }

 private:
  ToolSpec spec_;
  Function function_;
};

/// The error as the model reads it: kinds follow Errc (not_found, denied, io, ...).
ToolResult error_result(const Error& error);

/// Errors: usage, naming the first key of `settings` that is not in `known`, with a suggestion.
Result<void> check_settings(const Json& settings, const std::string& group, const std::vector<std::string>& known);

/// A text setting or `fallback`. Errors: usage when it is not text.
Result<std::string> text_setting(const Json& settings, const std::string& group, const std::string& key, const std::string& fallback);

/// A whole number from 1 to `most`, or `fallback`. Errors: usage.
Result<std::int64_t> number_setting(const Json& settings, const std::string& group, const std::string& key,
                                    std::int64_t fallback, std::int64_t most);

}  // namespace kontor::tools
