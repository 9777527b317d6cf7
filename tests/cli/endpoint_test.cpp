// The invoice example with its model behind an endpoint, through the real program: a server that plays the recorded turns,
// and, where KONTOR_LLAMA_SERVER names llama.cpp's server, that one with the example's own model.

#include "base/json.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/program.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <fstream>
#include <thread>

using namespace kontor;
using kontor::test::http_reply;
using kontor::test::HttpServer;

namespace {

const std::string kName = "DeepSeek-R1-0528-pocket";
const std::string kKey = "key-5e7a11";

/// Plays the tape of the example to whoever has the key.
class TapeServer {
 public:
  explicit TapeServer(const std::filesystem::path& tape) {
    std::ifstream in(tape);
    for (std::string line; std::getline(in, line);) {
      if (auto turn = parse_json(line); turn && turn->contains("text")) turns_.push_back(*turn);
    }
    REQUIRE(!turns_.empty());
  }
  std::string operator()(const std::string& request) {
    if (request.find("\r\nAuthorization: Bearer " + kKey + "\r\n") == std::string::npos) {
      return http_reply("401 Unauthorized", "Content-Type: application/json\r\n", R"({"error": {"message": "no such key"}})");
    }
    if (request.starts_with("GET /v1/models ")) return json(Json{{"data", {{{"id", kName}}}}});
    const auto body = parse_json(request.substr(request.find("\r\n\r\n") + 4));
    if (!body || !request.starts_with("POST /v1/completions ")) return http_reply("400 Bad Request", "", "");
    if (!body->contains("stream")) return json(Json{{"choices", {{{"text", "b"}}}}, {"usage", {{"prompt_tokens", 2}}}});
    const auto prompt = body->at("prompt").get<std::string>();
    for (auto turn = turns_.begin(); turn != turns_.end(); ++turn) {
      if (turn->contains("when") && prompt.find(turn->at("when").get<std::string>()) == std::string::npos) continue;
      const auto text = turn->at("text").get<std::string>();
      turns_.erase(turn);
      return stream(text, prompt.size() / 4);
    }
    return http_reply("500 No Turn", "", "the tape is over");
  }

 private:
  static std::string json(const Json& body) { return http_reply("200 OK", "Content-Type: application/json\r\n", body.dump()); }
  static std::string stream(const std::string& text, std::size_t prompt) {
    std::string out = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    std::size_t tokens = 0;
    for (std::size_t at = 0, end = 0; at < text.size(); at = end, ++tokens) {
      // Servers hold back a character until it is whole.
      for (end = std::min(at + 5, text.size()); end < text.size() && (text[end] & 0xC0) == 0x80;) ++end;
      out += "data: " + Json{{"choices", {{{"text", text.substr(at, end - at)}, {"finish_reason", nullptr}}}}}.dump() + "\n\n";
    }
    out += "data: " + Json{{"choices", {{{"text", ""}, {"finish_reason", "stop"}}}}}.dump() + "\n\n";
    return out + "data: " + Json{{"choices", Json::array()}, {"usage", {{"prompt_tokens", prompt}, {"completion_tokens", tokens}}}}.dump() + "\n\ndata: [DONE]\n\n";
  }

  std::vector<Json> turns_;
};

/// The example whose clerk is behind `url`.
struct Example : test::ExampleCopy {
  explicit Example(const std::string& url) : ExampleCopy("invoice-triage") {
    edit("models:\n", "secrets:\n  server: {from: file:server.key}\nmodels:\n");
    edit("pocket: {path: ../models/pocket-invoice.gguf,", "pocket: {endpoint: \"" + url + "\", model: " + kName + ", api_key: secret:server,");
    std::string yaml = read("agent.yaml");
    write("agent.yaml", yaml.erase(yaml.find("tests:")));  // Their files are not copied.
    write("server.key", kKey + "\n");
  }
  /// Whether the key is in anything that was written.
  bool leaks() const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file() && entry.path().filename() != "server.key" && test::read_text(entry.path()).find(kKey) != std::string::npos) return true;
    }
    return false;
  }
};

}  // namespace

