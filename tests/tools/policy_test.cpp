#include "tests/support/catch.hpp"

#include "tools/policy.hpp"
#include "tools/registry.hpp"
#include "tools/tightened.hpp"
#include "tools/builtin/function_tool.hpp"

#include <stdexcept>

namespace kontor::tools {
namespace {

ToolSpec named(const std::string& name, Effect effect = Effect::none) {
  ToolSpec spec;
  spec.name = name;
  spec.effect = effect;
  return spec;
}

AskRule rule(const std::string& tool, std::function<Result<bool>(const Json&)> when = {}) {
  AskRule ask;
  ask.tool = tool;
  ask.when = std::move(when);
  ask.when_text = ask.when ? "args.amount > 5000" : "";
  return ask;
}

Result<bool> large(const Json& arguments) {
  if (!arguments.contains("amount")) return fail(Errc::not_found, "args.amount does not exist");
  return arguments["amount"].get<double>() > 5000;
}

using Verdict = Decision::Verdict;

std::shared_ptr<Tool> echo(const std::string& name, const char* parameters) {
  ToolSpec spec;
  spec.name = name;
  spec.parameters = *parse_json(parameters);
  return std::make_shared<FunctionTool>(spec, [](const Json& arguments, const CallContext&) { return ToolResult::ok(arguments); });
}

}  // namespace

TEST_CASE("globs match any run of characters, dots too", "[tools]") {
  REQUIRE(glob_match("*.delete*", "crm.delete_all"));
  REQUIRE(glob_match("erp.*", "erp.pay"));
  REQUIRE(!glob_match("erp.*", "erpx.pay"));
  REQUIRE(glob_match("*", ""));
  REQUIRE(glob_match("a*b*c", "a..b.b..c"));
  REQUIRE(!glob_match("a*b*c", "a..c.b"));
  REQUIRE(!glob_match("", "x"));
  REQUIRE(!glob_match(std::string(2000, '*') + "b", std::string(20000, 'a')));  // Ends soon.
}

TEST_CASE("deny beats ask, allow and everything else", "[tools][policy]") {
  Policy policy;
  policy.deny = {"*.delete*"};
  policy.ask = {rule("crm.delete")};
  policy.allow = {"*"};
  const auto decision = decide(policy, named("crm.delete"), Json::object(), Labels{});
  REQUIRE(decision.verdict == Verdict::deny);
  REQUIRE(decision.rule == "policy.deny \"*.delete*\" forbids crm.delete");
}

TEST_CASE("ask beats allow, by its condition, and asks when the condition cannot be computed", "[tools][policy]") {
  Policy policy;
  policy.ask = {rule("erp.pay", large)};
  policy.allow = {"erp.*"};
  const auto pay = named("erp.pay", Effect::once);
  REQUIRE(decide(policy, pay, Json{{"amount", 9000}}, Labels{}).verdict == Verdict::ask);
  REQUIRE(decide(policy, pay, Json{{"amount", 9000}}, Labels{}).ask == &policy.ask[0]);
  REQUIRE(decide(policy, pay, Json{{"amount", 10}}, Labels{}).verdict == Verdict::allow);
  const auto broken = decide(policy, pay, Json::object(), Labels{});
  REQUIRE(broken.verdict == Verdict::ask);
  REQUIRE(broken.rule.find("could not be computed") != std::string::npos);
  policy.allow.clear();
  REQUIRE(decide(policy, pay, Json{{"amount", 10}}, Labels{}).verdict == Verdict::ask);
}

TEST_CASE("what no rule matches is decided by its effect", "[tools][policy]") {
  const Policy policy;
  REQUIRE(decide(policy, named("a.b"), {}, Labels{}).verdict == Verdict::allow);
  REQUIRE(decide(policy, named("a.b", Effect::idempotent), {}, Labels{}).verdict == Verdict::ask);
  const auto once = decide(policy, named("a.b", Effect::once), {}, Labels{.untrusted = true});
  REQUIRE(once.verdict == Verdict::ask);
  REQUIRE(once.ask == nullptr);
  REQUIRE(!once.rule.empty());
}

TEST_CASE("untrusted text, a secret source and an effect come together only with a person", "[tools][policy]") {
  Policy policy;
  policy.allow = {"*"};
  const Labels both{.untrusted = true, .secret = true};
  CHECK(decide(policy, named("mail.send", Effect::once), {}, both).verdict == Decision::Verdict::ask);
  CHECK(decide(policy, named("mail.read"), {}, both).verdict == Decision::Verdict::allow);
  CHECK(decide(policy, named("mail.send", Effect::once), {}, Labels{.secret = true}).verdict == Decision::Verdict::allow);
  CHECK(decide(policy, named("mail.send", Effect::once), {}, Labels{.untrusted = true}).verdict == Decision::Verdict::allow);
}

TEST_CASE("untrusted influence on a trusted_only tool is refused unless a person may decide", "[tools][policy]") {
  Policy policy;
  policy.allow = {"*"};
  policy.trusted_only = {"erp.pay"};
  const auto pay = named("erp.pay", Effect::once);
  REQUIRE(decide(policy, pay, Json{{"amount", 10}}, Labels{}).verdict == Verdict::allow);
  REQUIRE(decide(policy, pay, Json{{"amount", 10}}, Labels{.untrusted = true}).verdict == Verdict::deny);
  policy.ask = {rule("erp.*", large)};
  // The rule's own condition does not hold, but it names who may lift the refusal.
  const auto small = decide(policy, pay, Json{{"amount", 10}}, Labels{.untrusted = true});
  REQUIRE(small.verdict == Verdict::ask);
  REQUIRE(small.ask == &policy.ask[0]);
  policy.deny = {"erp.pay"};
  REQUIRE(decide(policy, pay, Json{{"amount", 10}}, Labels{.untrusted = true}).verdict == Verdict::deny);
}

TEST_CASE("the registry names the argument and what was expected", "[tools][registry]") {
  Registry registry;
  REQUIRE(registry.add(echo("erp.lookup", R"({"type":"object","properties":{"iban":{"type":"string"},
    "lines":{"type":"array","items":{"type":"object","properties":{"amount":{"type":"string"}}}}},
    "required":["iban"],"additionalProperties":false})")).has_value());
  const auto message = [&](const char* arguments) {
    const auto result = registry.call("erp.lookup", *parse_json(arguments), {});
    REQUIRE(result.is_error);
    REQUIRE(result.error_kind == "invalid_arguments");
    return result.value["error"].get<std::string>();
  };
  REQUIRE(message(R"({"iban":"x","lines":[{"amount":5}]})") == "argument 'lines[0].amount': expected a string, got a number");
  REQUIRE(message("{}") == "missing property 'iban' (a string)");
  REQUIRE(message(R"({"iban":"x","linse":[]})") == "unknown property 'linse' (did you mean 'lines'?)");
  REQUIRE(message("[]") == "the arguments of erp.lookup are one JSON object");
  REQUIRE(!registry.call("erp.lookup", Json{{"iban", "DE1"}}, {}).is_error);
}

TEST_CASE("unknown tools get a suggestion, bad and double names are refused", "[tools][registry]") {
  Registry registry;
  REQUIRE(registry.add(echo("files.read", "{}")).has_value());
  REQUIRE(registry.add(echo("files.list", "{}")).has_value());
  REQUIRE(registry.add(echo("files.read", "{}")).error().code == Errc::conflict);
  for (const std::string name : {"", ".", "a..b", "a.", ".a", "a b", "ä", "a/b"}) REQUIRE(registry.add(echo(name, "{}")).error().code == Errc::malformed);
  REQUIRE(registry.add(echo("x.y", R"({"type":"strin"})")).error().code == Errc::malformed);
  REQUIRE(registry.suggest("files.raed") == "files.read");
  REQUIRE(registry.suggest("read") == "files.read");
  REQUIRE(registry.suggest("files_list") == "files.list");
  REQUIRE(registry.suggest("zzzzzz").empty());
  const auto result = registry.call("files.lst", Json::object(), {});
  REQUIRE(result.error_kind == "unknown_tool");
  REQUIRE(result.value["error"] == "there is no tool 'files.lst' (did you mean 'files.list'?)");
  REQUIRE(registry.match({"*.read", "files.*"}) == std::vector<std::string>{"files.list", "files.read"});
}

TEST_CASE("a tool that throws is an error result", "[tools][registry]") {
  Registry registry;
  ToolSpec spec;
  spec.name = "bad.tool";
  REQUIRE(registry.add(std::make_shared<FunctionTool>(spec, [](const Json&, const CallContext&) -> ToolResult { throw std::runtime_error("boom"); })).has_value());
  REQUIRE(registry.call("bad.tool", Json::object(), {}).error_kind == "crashed");
}

TEST_CASE("effects only get stricter", "[tools]") {
  const auto tool = echo("a.b", "{}");
  REQUIRE((*tightened(tool, Effect::once))->spec().effect == Effect::once);
  REQUIRE(!tightened(*tightened(tool, Effect::once), Effect::none));
  REQUIRE(!effect_named("sometimes"));
}

}  // namespace kontor::tools
