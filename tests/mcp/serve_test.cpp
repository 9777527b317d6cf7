// Kontor's server with Kontor's client, over HTTP and over pipes, in both revisions; and what the server refuses.

#include "tests/support/catch.hpp"
#include "tools/mcp/client.hpp"
#include "tools/mcp/event_log.hpp"
#include "tools/mcp/http_transport.hpp"
#include "tools/mcp/serve_http.hpp"
#include "tools/mcp/serve_stdio.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

using namespace kontor;
using namespace kontor::tools::mcp;

namespace {

Json text_result(const std::string& text) { return Json{{"content", Json::array({Json{{"type", "text"}, {"text", text}}})}}; }

class TestOffer final : public Offer {
 public:
  Json info() const override { return Json{{"name", "test"}, {"version", "1"}}; }
  std::string instructions() const override { return "Be kind."; }
  Json more_capabilities() const override { return Json{{"resources", Json::object()}}; }
  Json tools() const override {
    Json list = Json::array();
    for (const char* name : {"echo", "ask", "slow", "grüße"}) {
      list.push_back(Json{{"name", name}, {"description", name}, {"inputSchema", Json{{"type", "object"}, {"properties", Json{{"text", Json{{"type", "string"}, {"x-mcp-header", "Text"}}}}}}}});
    }
    return list;
  }
  Reply call(const std::string& name, const Json& arguments, Conversation& conversation) override {
    if (name == "echo" || name == "grüße") {
      conversation.progress(0.5, "half");
      conversation.log("warning", "careful");
      return text_result(text_at(arguments, "text"));
    }
    if (name == "ask") {
      Json form{{"type", "object"}, {"properties", Json::object()}};
      auto answers = conversation.ask(Json{{"q", Json{{"method", "elicitation/create"}, {"params", Json{{"message", "Well?"}, {"requestedSchema", form}}}}}});
      return answers ? Reply(text_result(answers->dump())) : Reply(text_result("nobody: " + answers.error().message));
    }
    if (name == "parts") {  // a long one: says something, goes on when told to
      conversation.progress(0.25, "first");
      for (int i = 0; i < 2000 && !go_on && !conversation.stop().stop_requested(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      if (conversation.stop().stop_requested()) ++stopped;
      conversation.progress(0.75, "second");
      return text_result("all parts");
    }
    if (name == "slow") {
      ++slow;
      while (!conversation.stop().stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      ++stopped;
      return text_result("stopped");
    }
    return RpcError{kInvalidParams, "no such tool"};
  }
  Reply other(const std::string&, const Json& params, Conversation&) override { return RpcError{kResourceNotFound, "nothing there", Json{{"uri", text_at(params, "uri")}}}; }
  std::atomic<int> slow{0}, stopped{0};
  std::atomic<bool> go_on{false};
};

struct Served {
  TestOffer offer;
  Dispatcher dispatcher{offer};
  std::unique_ptr<HttpServer> server;
  std::jthread thread;
  explicit Served(ListenSetup setup = {}) : server(HttpServer::open(dispatcher, std::move(setup)).value()) {
    thread = std::jthread([this](std::stop_token stop) { server->run(stop); });
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server->port()) + "/mcp"; }
};

std::unique_ptr<Client> connect(const Served& served, const std::string& revision, bool answers = false) {
  HttpSetup setup;
  setup.url = served.url();
  ClientHooks hooks;
  if (answers) {
    hooks.capabilities = Json{{"elicitation", Json::object()}};
    hooks.answer = [](const std::string&, const Json& params) -> Reply { return Json{{"action", "accept"}, {"content", Json{{"said", text_at(params, "message")}}}}; };
  }
  ClientOptions options;
  options.revision = revision;
  auto client = Client::connect(make_http_transport(setup).value(), hooks, options);
  INFO((client ? std::string() : client.error().describe()));
  REQUIRE(client.has_value());
  return std::move(*client);
}

std::string text_of(const Result<Json>& result) {
  if (!result) return "error: " + result.error().describe();
  return text_at(result->at("content").at(0), "text");
}

Patience soon(std::int64_t ms = 5000) { return Patience::of_ms(ms); }

HttpAnswer post(const Served& served, const std::string& body, std::vector<std::pair<std::string, std::string>> headers = {}) {
  headers.emplace_back("Content-Type", "application/json");
  headers.emplace_back("Accept", "application/json, text/event-stream");
  return http_fetch({"POST", *parse_url(served.url()), headers, body}, {std::chrono::steady_clock::now() + std::chrono::seconds(5), {}, 1u << 20, {}}).value();
}

std::string stateless(const std::string& method, const std::string& version = "2026-07-28", const std::string& more = "") {
  return R"({"jsonrpc":"2.0","id":7,"method":")" + method + R"(","params":{)" + more + R"("_meta":{"io.modelcontextprotocol/protocolVersion":")" + version +
         R"(","io.modelcontextprotocol/clientCapabilities":{}}}})";
}