TEST_CASE("the example's model behind an endpoint: run, approve, resume, replay", "[cli][endpoint]") {
  TapeServer tape(std::filesystem::path(KONTOR_SOURCE_DIR) / "examples/invoice-triage/tapes/inbox.jsonl");
  HttpServer server([&](const std::string& request) { return tape(request); });
  const Example example(server.url("/v1"));
  CHECK(example.run({"check", (example.folder / "agent.yaml").string()}, false) == 0);
  CHECK(example.run({"explain", (example.folder / "agent.yaml").string()}, false) == 0);
  CHECK(example.output().find("api_key: \"secret:server\"") != std::string::npos);
  CHECK(example.run({"doctor", (example.folder / "agent.yaml").string(), "--airgap"}, false) == 0);
  CHECK(example.output().find("+ endpoint    model 'pocket' at " + server.url("/v1") + ": " + kName + ", prompts of r1-0528\n") != std::string::npos);
  const int parked = example.run({"run", example.folder.string(), "--airgap"});
  INFO(example.output());
  REQUIRE(parked == 3);
  CHECK(example.read("out/decisions.csv") == example.read("expected.csv"));
  CHECK(example.output().find("its output is checked, not constrained") != std::string::npos);
  const std::size_t asked = server.requests().size();
  CHECK(example.run({"runs", "approve", "--by", "anna"}) == 0);
  CHECK(example.run({"runs", "replay"}) == 0);
  CHECK(server.requests().size() == asked);  // Nothing of that needs a model.
  CHECK(!example.leaks());
  // The tape is over, so no turn can be written again.
  CHECK(example.run({"runs", "verify"}) == 5);
}

TEST_CASE("a wrong key and a server that is gone end a run with what is wrong, and it goes on later", "[cli][endpoint]") {
  TapeServer tape(std::filesystem::path(KONTOR_SOURCE_DIR) / "examples/invoice-triage/tapes/inbox.jsonl");
  HttpServer server([&](const std::string& request) { return tape(request); });
  const Example example(server.url("/v1"));
  example.write("server.key", "wrong");
  CHECK(example.run({"doctor", (example.folder / "agent.yaml").string()}, false) == 0);
  CHECK(example.output().find("- endpoint    model 'pocket': " + server.url("/v1") + "/models answers 401: no such key") != std::string::npos);
  CHECK(example.run({"run", example.folder.string()}) == 5);
  CHECK(example.output().find("/v1/models answers 401: no such key; it wants the right key") != std::string::npos);
  std::filesystem::remove(example.folder / "server.key");
  CHECK(example.run({"runs", "resume"}) == 5);
  CHECK(example.output().find("its api_key, the secret server (file:") != std::string::npos);
  example.write("server.key", kKey);
  CHECK(example.run({"runs", "resume"}) == 3);
  CHECK(example.read("out/decisions.csv") == example.read("expected.csv"));

  const Example away("http://192.0.2.1:8000/v1");
  CHECK(away.run({"run", away.folder.string(), "--airgap"}) == 5);
  CHECK(away.output().find("--airgap refuses http://192.0.2.1:8000") != std::string::npos);
}

TEST_CASE("llama.cpp's server gives what the engine in the process gives", "[cli][endpoint]") {
  const char* program = std::getenv("KONTOR_LLAMA_SERVER");
  if (!program) {
    WARN("KONTOR_LLAMA_SERVER names no llama-server");
    return;
  }
  std::string url;
  {
    HttpServer place([](const std::string&) { return std::string(); });
    url = place.url("/v1");
  }
  const Example example(url);
  const std::string port = url.substr(17, url.rfind('/') - 17);
  const std::string model = std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket-invoice.gguf";
  std::vector<std::string> words = {program, "-m", model, "--port", port, "-t", "1", "-c", "8192", "--alias", kName, "--api-key", kKey};
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  const std::string folder = example.folder.string();
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  struct Child {
    pid_t id = -1;
    ~Child() {
      if (id > 0 && ::kill(id, SIGTERM) == 0) ::waitpid(id, nullptr, 0);
    }
  } child;
  REQUIRE(posix_spawn(&child.id, program, &actions, nullptr, arguments.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  int parked = -1;
  for (int tries = 0; tries < 60; ++tries) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    parked = example.run({"run", example.folder.string()});
    if (parked != 5) break;
  }
  INFO(example.output());
  CHECK(parked == 3);
  CHECK(example.read("out/decisions.csv") == example.read("expected.csv"));
  CHECK(example.run({"runs", "approve", "--by", "anna"}) == 0);
  CHECK(example.run({"runs", "replay"}) == 0);
  CHECK(example.run({"runs", "verify"}) == 0);
  CHECK(example.output().find("turns were written by a server") != std::string::npos);
}
