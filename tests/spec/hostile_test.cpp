// Damaged files: whatever the bytes, a check ends soon with diagnostics or a Spec.

#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

#include <chrono>
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
