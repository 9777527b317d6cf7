#pragma once
// A tool that talks with its caller while it works: messages, questions, content blocks of the Model Context Protocol.
// Who does not know about it calls it like any other tool.

#include "tools/tool.hpp"

#include <functional>
#include <string>

namespace kontor::tools {

struct Talk {
  /// A message for the caller; `level` is a word of syslog: "info", "warning", ... May be empty.
  std::function<void(const std::string& level, const Json& data)> message;
  /// Questions {"KEY": {"method", "params"}} (elicitation/create, sampling/createMessage, roots/list); blocks, and gives
  /// the answers by key. Empty: there is nobody to ask. Errors: unsupported, cancelled, timeout.
  std::function<Result<Json>(const Json& questions)> ask;
  /// Content blocks that go with the result, in place of its text. May be empty.
  std::function<void(Json blocks)> content;
};

class TalkingTool : public Tool {
 public:
  virtual ToolResult talk(const Json& arguments, const CallContext& context, const Talk& talk) = 0;
  ToolResult call(const Json& arguments, const CallContext& context) override { return talk(arguments, context, Talk{}); }
};

}  // namespace kontor::tools
