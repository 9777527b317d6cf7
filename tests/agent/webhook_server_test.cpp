// Webhooks over a real socket: what starts a run, what is refused and how, and hostile senders.

#include "agent/server/webhook_server.hpp"
#include "agent/triggers/posted.hpp"
#include "agent/triggers/trigger_book.hpp"
#include "base/hash.hpp"
#include "tests/agent/bank_run.hpp"
#include "tests/support/http_peer.hpp"

#include <atomic>
#include <chrono>
#include <thread>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;
using kontor::test::HttpPeer;

namespace {

constexpr const char* kSecret = "s3cret";
constexpr std::int64_t kNow = 1'790'000'000;

std::string post(const std::string& path, const std::string& body, const std::string& headers) {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body;
}
std::string signature(const std::string& body, std::int64_t at = kNow, const std::string& secret = kSecret) { return "Kontor-Signature: " + sign_webhook(secret, at, body) + "\r\n"; }

/// A server with one webhook that only counts.
struct Counting {
  ManualClock clock{kNow * 1000};
  std::atomic<int> started = 0;
  Result<std::string> outcome = std::string("run-1");
  WebhookSetup setup;
  std::unique_ptr<WebhookServer> server;
  std::stop_source stop;
  std::jthread thread;

  explicit Counting(tools::ServeLimits limits = {}) {
    setup.clock = &clock;
    setup.limits = limits;
    std::map<std::string, Webhook> hooks;
    hooks["/invoices"].secret = kSecret;
    hooks["/invoices"].start = [this](std::string_view, const std::string&) {
      ++started;
      return outcome;
    };
    auto opened = WebhookServer::open(std::move(hooks), setup);
    if (!opened) FAIL(opened.error().describe());
    server = std::move(*opened);
    thread = std::jthread([this] { server->run(stop.get_token()); });
  }
  ~Counting() { stop.request_stop(); }

  std::string ask(const std::string& request) const { return HttpPeer(server->port()).ask(request); }
  int status(const std::string& request) const { return HttpPeer::status(ask(request)); }
};

}  // namespace

TEST_CASE("a signed message starts one run and is told its id", "[agent][webhook]") {
  Counting server;
  const std::string answer = server.ask(post("/invoices?from=test", "{}", signature("{}")));
  CHECK(HttpPeer::status(answer) == 202);
  CHECK(answer.ends_with("\r\n\r\n{\"run\":\"run-1\"}"));
  CHECK(server.started == 1);
  CHECK(server.status(post("/invoices", "{}", signature("{}"))) == 401);  // replayed
  CHECK(server.status(post("/invoices", "{}", signature("{}", kNow + 1))) == 202);
  CHECK(server.status(post("/invoices", "{\"a\":1}", "X-Hub-Signature-256: sha256=" + hmac_sha256_hex(kSecret, "{\"a\":1}") + "\r\n")) == 202);
  CHECK(server.started == 3);
}

TEST_CASE("what is not signed, not here, or not a post starts nothing", "[agent][webhook]") {
  Counting server;
  CHECK(server.status(post("/invoices", "{}", "")) == 401);
  CHECK(server.status(post("/invoices", "{}", signature("{}", kNow, "wrong"))) == 401);
  CHECK(server.status(post("/invoices", "{ }", signature("{}"))) == 401);
  CHECK(server.status(post("/invoices", "{}", signature("{}", kNow - 301))) == 401);
  CHECK(server.status(post("/invoices", "{}", signature("{}") + signature("{}"))) == 400);
  CHECK(server.status(post("/invoices/", "{}", signature("{}"))) == 404);
  CHECK(server.status(post("/", "{}", signature("{}"))) == 404);
  CHECK(server.status("GET /invoices HTTP/1.1\r\nHost: x\r\n\r\n") == 405);
  CHECK(server.status("GET /health HTTP/1.1\r\nHost: x\r\n\r\n") == 200);
  CHECK(server.status(post("/health", "{}", "")) == 405);
  CHECK(server.started == 0);
  const auto refused = parse_json(HttpPeer::body(server.ask(post("/invoices", "{}", ""))));
  REQUIRE(refused.has_value());
  CHECK(refused->at("error").at("kind") == "signature");
}

TEST_CASE("errors have their status, and a refused message may be sent again", "[agent][webhook]") {
  Counting server;
  const std::string request = post("/invoices", "{}", signature("{}"));
  const std::pair<Errc, int> cases[] = {{Errc::usage, 400}, {Errc::malformed, 400}, {Errc::limit, 400}, {Errc::conflict, 409}, {Errc::budget, 429}, {Errc::cancelled, 503}};
  for (const auto& [code, status] : cases) {
    server.outcome = fail(code, "why not");
    const std::string answer = server.ask(request);
    CHECK(HttpPeer::status(answer) == status);
    CHECK(answer.find("why not") != std::string::npos);
  }
  server.outcome = fail(Errc::io, "/home/me/secret.db is full");
  const std::string answer = server.ask(request);
  CHECK(HttpPeer::status(answer) == 500);
  CHECK(answer.find("secret.db") == std::string::npos);
  server.outcome = std::string("run-2");
  CHECK(server.status(request) == 202);
  CHECK(server.status(request) == 401);
}

