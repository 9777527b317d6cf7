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
sub_recipes: [{name: a, path: a.yaml}, {name: b}, 7]
retry: {max_retries: 2, checks: [{type: shell, command: "make test"}]}
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
  CHECK(result.finds("5:25 unsupported: the sub-recipe 'a.yaml': only a recipe in a file has others beside it"));
  CHECK(result.finds("5:40 unsupported: the sub-recipe 'b' has no path"));
  CHECK(result.finds("5:51 unsupported: a sub-recipe is not a mapping"));
  CHECK(result.finds("6:34 unsupported: a check of 'retry': a command decides"));
  CHECK(result.finds("8:5 unsupported: the extension 'computercontroller'"));
  CHECK(result.finds("9:5 unsupported: the extension 'old'"));
  CHECK(result.finds("10:59 unsupported: an argument of 'files'"));
  CHECK(result.finds("11:1 unsupported: 'mood'"));
  CHECK(ImportedFolder(ForeignFormat::goose, "title: T\n").error.code == Errc::usage);
}

TEST_CASE("sub-recipes become sub-agents", "[import][goose]") {
  namespace fs = std::filesystem;
  std::string pattern = (fs::temp_directory_path() / "kontor-recipes-XXXXXX").string();
  const fs::path folder = ::mkdtemp(pattern.data());
  const auto write = [&](const std::string& name, const std::string& text) {
    fs::create_directories((folder / name).parent_path());
    std::ofstream(folder / name) << text;
  };
  write("in/main.yaml", R"(title: Month end
instructions: Close the month.
prompt: Close {{ month }}.
parameters:
  - {key: month, input_type: string, requirement: required, description: Month}
sub_recipes:
  - {name: book keeper, path: ./sub/books.yaml, values: {period: "{{ month }}", strict: "true", depth: "3"}, description: Checks the books}
  - {name: writer, path: sub/writer.yaml, sequential_when_repeated: true}
  - {name: gone, path: sub/gone.yaml}
  - {name: out, path: ../out.yaml}
  - {name: abs, path: /etc/hostname}
  - {name: link, path: sub/link.yaml}
  - {name: mixed, path: sub/writer.yaml, values: {tone: "very {{ month }}"}}
  - {name: empty, path: sub/empty.yaml}
  - {name: writer, path: sub/writer.yaml}
)");
  write("in/sub/books.yaml", R"(title: Books
description: Looks at every entry.
instructions: Check {{ account }} in {{ period }}{% if strict %} strictly{% endif %}, {{ depth }} deep, in {{ unit }}.
prompt: Report.
parameters:
  - {key: account, input_type: string, requirement: required, description: Account}
  - {key: period, input_type: string, requirement: required, description: Period}
  - {key: strict, input_type: boolean, requirement: optional, default: "false", description: Strict}
  - {key: depth, input_type: number, requirement: optional, default: "1", description: Depth}
  - {key: unit, input_type: string, requirement: optional, default: EUR, description: Unit}
extensions: [{type: builtin, name: memory}]
response: {json_schema: {type: object, properties: {ok: {type: boolean}}, required: [ok]}}
sub_recipes: [{name: deeper, path: writer.yaml}]
)");
  write("in/sub/writer.yaml", "title: Writer\ninstructions: Write.\nsettings: {goose_model: small}\n");
  write("in/sub/empty.yaml", "title: Empty\n");
  write("out.yaml", "title: Out\ninstructions: Out.\n");
  fs::create_symlink(folder / "out.yaml", folder / "in/sub/link.yaml");
  const auto imported = kontor::agent::import_file(ForeignFormat::goose, (folder / "in/main.yaml").string());
  REQUIRE(imported.has_value());
  std::string findings;
  for (const auto& finding : imported->findings)
    findings += fs::path(finding.file).filename().string() + ":" + std::to_string(finding.line) + ":" + std::to_string(finding.column) + (finding.unsupported ? " unsupported: " : " left-out: ") + finding.message + "\n";
  INFO(findings);
  INFO(imported->text);
  const auto finds = [&](const std::string& words) { return findings.find(words) != std::string::npos; };
  CHECK(finds("main.yaml:8:43 left-out: 'sequential_when_repeated'"));
  CHECK(finds("main.yaml:9:18 unsupported: the sub-recipe 'sub/gone.yaml' cannot be read"));
  CHECK(finds("main.yaml:10:17 unsupported: the sub-recipe '../out.yaml' cannot be read: it lies outside of the folder"));
  CHECK(finds("main.yaml:11:17 unsupported: the sub-recipe '/etc/hostname' cannot be read: it lies outside"));
  CHECK(finds("main.yaml:12:18 unsupported: the sub-recipe 'sub/link.yaml' cannot be read: it lies outside"));
  CHECK(finds("main.yaml:13:57 unsupported: the value of 'tone'"));
  CHECK(finds("main.yaml:14:19 unsupported: the sub-recipe 'sub/empty.yaml': "));
  CHECK(finds("main.yaml:15:5 unsupported: two agents would be named 'writer'"));
  CHECK(finds("books.yaml:10:6 left-out: the parameter 'unit' has its default"));
  CHECK(finds("books.yaml:13:1 unsupported: 'sub_recipes' of the sub-recipe 'book-keeper'"));
  CHECK(imported->text.find("#   books.yaml, line 13: ") != std::string::npos);
  // The same text passes the checker and says what the recipes say.
  fs::create_directories(folder / "made/schemas");
  std::ofstream(folder / "made/agent.yaml") << imported->text;
  for (const auto& file : imported->files) std::ofstream(folder / "made" / file.path) << file.text;
  const auto checked = kontor::agent::check_file((folder / "made/agent.yaml").string());
  REQUIRE(checked.spec);
  REQUIRE(checked.spec->agents.size() == 4);
  const auto& main = checked.spec->agents[0];
  CHECK(main.name == "Month-end");
  CHECK(main.sub_agents == std::vector<std::string>{"book-keeper", "writer", "mixed"});
  const auto& books = checked.spec->agents[1];
  CHECK(books.name == "book-keeper");
  CHECK(books.instruction == "Check ${inputs.book_keeper_account} in ${inputs.month}${(inputs.book_keeper_strict) ? ' strictly' : ''}, ${inputs.book_keeper_depth} deep, in ${inputs.book_keeper_unit}.\n\nReport.");
  CHECK(books.role == "Books. Checks the books. Looks at every entry. The task has to say: account");
  CHECK(books.tools == std::vector<std::string>{"memory.*"});
  CHECK(books.output_schema.has_value());
  CHECK(books.model == main.model);
  CHECK(checked.spec->agents[2].model != main.model);
  CHECK(checked.spec->agents[2].model == checked.spec->agents[3].model);
  const auto input = [&](const std::string& name) {
    for (const auto& candidate : checked.spec->inputs) {
      if (candidate.name == name) return candidate.type + " " + candidate.default_value.value_or(Json()).dump();
    }
    return std::string("none");
  };
  CHECK(input("book_keeper_account") == "string \"(account, as the task says)\"");
  CHECK(input("book_keeper_strict") == "boolean true");
  CHECK(input("book_keeper_depth") == "number 3");
  CHECK(input("book_keeper_unit") == "string \"EUR\"");
  CHECK(input("book_keeper_period") == "none");
  fs::remove_all(folder);
}

