#include "agent/importer/jinja_text.hpp"
#include "agent/spec/expression.hpp"
#include "tests/importer/imported.hpp"

#include <nlohmann/json.hpp>

using namespace kontor;
using kontor::agent::ForeignFormat;
using kontor::agent::StepSpec;
using kontor::test::ImportedFolder;

namespace {

const kontor::agent::JinjaInputs kInputs{{"mode", {"mode", "string"}}, {"deep", {"deep", "boolean"}}, {"limit", {"limit", "number"}}};

/// The text with these inputs, or what was not understood.
std::string shown(const std::string& text, const Json& inputs) {
  std::string wrong;
  const auto made = agent::jinja_text(text, kInputs, [&](std::size_t at, std::string_view what) { wrong += std::to_string(at) + " " + std::string(what) + "\n"; });
  if (!wrong.empty()) return "wrong: " + wrong;
  const auto parsed = agent::Template::parse(made);
  INFO(made);
  REQUIRE(parsed.has_value());
  const auto value = parsed->evaluate([&](std::string_view name) { return name == "inputs" ? &inputs : nullptr; });
  REQUIRE(value.has_value());
  return value->is_string() ? value->get<std::string>() : value->dump();
}

}  // namespace

TEST_CASE("conditions of a recipe's text decide as they did", "[import][goose]") {
  const std::string text = "a{% if mode == \"fast\" and not deep %} F{% elif mode == 'slow' or limit > 5 %} S {{ limit }}{% else %} E{% if deep %}d{% endif %}{% endif %} z";
  CHECK(shown(text, Json{{"mode", "fast"}, {"deep", false}, {"limit", 1}}) == "a F z");
  CHECK(shown(text, Json{{"mode", "fast"}, {"deep", true}, {"limit", 1}}) == "a Ed z");
  CHECK(shown(text, Json{{"mode", "slow"}, {"deep", true}, {"limit", 2}}) == "a S 2 z");
  CHECK(shown(text, Json{{"mode", "x"}, {"deep", false}, {"limit", 9}}) == "a S 9 z");
  CHECK(shown(text, Json{{"mode", "x"}, {"deep", false}, {"limit", 1}}) == "a E z");
  CHECK(shown("{% if mode %}yes{% endif %}", Json{{"mode", ""}}) == "");
  CHECK(shown("{% if \"a\" in mode %}yes{% endif %}", Json{{"mode", "cab"}}) == "yes");
  CHECK(shown("{% if 'a' not in mode %}yes{% endif %}", Json{{"mode", "cab"}}) == "");
  CHECK(shown("{% if deep == 'true' %}yes{% endif %}", Json{{"deep", true}}) == "yes");
}

TEST_CASE("signs of expressions in a recipe's text stand for themselves", "[import][goose]") {
  const Json inputs{{"mode", "5"}, {"deep", true}, {"limit", 1}};
  CHECK(shown("${{ mode }} and ${mode} and $${", inputs) == "$5 and ${mode} and $${");
  CHECK(shown("it's {% if deep %}'a' \\ ${x}\n}{% endif %}", inputs) == "it's 'a' \\ ${x}\n}");
  CHECK(shown("a  {#- a comment -#}  b", inputs) == "ab");
  CHECK(shown("x\n{%- if deep -%}\n y\n{%- endif %} z", inputs) == "xy z");
}

