// Every file of tests/corpora/yaml: the first diagnostic has to be the expected one.

#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace {

using kontor::Json;
using kontor::agent::Checked;

std::string text_of(const Json& node, const char* key) { return node.contains(key) ? node[key].get<std::string>() : std::string(); }

/// What stands in "(did you mean '...'?)".
std::string suggestion_in(const std::string& message) {
  const std::string begin = "did you mean '";
  const auto at = message.find(begin);
  if (at == std::string::npos) return {};
  const auto end = message.find("'?", at);
  return message.substr(at + begin.size(), end - at - begin.size());
}

bool line_is_allowed(const Json& node, int line) {
  if (!node.contains("alt_lines")) return false;
  const Json& lines = node["alt_lines"];
  if (lines.is_object()) return line >= lines["from"].get<int>() && line <= lines["to"].get<int>();
  for (const auto& allowed : lines) {
    if (allowed.get<int>() == line) return true;
  }
  return false;
}

/// Empty when the check did what the case expects.
std::string mistake(const Json& node, const Checked& checked) {
  if (node["expect"] == Json("accept")) {
    if (checked.diagnostics.empty()) return checked.spec ? "" : "no spec";
    const auto& first = checked.diagnostics.front();
    return "refused: " + std::to_string(first.line) + ":" + std::to_string(first.column) + " " + first.kind + ": " + first.message;
  }
  if (checked.diagnostics.empty()) return "accepted";
  const auto& first = checked.diagnostics.front();
  const std::string shown = std::to_string(first.line) + ":" + std::to_string(first.column) + " " + first.kind + ": " + first.message;
  if (first.kind != node["kind"].get<std::string>()) return "kind: " + shown;
  const bool line = first.line == node["line"].get<int>();
  if (!line && !line_is_allowed(node, first.line)) return "line: " + shown;
  if (line && std::abs(first.column - node["column"].get<int>()) > node["column_tolerance"].get<int>()) return "column: " + shown;
  if (const auto wanted = text_of(node, "suggestion_contains"); !wanted.empty() && suggestion_in(first.message).find(wanted) == std::string::npos) return "suggestion: " + shown;
  if (const auto wanted = text_of(node, "message_contains"); !wanted.empty() && first.message.find(wanted) == std::string::npos) return "message: " + shown;
  if (const auto barred = text_of(node, "message_excludes"); !barred.empty()) {
    for (const auto& diagnostic : checked.diagnostics) {
      if (diagnostic.message.find(barred) != std::string::npos) return "message repeats what it must not: " + shown;
    }
  }
  return {};
}

}  // namespace

TEST_CASE("every case of the YAML corpus gives the expected first diagnostic", "[check][corpus]") {
  const std::string folder = kontor::test::corpus_path("yaml");
  std::ifstream manifest(folder + "/manifest.jsonl");
  REQUIRE(manifest.good());
  int passed = 0;
  int failed = 0;
  for (std::string line; std::getline(manifest, line);) {
    const Json node = Json::parse(line);
    const auto start = std::chrono::steady_clock::now();
    const Checked checked = kontor::agent::check_file(folder + "/" + node["file"].get<std::string>());
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start).count();
    std::string wrong = mistake(node, checked);
    // Sanitizers and a busy machine get time; the bound itself is measured by tests/bench.
    if (wrong.empty() && took > 10 * node["limits"]["max_ms"].get<int>()) wrong = "took " + std::to_string(took) + " ms";
    if (wrong.empty()) {
      ++passed;
    } else {
      ++failed;
      std::printf("%s: %s (expected %s:%s %s)\n", node["id"].get<std::string>().c_str(), wrong.c_str(), node.value("line", Json(0)).dump().c_str(),
                  node.value("column", Json(0)).dump().c_str(), text_of(node, "kind").c_str());
    }
  }
  kontor::test::count_cases("yaml", passed, failed);
  REQUIRE(failed == 0);
}
