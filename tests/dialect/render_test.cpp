// The official templates, byte for byte.

#include "agent/dialect/faithful.hpp"
#include "base/json.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <fstream>
#include <string>

using namespace kontor;
using namespace kontor::agent;

TEST_CASE("every render case gives the official template's bytes", "[dialect][render]") {
  JsonLimits limits;
  limits.depth = 512;
  std::ifstream in(test::corpus_path("r1/render.jsonl"));
  int passed = 0, failed = 0, skipped = 0;
  for (std::string line; std::getline(in, line);) {
    const auto request = parse_json(line, limits);
    REQUIRE(request.has_value());
    const std::string id = (*request)["id"].get<std::string>();
    if ((*request)["status"] == "engines_disagree") {
      ++skipped;
      continue;
    }
    const auto prompt = render_faithful(*request);
    const bool expect_error = request->contains("expect_error");
    const bool fine = expect_error ? !prompt && prompt.error().code == Errc::malformed
                                   : prompt && *prompt == (*request)["expected"].get<std::string>();
    if (fine) {
      ++passed;
      continue;
    }
    ++failed;
    std::printf("render %s: got %s\n  expected %s\n", id.c_str(),
                prompt ? Json(*prompt).dump().c_str() : prompt.error().describe().c_str(),
                expect_error ? "an error" : (*request)["expected"].dump().c_str());
  }
  test::count_cases("r1/render", passed, failed, skipped);
  REQUIRE(failed == 0);
}

TEST_CASE("an unknown model key is a usage error that names the known ones", "[dialect][render]") {
  const auto request = parse_json(R"({"model": "r9", "messages": []})");
  const auto prompt = render_faithful(*request);
  REQUIRE(!prompt);
  REQUIRE(prompt.error().code == Errc::usage);
  REQUIRE(prompt.error().message.find("r1-0528") != std::string::npos);
}
