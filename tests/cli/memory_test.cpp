// kontor memory by hand: words alone, and with a real embedding model; and what a run's sockets and joules look like.

#include "base/json.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/program.hpp"

#include <nlohmann/json.hpp>

#include <stdlib.h>

using namespace kontor;
using kontor::test::http_reply;
using kontor::test::HttpServer;

namespace {

struct Memory : test::ExampleCopy {
  Memory() : ExampleCopy("invoice-triage") {}
  int memory(std::vector<std::string> words) const {
    words.insert(words.begin(), "memory");
    words.insert(words.end(), {"--db", (folder / "memory.db").string()});
    return run(words, false);
  }
  Json json() const {
    auto value = parse_json(output());
    INFO(output());
    REQUIRE(value);
    return *value;
  }
};

}  // namespace

TEST_CASE("facts are added, found, listed, exported and forgotten by hand", "[cli][memory]") {
  const Memory memory;
  REQUIRE(memory.memory({"add", "Nordwind pays within 14 days", "--json"}) == 0);
  CHECK(memory.json().at("id") == 1);
  REQUIRE(memory.memory({"add", "The vault opens at nine", "--secret", "--untrusted"}) == 0);
  REQUIRE(memory.memory({"search", "when does Nordwind pay", "--json"}) == 0);
  CHECK(memory.json().at("mode") == "full_text");
  CHECK(memory.json().at("hits").at(0).at("text") == "Nordwind pays within 14 days");
  REQUIRE(memory.memory({"list", "--json"}) == 0);
  CHECK(memory.json().at("facts").size() == 2);
  CHECK(memory.json().at("facts").at(0).at("secret") == true);
  CHECK(memory.json().at("facts").at(0).at("trusted") == false);
  REQUIRE(memory.memory({"export"}) == 0);
  memory.write("facts.jsonl", memory.output());
  REQUIRE(memory.memory({"import", (memory.folder / "facts.jsonl").string(), "--namespace", "copy", "--json"}) == 0);
  CHECK(memory.json().at("imported") == 2);
  REQUIRE(memory.memory({"list", "--namespace", "copy", "--json"}) == 0);
  CHECK(memory.json().at("facts").at(0).at("secret") == true);
  CHECK(memory.json().at("namespaces") == Json({"copy", "default"}));
  REQUIRE(memory.memory({"verify", "--json"}) == 0);
  CHECK(memory.json().at("ok") == true);
  REQUIRE(memory.memory({"forget", "1", "--json"}) == 0);
  CHECK(memory.json().at("forgotten") == 1);
  CHECK(memory.memory({"forget", "1"}) == 1);
  CHECK(memory.memory({"search", "x", "--model", "/nowhere.gguf"}) == 5);
}

TEST_CASE("with a model, memory finds by meaning what no word finds", "[cli][memory]") {
  const std::string model = test::shared_dir() + "/golden/models/nomic-mean.f32.gguf";
  if (test::shared_dir().empty() || !std::filesystem::exists(model)) {
    WARN("the reference models are not at hand");
    return;
  }
  const Memory memory;
  for (const char* text : {"Heute regnet es in Kiel", "12 34 56 78"}) REQUIRE(memory.memory({"add", text, "--model", model}) == 0);
  REQUIRE(memory.memory({"add", "Zahlungsbedingung"}) == 0);  // It gets its vector with the search.
  REQUIRE(memory.memory({"search", "Zahlungsbedingungen", "--json"}) == 0);
  CHECK(memory.json().at("hits").empty());
  REQUIRE(memory.memory({"search", "Zahlungsbedingungen", "--model", model, "--json", "--limit", "1"}) == 0);
  const Json found = memory.json();
  CHECK(found.at("mode") == "hybrid");
  CHECK(found.at("embedder") == "nomic-mean nomic-bert F32 128");
  CHECK(found.at("embedded") == 1);
  REQUIRE(found.at("hits").size() == 1);
  CHECK(found.at("hits").at(0).at("text") == "Zahlungsbedingung");
  CHECK(found.at("hits").at(0).at("similarity").get<double>() > 0.5);
  REQUIRE(memory.run({"memory", "bench", "-n", "20", "-q", "3", "--model", model, "--json"}, false) == 0);
  CHECK(memory.json().at("rows").at(0).at("width") == 128);
}

TEST_CASE("memory bench measures adding and searching", "[cli][memory]") {
  const Memory memory;
  REQUIRE(memory.run({"memory", "bench", "-n", "200", "-w", "32", "-q", "5", "--limit", "3", "--json"}, false) == 0);
  const Json bench = memory.json();
  std::vector<std::string> tests;
  for (const Json& row : bench.at("rows")) {
    tests.push_back(row.at("test").get<std::string>());
    CHECK(row.at("facts") == 200);
    CHECK(row.at("width") == 32);
    const Json& times = row.at("milliseconds");
    CHECK(times.at("min").get<double>() > 0);
    CHECK(times.at("min").get<double>() <= times.at("median").get<double>());
    CHECK(times.at("median").get<double>() <= times.at("max").get<double>());
  }
  CHECK(tests == std::vector<std::string>{"add", "full_text", "embed", "hybrid"});
  CHECK(bench.at("rows").at(0).at("per_second").get<double>() > 0);
  REQUIRE(memory.run({"memory", "bench", "-n", "10", "-q", "2"}, false) == 0);
  CHECK(memory.output().find("hybrid") != std::string::npos);
  CHECK(memory.run({"memory", "bench", "-n", "0"}, false) == 2);
}