int code_of(const HttpAnswer& answer) {
  const auto body = parse_json(answer.body);
  return body && body->contains("error") ? body->at("error").at("code").get<int>() : 0;
}

}  // namespace

TEST_CASE("both revisions over HTTP: list, call, progress, questions", "[mcp][serve]") {
  for (const char* revision : {"2025-11-25", "2026-07-28", ""}) {
    INFO(revision);
    Served served;
    const auto client = connect(served, revision, true);
    CHECK(client->revision() == (*revision ? revision : "2026-07-28"));
    const auto tools = client->list_tools(soon());
    REQUIRE(tools.has_value());
    REQUIRE(tools->size() == 4);
    int reports = 0;
    auto patience = soon();
    patience.progress = [&](const Json& params) { reports += text_at(params, "message") == "half"; };
    CHECK(text_of(client->call_tool("echo", Json{{"text", "Grüße\n\"quoted\""}}, tools->at(0), patience)) == "Grüße\n\"quoted\"");
    CHECK(reports == 1);
    CHECK(text_of(client->call_tool("grüße", Json{{"text", " x "}}, tools->at(3), soon())) == " x ");
    CHECK(text_of(client->call_tool("ask", Json::object(), tools->at(1), soon())) == R"({"q":{"action":"accept","content":{"said":"Well?"}}})");
    const auto unknown = client->call_tool("nope", Json::object(), nullptr, soon());
    REQUIRE(!unknown.has_value());
    CHECK(unknown.error().where == "-32602");
  }
}

TEST_CASE("a client that cannot be asked is told what is missing", "[mcp][serve]") {
  Served served;
  CHECK(text_of(connect(served, "2025-11-25")->call_tool("ask", Json::object(), nullptr, soon())).find("nobody: the client does not offer elicitation") == 0);
  const auto refused = connect(served, "2026-07-28")->call_tool("ask", Json::object(), nullptr, soon());
  REQUIRE(!refused.has_value());
  CHECK(refused.error().where == "-32021");
}

