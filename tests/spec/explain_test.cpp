#include "agent/spec/explain.hpp"

#include "agent/spec/rules.hpp"
#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>

namespace fs = std::filesystem;
using namespace kontor::agent;

TEST_CASE("an explained file is an agent file again, with the same meaning", "[explain]") {
  const fs::path folder = kontor::test::corpus_path("yaml/cases");
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().rfind("ok-", 0) != 0) continue;
    INFO(entry.path().filename().string());
    const Checked before = check_file(entry.path());
    REQUIRE(before.spec.has_value());
    const std::string text = explained(entry.path());
    const Checked after = check_text(text, "explained.yaml", folder);
    if (!after.diagnostics.empty()) {
      const auto& first = after.diagnostics.front();
      INFO(first.line << ":" << first.column << " " << first.kind << " " << first.message << "\n" << text);
      CHECK(after.diagnostics.empty());
      continue;
    }
    CHECK(after.spec->name == before.spec->name);
    CHECK(after.spec->agents.size() == before.spec->agents.size());
    CHECK(after.spec->workflow.size() == before.spec->workflow.size());
    for (std::size_t i = 0; i < before.spec->agents.size(); ++i) {
      CHECK(after.spec->agents[i].instruction == before.spec->agents[i].instruction);
      CHECK(after.spec->agents[i].max_steps == before.spec->agents[i].max_steps);
    }
    for (std::size_t i = 0; i < before.spec->tools.size(); ++i) CHECK(after.spec->tools[i].use == before.spec->tools[i].use);
  }
}

TEST_CASE("the JSON Schema in configs is the one that kontor schema prints", "[schema]") {
  std::ifstream in(std::string(KONTOR_SOURCE_DIR) + "/configs/agent.schema.json", std::ios::binary);
  std::ostringstream stored;
  stored << in.rdbuf();
  CHECK(stored.str() == agent_file_schema());
}

TEST_CASE("every rule that the table of keys names exists", "[schema]") {
  for (const auto& map : all_rules()) {
    for (const auto& key : map.keys) {
      const bool refers = key.type == ValueType::mapping || key.type == ValueType::named || key.type == ValueType::list;
      INFO(map.name << "." << key.key);
      CHECK((!refers || find_rule(key.arg) != nullptr));
    }
  }
}