TEST_CASE("a run shows which hosts it reached and by which rule", "[cli][egress]") {
  HttpServer server([](const std::string&) { return http_reply("200 OK", "Content-Type: text/plain\r\n", "hello"); });
  const test::ExampleCopy copy("invoice-triage");
  const std::string at = server.url("").substr(7);
  const auto file = [&](const std::string& egress) {
    copy.write("agent.yaml", "kontor: 1\nname: web\npolicy: {egress: " + egress + "}\ntools: {web: {use: builtin.http, hosts: [\"" + at + "\"], private: true, plain: true}}\nworkflow:\n  - {id: get, tool: web.get, with: {url: \"" + server.url("/") + "\"}}\n  - {id: away, tool: web.get, with: {url: \"http://other.example/\"}, on_error: {collect: refused}}\n");
  };
  file("{allow: [\"" + at + "\"]}");
  REQUIRE(copy.run({"run", copy.folder.string()}) == 0);
  CHECK(copy.output().find("other.example may not be reached: policy.egress.allow names no such host") != std::string::npos);
  REQUIRE(copy.run({"runs", "show"}) == 0);
  CHECK(copy.output().find("tools.web may reach " + at + " (policy.egress.allow \"" + at + "\")") != std::string::npos);
  CHECK(copy.output().find("tools.web may not reach other.example:80 (policy.egress.allow names no such host)") != std::string::npos);
  file("{deny: [127.0.0.0/8]}");
  CHECK(copy.run({"check", (copy.folder / "agent.yaml").string()}, false) == 1);
  CHECK(copy.output().find("conflict: '127.0.0.1' port") != std::string::npos);
  CHECK(server.requests().size() == 1);
}

TEST_CASE("the doctor says where joules come from, and a run compares its tokens with hosted prices", "[cli][ledger]") {
  const test::ExampleCopy copy("invoice-triage");
  ::setenv("KONTOR_NVML", (std::string(KONTOR_BINARY_DIR) + "/tests/libfake_nvml.so").c_str(), 1);
  CHECK(copy.run({"doctor"}, false) == 0);
  CHECK(copy.output().find("+ gpu energy  NVML: Test GPU 1 by its energy counter") != std::string::npos);
  ::setenv("KONTOR_NVML", "/nowhere/libnvidia-ml.so.1", 1);
  CHECK(copy.run({"doctor"}, false) == 0);
  CHECK(copy.output().find("- gpu energy  no joules of GPUs: /nowhere/libnvidia-ml.so.1 cannot be loaded") != std::string::npos);
  ::unsetenv("KONTOR_NVML");
  // Each library that a tool loads when it needs it, with what it is for or the package that brings it.
  for (const char* what : {"builtin.http", "workbooks (.xlsx)", "PDF files", "time zones"}) CHECK(copy.output().find(what) != std::string::npos);
  ::setenv("ZONEINFO", "/nowhere", 1);
  CHECK(copy.run({"doctor", "--json"}, false) == 0);
  ::unsetenv("ZONEINFO");
  CHECK(copy.output().find(R"("fix":"apt-get install tzdata")") != std::string::npos);

  copy.write("tape.jsonl", R"({"text": "<think>\nx</think>\n\ndone"})" "\n");
  copy.write("agent.yaml", "kontor: 1\nname: one\nmodels: {tape: {replay: tape.jsonl}}\nagents: {a: {model: tape, instruction: Say it.}}\n");
  copy.write("prices.json", R"({"electricity": {"per_kwh": "0.30", "currency": "EUR"}, "hosted": [{"name": "Somebody", "input_per_million": "1000000", "cached_per_million": "0", "output_per_million": "1000000", "currency": "USD", "as_of": "2026-01"}]})");
  ::setenv("KONTOR_PRICES", (copy.folder / "prices.json").c_str(), 1);
  const int code = copy.run({"run", copy.folder.string(), "--task", "go"});
  ::unsetenv("KONTOR_PRICES");
  INFO(copy.output());
  REQUIRE(code == 0);
  CHECK(copy.output().find("the same tokens at Somebody, prices of 2026-01: ") != std::string::npos);
  CHECK(copy.output().find(" EUR of electricity") != std::string::npos);
  REQUIRE(copy.run({"runs", "show", "--json"}) == 0);
  const auto shown = parse_json(copy.output());
  REQUIRE(shown);
  const Json& hosted = shown->at("ledger").at("money").at("hosted");
  REQUIRE(hosted.size() == 2);  // The table of configs/prices.json.
  CHECK(hosted.at(0).at("currency") == "USD");
  CHECK(hosted.at(0).at("amount").get<std::string>().find_first_not_of("0.") != std::string::npos);
}
