// `kontor model` through the binary: hostile files, the exact keys of its JSON, exit codes.

#include "base/json.hpp"
#include "tests/support/archive.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

using namespace kontor;

namespace {

struct Outcome {
  int code = -1;
  std::string out;
  double seconds = 0;
  long peak_kib = 0;
};

/// Runs `kontor model ARGUMENTS...`; standard error is dropped.
Outcome run_model(const std::vector<std::string>& arguments) {
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe_ends[1], 1);
    ::close(pipe_ends[0]);
    if (!std::freopen("/dev/null", "w", stderr)) ::_exit(126);
    const std::string program = std::string(KONTOR_BINARY_DIR) + "/kontor";
    std::vector<char*> argv{const_cast<char*>(program.c_str()), const_cast<char*>("model")};
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
  ::close(pipe_ends[1]);
  Outcome outcome;
  char part[65536];
  for (ssize_t n; (n = ::read(pipe_ends[0], part, sizeof(part))) > 0;) outcome.out.append(part, static_cast<std::size_t>(n));
  ::close(pipe_ends[0]);
  int status = 0;
  rusage usage{};
  ::wait4(child, &status, 0, &usage);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.peak_kib = usage.ru_maxrss;
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return outcome;
}

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// "" when `model verify` decided as the case says.
std::string judge(const Outcome& outcome, const Json& item, long base_kib) {
  const auto json = parse_json(outcome.out);
  if (!json || !json->is_object() || !json->contains("ok")) return "exit code " + std::to_string(outcome.code) + " and no verdict";
  const bool ok = json->at("ok").get<bool>();
  const auto expected = item.at("expect_model").get<std::string>();
  if (outcome.code != (ok ? 0 : 5)) return "exit code " + std::to_string(outcome.code);
  if (ok && expected == "reject") return "accepted, should be refused";
  if (!ok) {
    const auto kind = json->at("error").at("kind").get<std::string>();
    const auto kinds = item.at("kinds").get<std::vector<std::string>>();
    if (expected == "accept") return "refused with " + kind + ", should be accepted";
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) return "refused with unexpected kind " + kind;
    if (json->at("error").at("message").get<std::string>().empty()) return "no message";
  }
  const Json& limits = item.at("limits");
  if (outcome.seconds * 1000 > 10 * limits.at("max_ms").get<double>()) return "took " + std::to_string(outcome.seconds) + " s";
  if (outcome.peak_kib - base_kib > 1024 * limits.at("max_extra_mb").get<long>()) return "used " + std::to_string(outcome.peak_kib) + " KiB";
  return "";
}

}  // namespace

TEST_CASE("model verify accepts and refuses hostile files as the corpus says, quickly and within bounded memory") {
  const test::UnpackedArchive archive(test::corpus_path("gguf/public.tar.xz"));
  if (!archive.ok()) return test::count_cases("model verify (no tar or xz)", 0, 0, 1);
  const auto folder = archive.folder() / "public";
  const auto manifest = parse_json(read_all(folder / "manifest.json"));
  REQUIRE(manifest.has_value());
  const long base_kib = run_model({"--help"}).peak_kib;
  int passed = 0, failed = 0, skipped = 0;
  for (const Json& item : manifest->at("cases")) {
    if (!item.contains("file")) {  // needs a prepared machine
      ++skipped;
      continue;
    }
    const auto path = (folder / item.at("file").get<std::string>()).string();
    const std::string why = judge(run_model({"verify", path, "--json", "--threads", "1"}), item, base_kib);
    why.empty() ? ++passed : ++failed;
    if (!why.empty()) std::printf("model verify %s: %s\n", item.at("id").get<std::string>().c_str(), why.c_str());
  }
  test::count_cases("model verify", passed, failed, skipped);
  REQUIRE(failed == 0);
}

TEST_CASE("model verify of a missing file, a folder and a FIFO is a model error") {
  for (const std::string path : {"/nonexistent/x.gguf", "/tmp"}) {
    const Outcome outcome = run_model({"verify", path, "--json"});
    CHECK(outcome.code == 5);
    const auto json = parse_json(outcome.out);
    REQUIRE(json.has_value());
    CHECK_FALSE(json->at("ok").get<bool>());
  }
}

