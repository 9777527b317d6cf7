// `kontor serve` with a webhook: the real program, a real socket, and a run that is there after the answer.

#include "base/hash.hpp"
#include "base/json.hpp"
#include "tests/support/http_peer.hpp"
#include "tests/support/program.hpp"

#include <nlohmann/json.hpp>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

namespace {

namespace fs = std::filesystem;
using kontor::test::HttpPeer;
using kontor::test::read_text;

constexpr const char* kFile = R"(kontor: 1
name: hooked
inputs: {text: {type: string, required: true}, wait: {type: string, default: 1ms}}
secrets: {hook: {from: file:hook.key}}
tools: {files: {use: builtin.files, root: ., write: out}}
policy: {allow: ["files.*"]}
workflow:
  - {wait: "${inputs.wait}"}
  - {id: note, tool: files.write, with: {path: note.txt, text: "${inputs.text}"}}
triggers:
  - {webhook: /notes, secret: hook}
  - {webhook: /lines, secret: hook, overlap: queue}
)";

/// A folder with the file, served.
class Serving {
 public:
  explicit Serving(const std::string& yaml = kFile) : copy_("invoice-triage") {
    copy_.write("agent.yaml", yaml);
    copy_.write("hook.key", "s3cret\n");
  }
  ~Serving() {
    if (child_ > 0) ::kill(child_, SIGKILL), ::waitpid(child_, nullptr, 0);
  }

  std::uint16_t start(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"serve", copy_.folder.string(), "--listen", "127.0.0.1:0"};
    words.insert(words.end(), more.begin(), more.end());
    child_ = copy_.start(words);
    const std::string mark = "listening on http://127.0.0.1:";
    for (int i = 0; i < 3000; ++i) {
      const std::string said = copy_.read("stderr");
      const auto at = said.find(mark);
      if (at != std::string::npos && said.find(' ', at + mark.size()) != std::string::npos) return static_cast<std::uint16_t>(std::atoi(said.c_str() + at + mark.size()));
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL("it does not listen: " + copy_.output());
    return 0;
  }
  int stop(int signal) {
    ::kill(child_, signal);
    return kontor::test::ExampleCopy::wait(std::exchange(child_, -1));
  }
  /// Posts a body with a fresh signature.
  static std::string post(std::uint16_t port, const std::string& path, const std::string& body) {
    const std::string signature = kontor::hmac_sha256_hex("s3cret", body);
    return HttpPeer(port).ask("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nX-Hub-Signature-256: sha256=" + signature + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  static std::string run_of(const std::string& answer) {
    const auto body = kontor::parse_json(HttpPeer::body(answer));
    return body && body->contains("run") ? body->at("run").get<std::string>() : std::string();
  }
  /// What the journal says of a run, once it says one of these.
  std::string status(const std::string& id, const std::string& wanted) const {
    std::string status;
    for (int i = 0; i < 100 && status != wanted; ++i) {
      REQUIRE(copy_.run({"runs", "show", id, "--json"}) == 0);
      const auto shown = kontor::parse_json(copy_.read("stdout"));
      REQUIRE(shown.has_value());
      status = shown->at("status").get<std::string>();
    }
    return status;
  }
  const kontor::test::ExampleCopy& copy() const { return copy_; }

 private:
  kontor::test::ExampleCopy copy_;
  pid_t child_ = -1;
};

}  // namespace

TEST_CASE("a webhook starts a run of the real program, and Ctrl-C ends it", "[cli][serve]") {
  Serving serving;
  const std::uint16_t port = serving.start();
  CHECK(HttpPeer::status(HttpPeer(port).ask("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")) == 200);
  const std::string answer = serving.post(port, "/notes", R"({"text": "from outside"})");
  INFO(answer);
  REQUIRE(HttpPeer::status(answer) == 202);
  const std::string id = serving.run_of(answer);
  REQUIRE(!id.empty());
  CHECK(HttpPeer::status(serving.post(port, "/notes", R"({"text": "from outside"})")) == 401);
  CHECK(HttpPeer::status(serving.post(port, "/notes", R"({"txt": "x"})")) == 400);
  for (int i = 0; i < 3000 && !fs::exists(serving.copy().folder / "out/note.txt"); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(serving.copy().read("out/note.txt") == "from outside");
  CHECK(serving.stop(SIGINT) == 0);
  CHECK(serving.status(id, "done") == "done");
}

TEST_CASE("a run whose id was told is there after the server was killed", "[cli][serve]") {
  Serving serving;
  const std::uint16_t port = serving.start();
  std::vector<std::string> ids;
  for (const char* text : {"one", "two", "three"}) {
    const std::string answer = serving.post(port, "/lines", std::string(R"({"wait": "1h", "text": ")") + text + "\"}");
    INFO(answer);
    REQUIRE(HttpPeer::status(answer) == 202);
    ids.push_back(serving.run_of(answer));
  }
  serving.stop(SIGKILL);
  REQUIRE(serving.copy().run({"runs", "list", "--json"}) == 0);
  for (const auto& id : ids) CHECK(serving.copy().read("stdout").find(id) != std::string::npos);
  CHECK(!fs::exists(serving.copy().folder / "out/note.txt"));
}

TEST_CASE("what cannot be served is said at the start", "[cli][serve]") {
  Serving serving;
  fs::remove(serving.copy().folder / "hook.key");
  CHECK(serving.copy().run({"serve", serving.copy().folder.string(), "--listen", "127.0.0.1:0"}) == 2);
  CHECK(serving.copy().output().find("has no value") != std::string::npos);
  serving.copy().write("hook.key", "s3cret");
  CHECK(serving.copy().run({"serve", serving.copy().folder.string(), "--listen", "0.0.0.0:0", "--airgap"}) == 2);
  CHECK(serving.copy().output().find("--airgap") != std::string::npos);
  CHECK(serving.copy().run({"serve", serving.copy().folder.string(), "--listen", "nowhere"}) == 2);
  serving.copy().edit("overlap: queue", "missed: skip");
  CHECK(serving.copy().run({"check", serving.copy().folder.string() + "/agent.yaml"}, false) == 1);
  CHECK(serving.copy().output().find("missed") != std::string::npos);
}