TEST_CASE("a request that is given up stops its work", "[mcp][serve]") {
  for (const char* revision : {"2025-11-25", "2026-07-28"}) {
    INFO(revision);
    Served served;
    const auto client = connect(served, revision);
    const auto result = client->call_tool("slow", Json::object(), nullptr, soon(200));
    REQUIRE(!result.has_value());
    CHECK(result.error().code == Errc::timeout);
    for (int i = 0; i < 200 && served.offer.stopped == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(served.offer.stopped == 1);
  }
}

TEST_CASE("many calls at once are told apart", "[mcp][serve]") {
  Served served;
  const auto client = connect(served, "2025-11-25");
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 20; ++i) {
      threads.emplace_back([&, i] {
        const std::string text = std::to_string(i);
        if (text_of(client->call_tool("echo", Json{{"text", text}}, nullptr, soon(20'000))) == text) ++right;
      });
    }
  }
  CHECK(right == 20);
}

TEST_CASE("requests of the stateless revision are held to its rules", "[mcp][serve]") {
  Served served;
  const std::vector<std::pair<std::string, std::string>> good = {{"MCP-Protocol-Version", "2026-07-28"}, {"Mcp-Method", "tools/list"}};
  CHECK(post(served, stateless("tools/list"), good).head.status == 200);
  CHECK(code_of(post(served, stateless("tools/list"))) == kHeaderMismatch);
  CHECK(code_of(post(served, stateless("tools/list"), {{"MCP-Protocol-Version", "2026-07-28"}, {"Mcp-Method", "tools/call"}})) == kHeaderMismatch);
  const auto future = post(served, stateless("tools/list", "2099-01-01"), {{"MCP-Protocol-Version", "2099-01-01"}, {"Mcp-Method", "tools/list"}});
  CHECK(future.head.status == 400);
  CHECK(code_of(future) == kUnsupportedVersion);
  const auto unknown = post(served, stateless("ping"), {{"MCP-Protocol-Version", "2026-07-28"}, {"Mcp-Method", "ping"}});
  CHECK(unknown.head.status == 404);
  CHECK(code_of(unknown) == kMethodNotFound);
  CHECK(code_of(post(served, R"({"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}})", good)) == kInvalidParams);
  const auto state = post(served, stateless("tools/call", "2026-07-28", R"("name":"ask","arguments":{},"requestState":"1.forged",)"),
                          {{"MCP-Protocol-Version", "2026-07-28"}, {"Mcp-Method", "tools/call"}, {"Mcp-Name", "ask"}});
  CHECK(code_of(state) == kInvalidParams);
  const auto missing = post(served, stateless("resources/read", "2026-07-28", R"("uri":"test://x",)"),
                            {{"MCP-Protocol-Version", "2026-07-28"}, {"Mcp-Method", "resources/read"}, {"Mcp-Name", "test://x"}});
  CHECK(code_of(missing) == kInvalidParams);
}

TEST_CASE("sessions are made, needed and ended", "[mcp][serve]") {
  Served served;
  CHECK(post(served, R"({"jsonrpc":"2.0","id":1,"method":"tools/list"})").head.status == 400);
  CHECK(post(served, R"({"jsonrpc":"2.0","id":1,"method":"tools/list"})", {{"Mcp-Session-Id", "nope"}}).head.status == 404);
  const auto opened = post(served, R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}})");
  const std::string id = opened.head.header("Mcp-Session-Id");
  REQUIRE(id.size() > 20);
  CHECK(post(served, R"({"jsonrpc":"2.0","method":"notifications/initialized"})", {{"Mcp-Session-Id", id}}).head.status == 202);
  CHECK(post(served, R"({"jsonrpc":"2.0","id":2,"method":"ping"})", {{"Mcp-Session-Id", id}}).head.status == 200);
  const HttpLimits limits{std::chrono::steady_clock::now() + std::chrono::seconds(5), {}, 1u << 20, {}};
  CHECK(http_fetch({"DELETE", *parse_url(served.url()), {{"Mcp-Session-Id", id}}, {}}, limits)->head.status == 200);
  CHECK(post(served, R"({"jsonrpc":"2.0","id":2,"method":"ping"})", {{"Mcp-Session-Id", id}}).head.status == 404);
}

namespace {

/// A session, and requests of which only the start is read.
struct Raw {
  const Served& served;
  std::string session;
  explicit Raw(const Served& served, const std::string& revision = "2025-11-25") : served(served) {
    session = post(served, R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":")" + revision + R"(","capabilities":{},"clientInfo":{"name":"t","version":"1"}}})")
                  .head.header("Mcp-Session-Id");
  }
  /// What came until `enough` was seen, or the end; then the connection is dropped.
  std::string read(const std::string& method, const std::string& body, const std::string& last_event, const std::string& enough, int* status = nullptr) const {
    HttpRequest request{method, *parse_url(served.url()), {{"Accept", "application/json, text/event-stream"}, {"Mcp-Session-Id", session}}, body};
    if (method == "POST") request.headers.emplace_back("Content-Type", "application/json");
    if (!last_event.empty()) request.headers.emplace_back("Last-Event-ID", last_event);
    std::string all;
    const HttpLimits limits{std::chrono::steady_clock::now() + std::chrono::seconds(10), {}, 1u << 20, {}};
    const auto head = http_stream(request, limits, [](const HttpHead&) { return true; }, [&](std::string_view piece) {
      all += piece;
      return enough.empty() || all.find(enough) == std::string::npos;
    });
    if (status != nullptr && head) *status = head->status;
    return all;
  }
  std::string parts(const std::string& enough) const {
    return read("POST", R"({"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"parts","arguments":{},"_meta":{"progressToken":9}}})", {}, enough);
  }
};

}  // namespace

