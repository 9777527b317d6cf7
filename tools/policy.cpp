#include "tools/policy.hpp"

#include "tools/registry.hpp"

#include <algorithm>

namespace kontor::tools {
namespace {

const std::string* matching(const std::vector<std::string>& globs, const std::string& name) {
  const auto found = std::find_if(globs.begin(), globs.end(), [&](const auto& glob) { return glob_match(glob, name); });
  return found == globs.end() ? nullptr : &*found;
}

std::string ask_sentence(const AskRule& rule) {
  std::string text = "policy.ask \"" + rule.tool + "\" wants a person";
  if (!rule.when_text.empty()) text += " when " + rule.when_text;
  return text;
}

/// The first rule that asks for this call; `words` tells why.
const AskRule* asking(const Policy& policy, const std::string& name, const Json& arguments, std::string& words) {
  for (const auto& rule : policy.ask) {
    if (!glob_match(rule.tool, name)) continue;
    if (!rule.when) {
      words = ask_sentence(rule);
      return &rule;
    }
    const auto holds = rule.when(arguments);
    if (!holds) {  // A condition that cannot be computed is no permission.
      words = ask_sentence(rule) + ", and that could not be computed: " + holds.error().message;
      return &rule;
    }
    if (*holds) {
      words = ask_sentence(rule);
      return &rule;
    }
  }
  return nullptr;
}

}  // namespace

Decision decide(const Policy& policy, const ToolSpec& tool, const Json& arguments, const Labels& labels) {
  using Verdict = Decision::Verdict;
  if (const auto* glob = matching(policy.deny, tool.name)) {
    return {Verdict::deny, "policy.deny \"" + *glob + "\" forbids " + tool.name, nullptr};
  }
  std::string words;
  const AskRule* rule = asking(policy, tool.name, arguments, words);
  if (labels.untrusted) {
    if (const auto* glob = matching(policy.trusted_only, tool.name)) {
      const std::string why = "policy.trusted_only \"" + *glob + "\" and untrusted text had influence on the call";
      if (rule == nullptr) {
        // A rule whose condition does not hold still names the people who may lift the refusal.
        const auto covers = std::find_if(policy.ask.begin(), policy.ask.end(),
                                         [&](const auto& ask) { return glob_match(ask.tool, tool.name); });
        if (covers != policy.ask.end()) rule = &*covers;
      }
      if (rule == nullptr) return {Verdict::deny, why, nullptr};
      return {Verdict::ask, why + ", so a person decides", rule};
    }
  }
  if (rule != nullptr) return {Verdict::ask, std::move(words), rule};
  if (labels.untrusted && labels.secret && tool.effect != Effect::none) {
    return {Verdict::ask, "rule of two: untrusted text and a secret source had influence on a call with effect " + std::string(to_string(tool.effect)), nullptr};
  }
  if (const auto* glob = matching(policy.allow, tool.name)) {
    return {Verdict::allow, "policy.allow \"" + *glob + "\" permits " + tool.name, nullptr};
  }
  const std::string effect(to_string(tool.effect));
  if (tool.effect == Effect::none) return {Verdict::allow, "no rule matches, and a tool with effect none is allowed", nullptr};
  return {Verdict::ask, "no rule matches, and a tool with effect " + effect + " needs a person unless policy.allow names " + tool.name, nullptr};
}

}  // namespace kontor::tools
