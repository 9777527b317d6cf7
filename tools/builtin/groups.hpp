#pragma once
// The makers behind make_builtin, one for each group of functions. Internal to tools/builtin.

#include "tools/builtin/builtin.hpp"

namespace kontor::tools {

using Tools = std::vector<std::shared_ptr<Tool>>;

std::vector<ToolSpec> describe_ask_user(const std::string& group);
Result<Tools> make_ask_user(const std::string& group, const Json& settings, const BuiltinContext& context);

std::vector<ToolSpec> describe_files(const std::string& group);
Result<Tools> make_files(const std::string& group, const Json& settings, const BuiltinContext& context);

std::vector<ToolSpec> describe_table(const std::string& group);
Result<Tools> make_table(const std::string& group, const Json& settings, const BuiltinContext& context);

std::vector<ToolSpec> describe_math(const std::string& group);
Result<Tools> make_math(const std::string& group, const Json& settings, const BuiltinContext& context);

std::vector<ToolSpec> describe_http(const std::string& group);
Result<Tools> make_http(const std::string& group, const Json& settings, const BuiltinContext& context);

std::vector<ToolSpec> describe_mail(const std::string& group);
Result<Tools> make_mail(const std::string& group, const Json& settings, const BuiltinContext& context);

std::vector<ToolSpec> describe_shell(const std::string& group);
Result<Tools> make_shell(const std::string& group, const Json& settings, const BuiltinContext& context);

std::vector<ToolSpec> describe_text(const std::string& group);
Result<Tools> make_text(const std::string& group, const Json& settings, const BuiltinContext& context);

std::vector<ToolSpec> describe_time(const std::string& group);
Result<Tools> make_time(const std::string& group, const Json& settings, const BuiltinContext& context);

std::vector<ToolSpec> describe_memory(const std::string& group);
Result<Tools> make_memory(const std::string& group, const Json& settings, const BuiltinContext& context);

/// A schema written as text in the source.
Json schema(const char* text);

}  // namespace kontor::tools