TEST_CASE("a stream that broke off is taken up behind its last event", "[mcp][serve]") {
  Served served;
  const Raw raw(served);
  const std::string start = raw.parts("first");
  CHECK(start.starts_with("id: 1-0\nretry: "));  // the event without data comes first
  CHECK(start.find("id: 1-1\ndata: ") != std::string::npos);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(served.offer.stopped == 0);  // the work goes on
  served.offer.go_on = true;
  const std::string rest = raw.read("GET", {}, "1-1", {});
  CHECK(rest.find("first") == std::string::npos);
  CHECK(rest.find("second") != std::string::npos);
  CHECK(rest.find("all parts") != std::string::npos);
  // As often as somebody wants it, also after its end, and from its start.
  const std::string again = raw.read("GET", {}, "1-0", {});
  CHECK(again.find("first") != std::string::npos);
  CHECK(again.find("all parts") != std::string::npos);
}

TEST_CASE("events of nobody, of others and of nonsense are refused", "[mcp][serve][hostile]") {
  Served served;
  const Raw raw(served), other(served);
  (void)raw.parts("first");
  served.offer.go_on = true;
  for (const std::string event : {"2-0", "0-0", "1", "-", "1-", "-1", "1-x", "99999999999999999999-1", "1-99999999999999999999", "1-1x", "x"}) {
    int status = 0;
    raw.read("GET", {}, event, {}, &status);
    INFO(event);
    CHECK(status == 400);
  }
  int status = 0;
  other.read("GET", {}, "1-0", {}, &status);
  CHECK(status == 400);
  // Behind the end there is nothing, and that ends at once.
  for (int i = 0; i < 200 && raw.read("GET", {}, "1-0", {}).find("all parts") == std::string::npos; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(raw.read("GET", {}, "1-1000", {}, &status).find("data") == std::string::npos);
  CHECK(status == 200);
}

TEST_CASE("a broken stream that nobody takes up ends its work in time", "[mcp][serve]") {
  ListenSetup hasty;
  hasty.resume_ms = 300;
  Served served(hasty);
  const Raw raw(served);
  (void)raw.parts("first");
  for (int i = 0; i < 500 && served.offer.stopped == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(served.offer.stopped == 1);
}

TEST_CASE("older clients get no event without data, and their broken stream ends its work", "[mcp][serve]") {
  Served served;
  const Raw raw(served, "2025-06-18");
  CHECK(raw.parts("first").find("id: ") == std::string::npos);
  for (int i = 0; i < 500 && served.offer.stopped == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(served.offer.stopped == 1);
}

TEST_CASE("a long request without anything to say is answered by a stream that can be taken up", "[mcp][serve]") {
  Served served;
  const Raw raw(served);
  const std::string start = raw.read("POST", R"({"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"parts","arguments":{}}})", {}, "id: 1-0");
  CHECK(start.find("id: 1-0") != std::string::npos);
  served.offer.go_on = true;
  CHECK(raw.read("GET", {}, "1-0", {}).find("all parts") != std::string::npos);
}

TEST_CASE("a stream with more than is kept can no longer be taken up", "[mcp][serve]") {
  EventLog log(3);
  for (int i = 0; i < 2'000; ++i) CHECK(log.append("m") == static_cast<std::size_t>(i) + 1);
  CHECK(log.after(1'990, 0).messages.size() == 10);
  CHECK(log.whole());
  log.append("one too many");
  CHECK_FALSE(log.whole());
  CHECK(log.after(0, 0).messages.empty());
  EventLog large(4);
  large.append(std::string(33u << 20, 'x'));
  CHECK_FALSE(large.whole());
  StreamShelf shelf;
  for (int i = 0; i < 40; ++i) shelf.open();
  CHECK_FALSE(shelf.find("8-0").log);
  CHECK(shelf.find("9-0").log);
}

TEST_CASE("pages of other places, other hosts and strangers are refused", "[mcp][serve]") {
  Served served;
  CHECK(post(served, stateless("tools/list"), {{"Origin", "https://evil.example"}}).head.status == 403);
  CHECK(post(served, stateless("tools/list"), {{"Host", "evil.example"}}).head.status == 403);
  CHECK(post(served, "{", {}).head.status == 400);
  ListenSetup guarded;
  guarded.token = "a-long-enough-token";
  Served secret(guarded);
  CHECK(post(secret, stateless("tools/list")).head.status == 401);
  CHECK(post(secret, stateless("tools/list"), {{"Authorization", "Bearer a-long-enough-token"}}).head.status == 400);
  ListenSetup open;
  open.host = "0.0.0.0";
  CHECK(HttpServer::open(served.dispatcher, open).error().kind == "token_missing");
}

TEST_CASE("garbage over HTTP harms nobody", "[mcp][serve][hostile]") {
  Served served;
  for (const std::string& bytes : {std::string("\x16\x03\x01\x02"), std::string("GET / HTTP/9.9\r\n\r\n"), std::string("POST /mcp HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"),
                                  std::string("POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), std::string(100'000, 'a')}) {
    HttpLimits limits{std::chrono::steady_clock::now() + std::chrono::seconds(5), {}, 1u << 20, {}};
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(served.server->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ::shutdown(socket, SHUT_WR);
    char answer[4096];
    while (::recv(socket, answer, sizeof answer, 0) > 0) {}
    ::close(socket);
  }
  CHECK(connect(served, "2026-07-28")->list_tools(soon()).has_value());
}

TEST_CASE("the server on pipes answers both revisions side by side", "[mcp][serve]") {
  int to[2], from[2];
  REQUIRE(::pipe(to) == 0);
  REQUIRE(::pipe(from) == 0);
  TestOffer offer;
  Dispatcher dispatcher(offer);
  bool served = false;
  std::jthread thread([&](std::stop_token stop) {
    served = serve_stdio(dispatcher, to[0], from[1], stop).has_value();
    ::close(from[1]);
  });
  const std::string lines = "garbage\n" + std::string(R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}})") + "\n" +
                            R"({"jsonrpc":"2.0","id":2,"method":"tools/list"})" + "\n" + stateless("server/discover") + "\n" +
                            R"({"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"slow"}})" + "\n" + R"({"jsonrpc":"2.0","id":4,"method":"nope"})" + "\n";
  REQUIRE(::write(to[1], lines.data(), lines.size()) == static_cast<ssize_t>(lines.size()));
  for (int i = 0; i < 300 && offer.slow == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const std::string cancel = R"({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}})" "\n";
  REQUIRE(::write(to[1], cancel.data(), cancel.size()) > 0);
  for (int i = 0; i < 300 && offer.stopped == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::close(to[1]);
  thread.join();
  std::string all;
  char piece[65536];
  for (ssize_t count = 0; (count = ::read(from[0], piece, sizeof piece)) > 0;) all.append(piece, static_cast<std::size_t>(count));
  ::close(from[0]);
  ::close(to[0]);
  CHECK(served);
  CHECK(offer.stopped == 1);
  CHECK(all.find("-32700") != std::string::npos);
  CHECK(all.find(R"("id":2,"result":{"tools")") != std::string::npos);
  CHECK(all.find(R"("id":7,"result":{"supportedVersions":["2026-07-28")") != std::string::npos);
  CHECK(all.find(R"("id":4,"error":{"code":-32601)") != std::string::npos);
  CHECK(all.find(R"("id":3,)") == std::string::npos);  // Nobody wants the answer to what was cancelled.
}