TEST_CASE("what is not understood in a recipe's text is told with its place", "[import][goose]") {
  CHECK(shown("a {{ other }}", {}) == "wrong: 2 {{ other }}\n");
  CHECK(shown("{{ mode | upper }}", {}) == "wrong: 0 {{ mode | upper }}\n");
  CHECK(shown("{% if mode is defined %}x{% endif %}", {}).rfind("wrong: 0 {% if mode is defined %}", 0) == 0);
  CHECK(shown("{% for x in mode %}", {}).rfind("wrong: 0 {% for", 0) == 0);
  CHECK(shown("{% if deep %}never closed", {}).rfind("wrong: 0 an {% if %} without", 0) == 0);
  CHECK(shown("{% endif %}", {}).rfind("wrong: 0", 0) == 0);
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += "{% if deep %}";
  CHECK(shown(deep, {}).rfind("wrong:", 0) == 0);
  // Deeper than is followed: told, and what stands behind its end is read again.
  std::string within = "{{ mode }}";
  for (int i = 0; i < 30; ++i) within = "{% if deep %}" + within + "{% endif %}";
  const std::string told = shown(within + "{{ other }}", {});
  CHECK(told.find("more than 20 levels deep") != std::string::npos);
  CHECK(told.ends_with(" {{ other }}\n"));
  for (const char* piece : {"{% if deep %}", "{% if deep %}a{% elif deep %}", "{% if deep %}{{", "{% ", "{{ ", "{# "}) {
    std::string many;
    while (many.size() < (1u << 20)) many += piece;
    INFO(piece);
    const std::string what = shown(many, {});
    CHECK((what == many || what.starts_with("wrong:")));
  }
  std::string chain = "{% if deep %}a";
  for (int i = 0; i < 50'000; ++i) chain += "{% elif deep %}b";
  CHECK(shown(chain + "{% endif %}", {}).starts_with("wrong:"));
  CHECK(shown("{% if " + std::string(5000, '(') + " %}{% endif %}", {}).rfind("wrong: 0", 0) == 0);
}

TEST_CASE("a recipe becomes an agent, its prompt a workflow of one step", "[import][goose]") {
  const ImportedFolder result(ForeignFormat::goose, R"(version: 1.0.0
title: Compare two quotes
description: Compares the quotes of two suppliers
author: {contact: someone}
instructions: You compare quotes in {{ currency }}.
prompt: |
  Compare {{ first }} with the other one.
  {% if strict == "yes" %}
  Name every difference.
  {% endif %}
parameters:
  - {key: currency, input_type: select, requirement: optional, default: EUR, options: [EUR, USD], description: Currency}
  - {key: first, input_type: file, requirement: required, description: The first quote}
  - {key: strict, input_type: string, requirement: user_prompt, description: yes or no}
  - {key: limit, input_type: number, requirement: optional, default: "12.5", description: Limit}
extensions:
  - {type: builtin, name: developer, bundled: true, timeout: 300}
  - {type: builtin, name: memory}
  - {type: stdio, name: Rates, cmd: uvx, args: [rates-mcp], envs: {REGION: eu}, env_keys: [RATES_KEY], available_tools: [get_rate]}
  - {type: streamable_http, name: docs, uri: "https://docs.example/mcp", headers: {Authorization: "Bearer $DOCS"}}
settings: {goose_provider: anthropic, goose_model: claude, temperature: 0.2, max_turns: 9}
response:
  json_schema: {type: object, properties: {winner: {type: string}}, required: [winner], additionalProperties: false}
activities: [Compare]
)");
  INFO(result.findings());
  REQUIRE(result.spec);
  CHECK(result.imported.complete());
  CHECK(result.spec->name == "Compare-two-quotes");
  const auto& agent = result.agent("Compare-two-quotes");
  CHECK(agent.instruction == "You compare quotes in ${inputs.currency}.");
  CHECK(agent.tools == std::vector<std::string>{"files.*", "shell.run", "memory.*", "Rates.*", "docs.*"});
  CHECK(agent.max_steps == 9);
  CHECK(agent.output_schema.has_value());
  REQUIRE(result.spec->workflow.size() == 1);
  CHECK(result.spec->workflow[0].kind == StepSpec::Kind::agent);
  CHECK(result.spec->workflow[0].with.at("task").get<std::string>().find("Compare ${inputs.first} with") == 0);
  REQUIRE(result.spec->inputs.size() == 4);
  CHECK(result.spec->inputs[0].default_value == Json("EUR"));
  CHECK(result.spec->inputs[1].type == "file");
  CHECK(result.spec->inputs[1].required);
  CHECK(result.spec->inputs[3].default_value == Json(12.5));
  CHECK(result.tool("Rates").settings.at("config") == Json{{"REGION", "eu"}, {"RATES_KEY", "{{secret:rates_key}}"}});
  CHECK(result.spec->models.at(0).temperature == 0.2);
  CHECK(result.finds("12:78 left-out: the choices of 'currency'"));
}

TEST_CASE("what a recipe says and Kontor cannot do is named with its place", "[import][goose]") {
  const ImportedFolder result(ForeignFormat::goose, R"(title: T
instructions: |
  First.
    Then {{ unknown }}.
sub_recipes: [{name: a, path: a.yaml}]
retry: {max_retries: 2, checks: [{type: shell, command: "true"}]}
extensions:
  - {type: builtin, name: computercontroller}
  - {type: sse, name: old, uri: "https://old.example/sse"}
  - {type: stdio, name: files, cmd: npx, args: ["server", "{{ unknown }}"]}
mood: good
)");
  INFO(result.findings());
  REQUIRE(result.spec);
  CHECK_FALSE(result.imported.complete());
  CHECK(result.finds("4:10 unsupported: '{{ unknown }}'"));
  CHECK(result.finds("5:1 unsupported: 'sub_recipes'"));
  CHECK(result.finds("6:1 unsupported: 'retry'"));
  CHECK(result.finds("8:5 unsupported: the extension 'computercontroller'"));
  CHECK(result.finds("9:5 unsupported: the extension 'old'"));
  CHECK(result.finds("10:59 unsupported: an argument of 'files'"));
  CHECK(result.finds("11:1 unsupported: 'mood'"));
  CHECK(ImportedFolder(ForeignFormat::goose, "title: T\n").error.code == Errc::usage);
}
