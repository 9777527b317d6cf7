#include "tests/importer/imported.hpp"

#include <nlohmann/json.hpp>

using namespace kontor;
using kontor::agent::ForeignFormat;
using kontor::agent::StepSpec;
using kontor::test::ImportedFolder;

TEST_CASE("a crew becomes a workflow whose tasks hand on their results", "[import][crewai]") {
  const std::string tasks = R"(
research:
  description: >
    Collect facts about {topic}; keep {this one} as it is.
  expected_output: A list for {year}
  agent: researcher
write:
  description: Write the report.
  expected_output: A report
  agent: writer
  output_file: out/{topic}.md
  human_input: true
  async_execution: true
sum_up:
  description: One sentence.
  agent: writer
  context: [write]
)";
  const ImportedFolder result(ForeignFormat::crewai, R"(
researcher:
  role: "{topic} researcher"
  goal: Find what is new about {topic}
  backstory: You know {topic} well.
  llm: openai/gpt-4o
  verbose: true
writer:
  role: Writer
  goal: Write clearly
  backstory: You are brief.
  max_iter: 4
  allow_delegation: false
)", &tasks);
  INFO(result.findings());
  INFO(result.imported.text);
  REQUIRE(result.spec);
  CHECK(result.imported.complete());
  CHECK(result.agent("researcher").role.empty());
  CHECK(result.agent("researcher").instruction == "Your role: ${inputs.topic} researcher\n\nYour goal: Find what is new about ${inputs.topic}\n\nYou know ${inputs.topic} well.");
  CHECK(result.agent("writer").role == "Writer");
  CHECK(result.agent("writer").max_steps == 4);
  REQUIRE(result.spec->inputs.size() == 2);
  const auto& steps = result.spec->workflow;
  REQUIRE(steps.size() == 5);
  CHECK(steps[0].with == Json{{"task", "Collect facts about ${inputs.topic}; keep {this one} as it is."}, {"expected_output", "A list for ${inputs.year}"}});
  CHECK(steps[1].with.at("result_of_research") == "${steps.research}");
  CHECK(steps[2].kind == StepSpec::Kind::approval);
  CHECK(steps[3].target == "files.write");
  CHECK(steps[3].with.at("path") == "out/${inputs.topic}.md");
  CHECK(steps[4].with.contains("result_of_write"));
  CHECK_FALSE(steps[4].with.contains("result_of_research"));
  CHECK(result.finds("left-out: 'async_execution' of the task 'write'"));
}

TEST_CASE("what stands in a crew's Python code is named, not guessed", "[import][crewai]") {
  const std::string tasks = "first:\n  description: Do it.\n  tools: [SerperDevTool]\nsecond:\n  description: Then this.\n  agent: nobody\nthird:\n  description: Last.\n  agent: b\n  context: [later]\n  output_pydantic: Report\n  output_file: ../out.md\n";
  const ImportedFolder result(ForeignFormat::crewai, "a: {role: A, goal: G, backstory: B, allow_delegation: true}\nb: {role: B, goal: G, backstory: B, cat: dog}\n", &tasks);
  INFO(result.findings());
  REQUIRE(result.spec);
  CHECK_FALSE(result.imported.complete());
  CHECK(result.finds("1:37 unsupported: 'allow_delegation'"));
  CHECK(result.finds("2:37 unsupported: 'cat' of the agent 'b' is not known"));
  CHECK(result.finds("1:1 unsupported: the task 'first' names no agent"));
  CHECK(result.finds("3:11 unsupported: the tool 'SerperDevTool' is Python code"));
  CHECK(result.finds("6:3 unsupported: there is no agent 'nobody'"));
  CHECK(result.finds("10:13 unsupported: the task 'later' in 'context'"));
  CHECK(result.finds("11:3 unsupported: 'output_pydantic'"));
  CHECK(result.finds("12:3 unsupported: 'output_file'"));
}
