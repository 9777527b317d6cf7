#pragma once
// Deny, then ask, then allow; deny beats every flag. What no rule matches: effect none is allowed, others ask.

#include "tools/labels.hpp"
#include "tools/tool.hpp"

#include <functional>
#include <string>
#include <vector>

namespace kontor::tools {

struct AskRule {
  std::string tool;                                        ///< Name or glob.
  std::function<Result<bool>(const Json& arguments)> when; ///< Empty: always. An error asks (fail closed).
  std::string when_text;
  std::vector<std::string> who;
  std::int64_t expires_ms = 0;                             ///< 0: never.
  std::string on_expire;
  std::int64_t people = 1;                                 ///< How many different people must approve.
};

struct Policy {
  std::vector<std::string> deny;
  std::vector<AskRule> ask;
  std::vector<std::string> allow;
  std::vector<std::string> untrusted;     ///< Tools whose results are untrusted.
  std::vector<std::string> trusted_only;  ///< Refused when influenced by untrusted text, unless a person approves.
};

struct Decision {
  enum class Verdict { allow, ask, deny } verdict = Verdict::allow;
  std::string rule;                       ///< The rule in words, for the journal and `runs show`.
  const AskRule* ask = nullptr;
};

/// `labels`: of everything that had influence on the call. Untrusted text, a secret source and an effect outside never
/// come together without a person (rule of two).
Decision decide(const Policy& policy, const ToolSpec& tool, const Json& arguments, const Labels& labels);

}  // namespace kontor::tools