TEST_CASE("hostile senders get an answer or nothing, and others are served meanwhile", "[agent][webhook]") {
  tools::ServeLimits limits;
  limits.head_bytes_max = 4096, limits.body_bytes_max = 10'000;
  limits.request_ms = 300, limits.connections_max = 8;
  Counting server(limits);
  const auto served = [&] { return server.status("GET /health HTTP/1.1\r\nHost: x\r\n\r\n") == 200; };

  SECTION("a head without an end") {
    CHECK(server.status("POST /invoices HTTP/1.1\r\nX-Long: " + std::string(100'000, 'a')) == 431);
    std::string many = "POST /invoices HTTP/1.1\r\n";
    for (int i = 0; i < 2000; ++i) many += "X-" + std::to_string(i) + ": 1\r\n";
    CHECK(server.status(many + "\r\n") == 431);
  }
  SECTION("bodies that are too long, or say so") {
    CHECK(server.status("POST /invoices HTTP/1.1\r\nHost: x\r\nContent-Length: 10001\r\n\r\n") == 413);
    CHECK(server.status("POST /invoices HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n") == 400);
    std::string chunks = "POST /invoices HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 12; ++i) chunks += "3e8\r\n" + std::string(1000, 'x') + "\r\n";
    CHECK(server.status(chunks + "0\r\n\r\n") == 413);
  }
  SECTION("what is not HTTP") {
    for (const std::string bad : {"\x16\x03\x01\x02garbage\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST /invoices HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "POST /invoices\r\n\r\n",
                                  "POST /invoices HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"}) {
      CHECK(server.status(bad) == 400);
    }
  }
  SECTION("what a proxy in front may read as another request") {
    const std::string smuggled = post("/invoices", "{}", signature("{}"));
    const std::string start = "POST /invoices HTTP/1.1\r\nHost: x\r\n";
    for (const std::string coding : {"Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                                     "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "Transfer-Encoding:\x0b" "chunked\r\n", "Host: y\r\n"}) {
      const HttpPeer peer(server.server->port());
      const std::string answer = peer.ask(start + coding + "\r\n" + smuggled);
      INFO(coding);
      CHECK(HttpPeer::status(answer) == 400);
      CHECK(answer.find("HTTP/1.1 ", 1) == std::string::npos);  // nothing behind it was read as a request
    }
    CHECK(server.status("GET /health HTTP/1.1\r\n\r\n") == 400);  // no Host
    CHECK(server.status("POST /invoices HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") == 400);
    CHECK(server.status("GET /health HTTP/1.0\r\n\r\n") == 200);
    CHECK(server.status("POST /invoices HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n") == 401);
  }
  SECTION("one that sends a byte now and then") {
    const HttpPeer slow(server.server->port());
    const std::string request = post("/invoices", "{}", signature("{}"));
    const auto begin = std::chrono::steady_clock::now();
    std::string answer;
    for (std::size_t i = 0; i < request.size() && answer.empty(); ++i) {
      if (!slow.send(request.substr(i, 1))) break;
      answer = slow.receive(50);
    }
    CHECK(HttpPeer::status(answer) == 408);
    // Bytes do not buy more time. The bound is wide for busy machines; the whole request would take longer still.
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(50 * static_cast<int>(request.size())));
  }
  SECTION("more connections than there may be") {
    std::vector<std::unique_ptr<HttpPeer>> open;
    for (int i = 0; i < limits.connections_max; ++i) {
      open.push_back(std::make_unique<HttpPeer>(server.server->port()));
      CHECK(HttpPeer::status(open.back()->ask("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")) == 200);  // has its thread now
    }
    CHECK(server.status("GET /health HTTP/1.1\r\nHost: x\r\n\r\n") == 503);
    open.clear();
    for (int i = 0; i < 500 && !served(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(served());
  CHECK(server.started == 0);
}

TEST_CASE("a server stops at once though a connection is open", "[agent][webhook]") {
  auto server = std::make_unique<Counting>();
  const HttpPeer idle(server->server->port());
  REQUIRE(idle.send("POST /invoices HTTP/1.1\r\n"));
  server.reset();
  CHECK(idle.receive(2000).empty());
}

TEST_CASE("addresses to listen on", "[agent][webhook]") {
  WebhookSetup setup;
  CHECK(read_listen("127.0.0.2:80", setup));
  CHECK((setup.host == "127.0.0.2" && setup.port == 80));
  CHECK(read_listen("[::1]:8787", setup));
  CHECK((setup.host == "::1" && setup.port == 8787));
  CHECK(read_listen("9000", setup));
  CHECK((setup.host == "::1" && setup.port == 9000));
  for (const char* bad : {"", ":", "localhost", "127.0.0.1:", "127.0.0.1:65536", "::1:80", "127.0.0.1:8o", ":80"}) CHECK(!read_listen(bad, setup));
  setup.host = "0.0.0.0", setup.port = 0, setup.airgap = true;
  const auto refused = WebhookServer::open({}, setup);
  REQUIRE(!refused);
  CHECK(refused.error().code == Errc::denied);
  setup.host = "127.0.0.1";
  CHECK(WebhookServer::open({}, setup));
  std::map<std::string, Webhook> hooks;
  hooks["/a"].secret = "";
  CHECK(!WebhookServer::open(hooks, setup));
  hooks.clear();
  hooks["/health"].secret = "x";
  CHECK(!WebhookServer::open(hooks, setup));
}

TEST_CASE("a body becomes inputs, but not those of the trigger and no places of the machine", "[agent][webhook]") {
  Setup setup;
  setup.yaml = R"(kontor: 1
name: hook
inputs: {amount: {type: number, required: true}, limit: {type: number, default: 5}, inbox: {type: dir, default: "."}}
secrets: {hook: {from: env:HOOK}}
tools: {bank: {use: plugin, library: libbank.so}}
workflow: [{fail: "x"}]
triggers: [{webhook: /pay, secret: hook, inputs: {limit: 7}}]
)";
  const Spec spec = setup.spec();
  const auto inputs = posted_inputs(spec, spec.triggers[0], R"({"amount": 3})");
  if (!inputs) FAIL(inputs.error().describe());
  CHECK(inputs->at("amount") == 3);
  CHECK(inputs->at("limit") == 7);
  for (const char* bad : {R"({"amount": 3, "limit": 9})", R"({"amount": 3, "inbox": "/etc"})", R"({"amount": "3"})", R"({"amout": 3})", "{}", "[]", "3", "", "{", R"({"amount":1,"amount":2})"}) {
    INFO(bad);
    CHECK(!posted_inputs(spec, spec.triggers[0], bad));
  }
  CHECK(posted_inputs(spec, spec.triggers[0], std::string(100'000, '[')).error().code == Errc::limit);

  setup.yaml = R"(kontor: 1
name: hook
inputs: {body: {type: object}}
secrets: {hook: {from: env:HOOK}}
workflow: [{fail: "x"}]
triggers: [{webhook: /all, secret: hook}]
)";
  const Spec whole = setup.spec();
  const auto all = posted_inputs(whole, whole.triggers[0], R"({"action": "opened", "limit": 1})");
  if (!all) FAIL(all.error().describe());
  CHECK(all->at("body").at("action") == "opened");
}

TEST_CASE("inputs of a webhook are untrusted, also when the run is resumed", "[agent][webhook]") {
  Setup setup;
  setup.yaml = std::string(kHead) + R"(policy: {allow: ["bank.*"], trusted_only: [bank.pay]}
workflow:
  - {id: pay, tool: bank.pay, with: {amount: "${inputs.limit}"}}
)";
  const Spec spec = setup.spec();
  const auto inputs = resolve_inputs(spec, Json{{"limit", 5}});
  REQUIRE(inputs.has_value());
  RunOptions options;
  const auto journal = setup.journal();
  const auto trusted = start_run(*journal, spec, *inputs, options, setup.world());
  REQUIRE(trusted.has_value());
  CHECK(trusted->status == "done");
  options.untrusted_inputs = true;
  std::string created;
  RunWorld world = setup.world();
  world.created = [&](const std::string& id) {
    created = id;
    CHECK(journal->find(id).has_value());
    CHECK(setup.bank.payments.size() == 1);  // Nothing of the second run has begun.
    setup.stop.request_stop();
  };
  const auto stopped = start_run(*journal, spec, *inputs, options, world);
  REQUIRE(stopped.has_value());
  CHECK(stopped->id == created);
  CHECK(stopped->status == "interrupted");
  setup.stop = std::stop_source();
  const auto resumed = resume_run(*journal, created, {}, setup.world());
  REQUIRE(resumed.has_value());
  INFO(resumed->note);
  CHECK(resumed->status == "failed");
  CHECK(setup.bank.payments.size() == 1);
}

TEST_CASE("messages stand in line or are left out", "[agent][triggers]") {
  TriggerSpec skip, queue;
  skip.webhook = "/a", queue.webhook = "/b", queue.overlap = "queue";
  auto book = TriggerBook::create({skip, queue}, [](std::size_t) { return std::nullopt; }, 0);
  REQUIRE(book.has_value());
  const auto first = book->posted(0);
  REQUIRE(first);
  CHECK(book->has_turn(0, *first));
  CHECK(!book->posted(0));
  CHECK(book->left_out(0) == 1);
  book->left(0, *first);
  CHECK(book->posted(0));
  std::vector<std::uint64_t> line;
  while (const auto place = book->posted(1)) line.push_back(*place);
  CHECK(line.size() == 17);
  CHECK(book->has_turn(1, line[0]));
  CHECK(!book->has_turn(1, line[1]));
  book->left(1, line[1]);  // Failed before its turn.
  book->left(1, line[0]);
  CHECK(book->has_turn(1, line[2]));
}
