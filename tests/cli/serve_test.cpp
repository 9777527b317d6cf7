// `kontor serve` with a webhook: the real program, a real socket, and a run that is there after the answer.

#include "agent/journal.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"
#include "tests/support/http_peer.hpp"
#include "tests/support/program.hpp"

#include <nlohmann/json.hpp>
#include <signal.h>
#include <sqlite3.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
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
  /// For files without a webhook.
  void start_quietly() { child_ = copy_.start({"serve", copy_.folder.string()}); }
  void signal(int number) const { ::kill(child_, number); }
  std::size_t runs() const {
    const auto journal = kontor::agent::Journal::open((copy_.folder / "runs").string());
    REQUIRE(journal.has_value());
    return (*journal)->list(1000)->size();
  }
  void forget_schedules() const {
    sqlite3* db = nullptr;
    REQUIRE(sqlite3_open((copy_.folder / "runs/journal.db").c_str(), &db) == SQLITE_OK);
    REQUIRE(sqlite3_exec(db, "UPDATE marks SET value = value - 2 * 366 * 86400 WHERE key LIKE 'schedule:%'", nullptr, nullptr, nullptr) == SQLITE_OK);
    CHECK(sqlite3_changes(db) == 1);
    sqlite3_close(db);
  }
  int stop(int signal) {
    ::kill(child_, signal);
    return kontor::test::ExampleCopy::wait(std::exchange(child_, -1));
  }
  static std::string message(const std::string& path, const std::string& body) {
    const std::string signature = kontor::hmac_sha256_hex("s3cret", body);
    return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nX-Hub-Signature-256: sha256=" + signature + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  /// Posts a signed body.
  static std::string post(std::uint16_t port, const std::string& path, const std::string& body) { return HttpPeer(port).ask(message(path, body)); }
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

TEST_CASE("a message that started a run starts no second one after a restart", "[cli][serve]") {
  for (const int signal : {SIGINT, SIGKILL}) {
    Serving serving;
    const std::string body = R"({"text": "once"})";
    const std::string answer = serving.post(serving.start(), "/lines", body);
    INFO(answer);
    REQUIRE(HttpPeer::status(answer) == 202);
    serving.stop(signal);
    const std::uint16_t port = serving.start();
    CHECK(HttpPeer::status(serving.post(port, "/lines", body)) == 401);
    // The same body at another path is another message, and so is another body.
    CHECK(HttpPeer::status(serving.post(port, "/notes", body)) == 202);
    CHECK(HttpPeer::status(serving.post(port, "/lines", R"({"text": "twice"})")) == 202);
    serving.stop(SIGKILL);
    CHECK(serving.runs() == 3);
  }
}

TEST_CASE("a server that is killed again and again makes one run of each message", "[cli][serve]") {
  Serving serving;
  std::mt19937_64 random(20261129);
  std::uint16_t port = serving.start();
  constexpr std::size_t kMessages = 12;
  std::size_t told = 0, killed = 0;
  for (std::size_t message = 0; message < kMessages; ++message) {
    const std::string body = R"({"text": "message )" + std::to_string(message) + "\"}";
    // The sender comes again until somebody has answered.
    for (bool answered = false; !answered;) {
      const HttpPeer sender(port);
      std::jthread killer;
      if (random() % 3 != 0) {
        killer = std::jthread([&serving, us = random() % 12'000] {
          std::this_thread::sleep_for(std::chrono::microseconds(us));
          serving.signal(SIGKILL);
        });
      }
      const int status = HttpPeer::status(sender.ask(Serving::message("/lines", body)));
      const bool dies = killer.joinable();
      if (dies) {
        killer.join();
        serving.stop(SIGKILL);
        ++killed;
        port = serving.start();
      }
      INFO(status);
      CHECK((status == 202 || status == 401 || (dies && status == 0)));
      told += status == 202;
      answered = status == 202 || status == 401;
    }
  }
  serving.stop(SIGKILL);
  std::printf("%zu messages, killed %zu times, %zu answered with a run\n", kMessages, killed, told);
  CHECK(serving.runs() == kMessages);
  CHECK(killed > 0);
}

TEST_CASE("a time that passed makes one run, wherever the server is killed", "[cli][serve]") {
  Serving serving(R"(kontor: 1
name: yearly
tools: {files: {use: builtin.files, root: ., write: out}}
policy: {allow: ["files.*"]}
workflow:
  - {id: note, tool: files.write, with: {path: note.txt, text: "happy new year"}}
triggers:
  - {schedule: "0 0 1 1 *"}
)");
  std::mt19937_64 random(20261129);
  constexpr int kYears = 4;
  for (int year = 0; year < kYears; ++year) {
    serving.start_quietly();
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    serving.stop(SIGKILL);
    CHECK(serving.runs() == static_cast<std::size_t>(year));
    serving.forget_schedules();  // As if nothing had listened for two years.
    for (int kill = 0; kill < 6; ++kill) {
      serving.start_quietly();
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 120'000));
      serving.stop(SIGKILL);
      CHECK(serving.runs() <= static_cast<std::size_t>(year + 1));
    }
    serving.start_quietly();
    for (int i = 0; i < 3000 && serving.runs() <= static_cast<std::size_t>(year); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    serving.stop(SIGINT);
    CHECK(serving.runs() == static_cast<std::size_t>(year + 1));
  }
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
