// Damaged files: whatever the bytes, a check ends soon with diagnostics or a Spec.

#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

#include <chrono>
#include <ctime>
#include <fstream>
#include <random>
#include <sstream>

namespace {

std::string file_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

const std::string kCases = kontor::test::corpus_path("yaml/cases");

void check(const std::string& text) {
  const auto checked = kontor::agent::check_text(text, "mutant.yaml", kCases);
  if (checked.diagnostics.empty() != checked.spec.has_value()) FAIL("neither diagnostics nor a spec");
  for (const auto& diagnostic : checked.diagnostics) {
    if (diagnostic.line < 1 || diagnostic.column < 1 || diagnostic.kind.empty() || diagnostic.message.empty()) FAIL("an empty diagnostic");
  }
}

}  // namespace

TEST_CASE("a file cut off anywhere or with a damaged byte never crashes the check", "[check][hostile]") {
  const std::string base = file_text(kCases + "/ok-01-base.yaml");
  REQUIRE(base.size() > 1000);
  std::mt19937 random(7);
  for (int round = 0; round < 1500; ++round) {
    std::string text = base;
    switch (random() % 4) {
      case 0: text.resize(random() % text.size()); break;
      case 1: text[random() % text.size()] = static_cast<char>(random() % 256); break;
      case 2: text.erase(random() % text.size(), 1 + random() % 20); break;
      default: {
        static constexpr std::string_view kMarks = "{}[]:-?&*!|>'\"%@`#,\n\t $.<";
        text.insert(random() % text.size(), std::string(1 + random() % 3, kMarks[random() % kMarks.size()]));
      }
    }
    check(text);
  }
  SUCCEED();
}

TEST_CASE("repeated characters and nesting are bounded in time", "[check][hostile]") {
  const auto start = std::chrono::steady_clock::now();
  for (const char* unit : {"[", "{", "- ", "? ", ": ", "\"", "'", "&a ", "*a ", "!x ", "a: ", "a: {", "|\n", "#", "\t", "%", "---\n", "...\n", "a:\n ", "${", "k: &a [*a]\n", "[[],", "{a: ", "'\n", "- |\n", ","}) {
    std::string text;
    while (text.size() < 200'000) text += unit;
    check(text);
    check("kontor: 1\nname: x\nworkflow:\n  - fail: \"" + text.substr(0, 20'000) + "\"\n");
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - start).count();
  CHECK(seconds < 60);
}

// Each would take minutes if the work were the product of two numbers of the file. Processor time, because the machine may
// be busy; the bound is far above what one takes (0.1 s) and far below what the product takes.
TEST_CASE("thousands of mistakes among thousands of names stay cheap", "[check][hostile]") {
  const auto lines = [](int count, const auto& line) {
    std::string out;
    for (int i = 0; i < count; ++i) out += line(std::to_string(i));
    return out;
  };
  const std::string head = "kontor: 1\nname: x\n";
  const std::string run = "workflow: [{fail: x}]\n";
  const std::string model = "models: {m: {path: x}}\n";
  const std::pair<const char*, std::string> files[] = {
      {"wrong expressions in one text", head + model + "agents: {a: {model: m, instruction: \"" + lines(40'000, [](const auto&) { return "${inputs.x} "; }) + "\"}}\n"},
      {"open handles of secrets in one text", head + model + "agents: {a: {model: m, instruction: \"" + lines(80'000, [](const auto&) { return "{{secret:"; }) + "\"}}\n"},
      {"handles of secrets in one text", head + model + "agents: {a: {model: m, instruction: \"" + lines(60'000, [](const auto&) { return "{{secret:e}}"; }) + "\"}}\n"},
      {"unknown agents", head + model + "agents:\n" + lines(8'000, [](const auto& i) { return "  a" + i + ": {model: m, instruction: x, sub_agents: [b" + i + "]}\n"; })},
      {"a chain of agents", head + model + "agents:\n" + lines(8'000, [](const auto& i) { return "  a" + i + ": {model: m, instruction: x, sub_agents: [a" + std::to_string((std::stoi(i) + 1) % 8'000) + "]}\n"; })},
      {"unknown models", head + "models:\n" + lines(9'000, [](const auto& i) { return "  m" + i + ": {path: x}\n"; }) + "agents:\n" + lines(6'000, [](const auto& i) { return "  a" + i + ": {model: n" + i + ", instruction: x}\n"; })},
      {"unknown secrets", head + run + "secrets:\n" + lines(8'000, [](const auto& i) { return "  s" + i + ": {from: env:X}\n"; }) + "models:\n" + lines(5'000, [](const auto& i) { return "  m" + i + ": {endpoint: \"http://x/\", model: m, api_key: secret:t" + i + "}\n"; })},
      {"keys written into the file", head + run + "secrets:\n" + lines(8'000, [](const auto& i) { return "  s" + i + ": {from: env:X}\n"; }) + "models:\n" + lines(5'000, [](const auto& i) { return "  m" + i + ": {endpoint: \"http://x/\", model: m, api_key: t" + i + "}\n"; })},
      {"groups of tools", head + run + "tools:\n" + lines(8'000, [](const auto& i) { return "  g" + i + ": {use: builtin.files}\n"; })},
      {"unknown tools", head + run + "tools:\n" + lines(900, [](const auto& i) { return "  g" + i + ": {use: builtin.files}\n"; }) + "policy:\n  deny:\n" + lines(20'000, [](const auto& i) { return "    - h" + i + ".read\n"; })},
      {"unknown steps", head + "workflow:\n" + lines(9'000, [](const auto& i) { return "  - {id: s" + i + ", fail: \"${steps.t" + i + ".x}\"}\n"; })},
      {"unknown time zones", head + run + "triggers:\n" + lines(18'000, [](const auto& i) { return "  - {schedule: \"0 7 * * *\", tz: Europe/Berl" + i + "}\n"; })},
      {"a circle of procedures", head + run + "procedures:\n" + lines(6'000, [](const auto& i) { return "  p" + i + ": {do: [{procedure: p" + std::to_string((std::stoi(i) + 1) % 6'000) + "}]}\n"; })},
  };
  for (const auto& [name, text] : files) {
    INFO(name);
    REQUIRE(text.size() < 1'000'000);
    const std::clock_t start = std::clock();
    check(text);
    CHECK(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC < 3.0);
  }
}

TEST_CASE("procedures that reach themselves are told from those that only call them", "[check]") {
  const auto wrong = [](const std::string& procedures) {
    std::vector<int> lines;
    for (const auto& found : kontor::agent::check_text("kontor: 1\nname: x\nworkflow: [{fail: x}]\nprocedures:\n" + procedures, "p.yaml", kCases).diagnostics) {
      CHECK(found.kind == "step-order");
      lines.push_back(found.line - 4);
    }
    return lines;
  };
  const auto calls = [](const std::string& name, const std::string& other) { return "  " + name + ": {do: [{procedure: " + other + "}]}\n"; };
  const std::string end = "  end: {do: [{fail: x}]}\n";
  CHECK(wrong(calls("a", "b") + calls("b", "end") + end).empty());
  CHECK(wrong(calls("a", "a") + end) == std::vector<int>{1});
  CHECK(wrong(calls("a", "b") + calls("b", "c") + calls("c", "b")) == std::vector<int>{2, 3});
  // d stands between two circles and is in none.
  CHECK(wrong(calls("a", "b") + "  b: {do: [{procedure: a}, {procedure: d}]}\n" + calls("d", "e") + calls("e", "f") + calls("f", "e")) == std::vector<int>{1, 2, 4, 5});
}