TEST_CASE("a retry whose checks only print is no retry", "[import][goose]") {
  const auto findings = [](const std::string& retry) {
    const ImportedFolder result(ForeignFormat::goose, "title: T\ninstructions: Do it.\nretry: " + retry + "\n");
    CHECK(result.spec);
    return result.findings();
  };
  CHECK(findings("{max_retries: 2, checks: [{type: shell, command: \"echo 'looks good'\"}, {command: 'echo \"ok\"'}, {command: 'true'}], on_failure: \"echo 'no'\", timeout_seconds: 5}") == "3:1 left-out: 'retry' of the recipe: its checks only print, so they never fail\n");
  CHECK(findings("{max_retries: 2}") == "3:1 left-out: 'retry' of the recipe: its checks only print, so they never fail\n");
  for (const char* command : {"echo 'a' && test -f x", "'echo \"$(false)\"'", "'echo \"a\" | grep b \"\"'", "echoes 'a'", "false"}) {
    INFO(command);
    CHECK(findings(std::string("{max_retries: 1, checks: [{type: shell, command: ") + command + "}]}").find("unsupported: a check of 'retry'") != std::string::npos);
  }
  CHECK(findings("{checks: 7}").find("unsupported: 'checks' of retry is not a list") != std::string::npos);
  CHECK(findings("again").find("unsupported: 'retry' is not a mapping") != std::string::npos);
}

TEST_CASE("the folder of a recipe is an input", "[import][goose]") {
  const ImportedFolder result(ForeignFormat::goose, "title: T\ninstructions: Read {{ recipe_dir }}/rules.md.\n");
  INFO(result.findings());
  REQUIRE(result.spec);
  CHECK(result.imported.complete());
  REQUIRE(result.spec->inputs.size() == 1);
  CHECK(result.spec->inputs[0].default_value == Json("."));
  CHECK(result.agent("T").instruction == "Read ${inputs.recipe_dir}/rules.md.");
}

TEST_CASE("the time of an extension is in seconds", "[import][goose]") {
  const ImportedFolder result(ForeignFormat::goose, "title: T\ninstructions: Do it.\nextensions:\n  - {type: stdio, name: a, cmd: a, timeout: 300}\n  - {type: streamable_http, name: b, uri: \"https://b.example/mcp\", timeout: 3600}\n  - {type: builtin, name: developer, timeout: 20}\n");
  INFO(result.findings());
  REQUIRE(result.spec);
  CHECK(result.imported.complete());
  CHECK(result.tool("a").settings.at("timeout_ms") == 300'000);
  CHECK(result.tool("b").settings.at("timeout_ms") == 600'000);
  CHECK(result.finds("5:77 left-out: 'timeout' of 'b': a call has 10 minutes at the most"));
  CHECK(result.finds("left-out: 'timeout' of an extension"));
}
