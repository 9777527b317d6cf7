// Diagnostics beyond the corpus: one change to its first case at a time.

#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <unistd.h>

namespace {

using kontor::agent::check_text;

const std::string kCases = kontor::test::corpus_path("yaml/cases");

std::string changed(const std::string& old, const std::string& now) {
  std::ifstream in(kCases + "/ok-01-base.yaml", std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  std::string text = out.str();
  const auto at = text.find(old);
  REQUIRE(at != std::string::npos);
  return text.replace(at, old.size(), now);
}

std::string first_of(const std::string& text, const std::string& folder = kCases) {
  const auto found = check_text(text, "a.yaml", folder).diagnostics;
  return found.empty() ? "" : found[0].kind + " " + std::to_string(found[0].line) + ":" + std::to_string(found[0].column);
}
std::string first(const std::string& old, const std::string& now) { return first_of(changed(old, now)); }

}  // namespace

TEST_CASE("two keys that exclude each other come before what the wrong one misses", "[check]") {
  const std::string source = "    device: auto";
  CHECK(first(source, "    endpoint: http://vllm:8000/v1\n" + source) == "conflict 15:5");
  CHECK(first("{watch: ./data/inbox}", "{watch: ./data/inbox, webhook: /x}") == "conflict 95:27");
}

TEST_CASE("a quoted value is reported at its quote", "[check]") {
  CHECK(first("secret: hook", "secret: \"hok\"") == "unknown-secret 94:34");
  CHECK(first("secret: hook", "secret: hok") == "unknown-secret 94:34");
}

TEST_CASE("a path that climbs out leaves its folder whatever it is called", "[check]") {
  for (const std::string path : {"out/../../x", "../x", "out/../../out/x", "a/b/../../../y", "/x"}) CHECK(first("path: out/decisions.csv", "path: " + path) == "path-escape 91:18");
  CHECK(first("path: out/decisions.csv", "path: out/x/../y.csv").empty());
}

TEST_CASE("an approval shows steps that have a result", "[check]") {
  const auto shows = [](const std::string& id) { return first("show: [read, decide]", "show: [" + id + "]"); };
  CHECK(shows("list").empty());
  CHECK(shows("report") == "step-order 85:49");  // later
  CHECK(shows("route") == "step-order 85:49");   // the switch that it is in
  CHECK(shows("each") == "step-order 85:49");    // the loop that it is in
  CHECK(shows("raed") == "unknown-step 85:49");
}

TEST_CASE("one file as output schema and as pin is judged as each", "[check]") {
  const auto folder = std::filesystem::temp_directory_path() / ("kontor-check-" + std::to_string(::getpid()));
  std::filesystem::copy(kCases, folder, std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  const auto with = [&](const std::string& content) {
    std::ofstream(folder / "both.json") << content;
    std::string text = changed("pins/crm.json", "both.json");
    const std::string schema = "schemas/decision.json";
    text.replace(text.find(schema), schema.size(), "both.json");
    return first_of(text, folder.string());
  };
  for (const std::string content : {"{}", "{\"type\": \"object\"}", "true", "{\"tools\": 1}"}) CHECK(with(content) == "bad-schema 31:44");
  std::filesystem::remove_all(folder);
}

TEST_CASE("of names as near as each other, the one that begins alike is meant", "[check]") {
  const auto found = check_text(changed("show: [read, decide]", "sho: [read, decide]"), "a.yaml", kCases).diagnostics;
  REQUIRE(!found.empty());
  CHECK(found[0].message.find("did you mean 'show'?") != std::string::npos);
}

TEST_CASE("columns of many mistakes in one long line", "[check]") {
  const auto found = check_text(changed("Accounts clerk\n    instruction: |-", "Accounts clerk\n    instruction: 'ü ${inputs.a} ü ${inputs.b} ${inputs.limit} ${inputs.c}'\n    x: |-"), "a.yaml", kCases).diagnostics;
  std::vector<int> columns;
  for (const auto& diagnostic : found) {
    if (diagnostic.kind == "unresolved-reference" && diagnostic.line == 47) columns.push_back(diagnostic.column);
  }
  CHECK(columns == std::vector<int>{30, 44, 72});
}