TEST_CASE("model verbs print the keys of the contract") {
  const std::string shared = test::shared_dir();
  if (shared.empty()) return test::count_cases("model verbs", 0, 0, 1);
  const std::string model = shared + "/models/stories260K/stories260K.f16.gguf";
  const auto json_of = [](const std::vector<std::string>& arguments) {
    const Outcome outcome = run_model(arguments);
    CHECK(outcome.code == 0);
    const auto json = parse_json(outcome.out);
    REQUIRE(json.has_value());
    return *json;
  };
  const Json info = json_of({"info", model, "--json"});
  for (const char* key : {"architecture", "parameters", "quantization", "context", "tokenizer", "dialect"}) CHECK(info.contains(key));

  const Json one = json_of({"logits", model, "--tokens", "1,403,407", "--json"});
  CHECK(one.at("logits").size() == 512);
  const Json all = json_of({"logits", model, "--tokens", "1,403,407", "--all", "--json"});
  CHECK(all.at("logits").size() == 3);
  CHECK(all.at("logits").at(2) == one.at("logits"));

  const Json greedy = json_of({"generate", model, "--prompt", "Once upon a time", "-n", "12", "--temperature", "0", "--json"});
  CHECK(greedy.at("ids").size() == 12);
  CHECK_FALSE(greedy.at("text").get<std::string>().empty());
  CHECK(greedy.at("ledger").at("generated").get<int>() == 12);
  CHECK(json_of({"generate", model, "--prompt", "Once upon a time", "--n", "12", "--temperature", "0", "--threads", "2", "--json"}).at("ids") == greedy.at("ids"));
  const std::vector<std::string> drawn{"generate", model, "--prompt", "Once", "--n", "12", "--temperature", "1.2", "--seed", "5", "--json"};
  CHECK(json_of(drawn).at("text") == json_of(drawn).at("text"));

  const Json rows = json_of({"bench", model, "-p", "8", "-n", "4", "-d", "0,16", "-t", "1,2", "-r", "2", "--json"});
  CHECK(rows.size() == 8);
  for (const Json& row : rows)
    for (const char* key : {"test", "threads", "depth", "tokens_per_second", "bytes_per_token", "gb_per_second", "gflops"}) CHECK(row.contains(key));

  const auto batch = std::filesystem::temp_directory_path() / ("kontor_batch_" + std::to_string(::getpid()) + ".jsonl");
  std::ofstream(batch) << "{\"id\":\"a\",\"text\":\"one\",\"special\":false}\n\n{\"id\":7,\"text\":\"\\u00e4 two\"}\n";
  const Outcome tokens = run_model({"tokenize", model, "--batch", batch.string()});
  CHECK(tokens.code == 0);
  CHECK(std::count(tokens.out.begin(), tokens.out.end(), '\n') == 2);
  CHECK(tokens.out.rfind("{\"id\":\"a\",\"ids\":[", 0) == 0);
  const Outcome vectors = run_model({"embed", model, "--batch", batch.string()});
  CHECK(vectors.code == 0);
  CHECK(vectors.out.find("\"embedding\":[") != std::string::npos);
  std::ofstream(batch) << "{\"id\":\"a\",\"txt\":\"one\"}\n";
  CHECK(run_model({"tokenize", model, "--batch", batch.string()}).code == 2);
  std::filesystem::remove(batch);
}

TEST_CASE("an 8-bit KV cache is measured and used where it is asked for") {
  const std::string shared = test::shared_dir();
  if (shared.empty()) return test::count_cases("kv types", 0, 0, 1);
  const std::string model = shared + "/golden/models/qmix.q4_k_m.gguf";
  const auto bytes = [&](const std::string& kv, const std::string& depth) {
    const Outcome outcome = run_model({"bench", model, "-p", "0", "-n", "2", "-d", depth, "-r", "1", "--device", "cpu", "--kv", kv, "--json"});
    REQUIRE(outcome.code == 0);
    return parse_json(outcome.out)->at(0).at("bytes_per_token").get<double>();
  };
  const double wide = bytes("f16", "64") - bytes("f16", "0"), narrow = bytes("q8_0", "64") - bytes("q8_0", "0");
  CHECK(wide > 0);
  CHECK(narrow == wide * 68 / 128);
  const auto generate = [&](const std::string& kv) {
    return run_model({"generate", model, "--prompt", "one two", "-n", "6", "--temperature", "0", "--device", "cpu", "--kv", kv, "--json"});
  };
  CHECK(generate("q8_0").code == 0);
  CHECK(parse_json(generate("f16").out)->at("ids").size() == parse_json(generate("q8_0").out)->at("ids").size());
}

TEST_CASE("wrong options are usage errors, wrong models are model errors") {
  CHECK(run_model({}).code == 2);
  CHECK(run_model({"logits"}).code == 2);
  CHECK(run_model({"tokenise", "x"}).code == 2);
  CHECK(run_model({"generate", "/nonexistent.gguf", "--prompt", "x"}).code == 5);
  const std::string shared = test::shared_dir();
  if (shared.empty()) return;
  const std::string model = shared + "/models/stories260K/stories260K.f16.gguf";
  CHECK(run_model({"logits", model, "--tokens", "1,999999"}).code == 2);
  CHECK(run_model({"logits", model, "--tokens", "x"}).code == 2);
  CHECK(run_model({"verify", model, "--device", "abacus"}).code == 2);
  CHECK(run_model({"verify", model, "--kv", "q4_0"}).code == 2);
  CHECK(run_model({"verify", model, "--kv", "q8_0"}).code == 5);  // Heads of 8 values.
}
