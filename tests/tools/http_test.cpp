#include "tests/support/catch.hpp"
#include "tests/tools/local_server.hpp"
#include "tools/builtin/builtin.hpp"
#include "tools/builtin/private_address.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

namespace kontor::tools {
namespace {

struct World {
  void use(const std::string& group, const Json& settings) {
    const auto made = make_builtin("builtin.http", group, settings, context);
    if (!made) FAIL(made.error().describe());
    for (const auto& tool : *made) REQUIRE(registry.add(tool).has_value());
  }
  ToolResult call(const std::string& name, const Json& arguments, std::stop_token stop = {}) const {
    CallContext call;
    call.stop = std::move(stop);
    call.idempotency_key = "key-1";
    return registry.call(name, arguments, call);
  }
  std::string error(const std::string& name, const Json& arguments) const {
    const auto result = call(name, arguments);
    return result.is_error ? result.error_kind : "ok";
  }
  BuiltinContext context;
  Registry registry;
};

Json local(const LocalServer& server) { return {{"hosts", {"127.0.0.1:" + std::to_string(server.port)}}, {"private", true}, {"plain", true}}; }

}  // namespace

TEST_CASE("addresses that are no business of the web are known in every spelling", "[builtin]") {
  for (const char* address : {"127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "::1", "::ffff:10.0.0.1",
                              "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "2001:db8::1", "2002:7f00:1::", "64:ff9b::a00:1", "2001::1", "::7f00:1", "nothing"})
    CHECK(is_private_address(address));
  for (const char* address : {"1.1.1.1", "172.32.0.1", "192.169.0.1", "2606:4700::1111", "2001:4860:4860::8888", "::ffff:8.8.8.8", "2002:808:808::"}) CHECK(!is_private_address(address));
  CHECK(is_loopback_address("127.9.9.9"));
  CHECK(is_loopback_address("::1"));
  CHECK(!is_loopback_address("10.0.0.1"));
}

TEST_CASE("http.get and http.post reach the hosts of the agent file and no others", "[builtin]") {
  LocalServer server([](const std::string& request) { return request.starts_with("POST") ? answer(R"({"ok": 1.50})", "Content-Type: application/json\r\nSet-Cookie: a=b\r\n", "201 Created") : answer("hello"); });
  World world;
  Json settings = local(server);
  settings["config"] = {{"X-Token", "secret"}};
  world.use("web", settings);
  const auto got = world.call("web.get", {{"url", server.url("/a?b=c#d")}, {"headers", {{"Accept", "text/plain"}}}});
  REQUIRE(!got.is_error);
  CHECK(got.value["status"] == 200);
  CHECK(got.value["text"] == "hello");
  CHECK(server.seen()[0].starts_with("GET /a?b=c HTTP/1.1\r\n"));
  CHECK(server.seen()[0].find("X-Token: secret\r\n") != std::string::npos);
  const auto posted = world.call("web.post", {{"url", server.url("/p")}, {"json", {{"a", 1}}}});
  REQUIRE(!posted.is_error);
  CHECK(posted.value["json"]["ok"] == 1.5);
  CHECK(!posted.value["headers"].contains("set-cookie"));
  CHECK(server.seen()[1].find("Idempotency-Key: key-1\r\n") != std::string::npos);
  CHECK(server.seen()[1].ends_with("{\"a\":1}"));

  CHECK(world.error("web.get", {{"url", "http://localhost:" + std::to_string(server.port) + "/"}}) == "denied");
  CHECK(world.error("web.get", {{"url", "http://127.0.0.1/"}}) == "denied");
  CHECK(world.error("web.get", {{"url", "file:///etc/passwd"}}) == "invalid_arguments");
  CHECK(world.error("web.get", {{"url", "http://user:pw@127.0.0.1/"}}) == "invalid_arguments");
  CHECK(world.error("web.get", {{"url", "nonsense"}}) == "invalid_arguments");
  CHECK(world.error("web.get", {{"url", server.url("/")}, {"headers", {{"Host", "x"}}}}) == "invalid_arguments");
  CHECK(world.error("web.get", {{"url", server.url("/")}, {"headers", {{"A", "x\r\nB: y"}}}}) != "ok");
  CHECK(world.error("web.post", {{"url", server.url("/")}}) == "invalid_arguments");
  CHECK(server.seen().size() == 2);
}

TEST_CASE("a name or a redirect that leads to a private address is refused", "[builtin]") {
  LocalServer inside([](const std::string&) { return answer("inside"); });
  World world;
  const std::string port = std::to_string(inside.port);
  world.use("outside", {{"hosts", {"localhost:" + port, "127.0.0.1:" + port, "[::ffff:127.0.0.1]:" + port}}, {"plain", true}});
  for (const std::string host : {"localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"}) CHECK(world.error("outside.get", {{"url", "http://" + host + ":" + port + "/"}}) == "denied");
  CHECK(inside.seen().empty());

  LocalServer hop([&](const std::string& request) {
    const std::string target = request.substr(5, request.find(' ', 5) - 5);
    if (target == "loop") return answer("", "Location: /loop\r\n", "302 Found");
    if (target == "away") return answer("", "Location: " + inside.url("/x") + "\r\n", "302 Found");
    if (target == "near") return answer("", "Location: here?y#z\r\n", "303 See Other");
    if (target == "file") return answer("", "Location: file:///etc/passwd\r\n", "302 Found");
    return answer("arrived " + target);
  });
  world.use("web", local(hop));
  CHECK(world.call("web.get", {{"url", hop.url("/near")}}).value["text"] == "arrived here?y");
  CHECK(world.error("web.get", {{"url", hop.url("/loop")}}) == "limit");
  CHECK(world.error("web.get", {{"url", hop.url("/away")}}) == "denied");
  CHECK(world.error("web.get", {{"url", hop.url("/file")}}) == "malformed");
  CHECK(inside.seen().empty());

  Json both = local(hop);
  both["hosts"].push_back("127.0.0.1:" + port);
  both["config"] = {{"X-Token", "secret"}};
  world.use("both", both);
  CHECK(world.call("both.get", {{"url", hop.url("/away")}}).value["text"] == "inside");
  CHECK(inside.seen().back().find("secret") == std::string::npos);  // headers stay with the first host
  world.context.egress = Egress::airgap();
  world.use("air", {{"hosts", {"1.1.1.1"}}, {"plain", true}});
  CHECK(world.error("air.get", {{"url", "http://1.1.1.1/"}}) == "denied");
  world.use("named", {{"hosts", {"models.example"}}});
  CHECK(world.error("named.get", {{"url", "https://models.example/"}}) == "denied");  // no name server is asked
}

TEST_CASE("answers that are long, slow or not text end in an error, in time", "[builtin]") {
  std::atomic<bool> wait{true};
  LocalServer server([&](const std::string& request) {
    if (request.starts_with("GET /long")) return answer(std::string(100'000, 'x'));
    if (request.starts_with("GET /head")) return answer("", "X-Long: " + std::string(100'000, 'x') + "\r\n");
    if (request.starts_with("GET /bytes")) return answer("\xff\xfe");
    if (request.starts_with("GET /cut")) return std::string("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
    if (request.starts_with("GET /noise")) return std::string("this is not HTTP\r\n\r\n");
    if (request.starts_with("GET /slow"))
      for (int i = 0; i < 100 && wait; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return answer("late");
  });
  World world;
  Json settings = local(server);
  settings["max_body"] = 50'000;
  settings["timeout_ms"] = 300;
  world.use("web", settings);
  CHECK(world.error("web.get", {{"url", server.url("/long")}}) == "limit");
  CHECK(world.error("web.get", {{"url", server.url("/head")}}) != "ok");
  CHECK(world.error("web.get", {{"url", server.url("/bytes")}}) == "encoding");
  CHECK(world.error("web.get", {{"url", server.url("/cut")}}) == "io");
  CHECK(world.error("web.get", {{"url", server.url("/noise")}}) == "io");
  CHECK(world.error("web.get", {{"url", server.url("/slow")}}) == "timeout");
  wait = false;
  std::stop_source stop;
  stop.request_stop();
  CHECK(world.call("web.get", {{"url", server.url("/a")}}, stop.get_token()).error_kind == "cancelled");
}

TEST_CASE("what is wrong with a request or an answer is told with its reason", "[builtin]") {
  LocalServer server([&](const std::string& request) {
    if (request.starts_with("GET /latin")) return answer("\xe4", "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Encoding: gz\x1b[31m\r\n");
    if (request.starts_with("GET /head")) return answer("", "X-Long: " + std::string(300'000, 'x') + "\r\n");
    if (request.starts_with("GET /loop")) return answer("", "Location: /loop\r\n", "302 Found");
    if (request.starts_with("GET /file")) return answer("", "Location: file:///etc/passwd\r\n", "302 Found");
    if (request.starts_with("GET /chunk")) return std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\nhello\r\n0\r\n\r\n");
    return answer("ok");
  });
  World world;
  world.use("web", local(server));
  const auto told = [&](const Json& arguments) { return world.call("web.get", arguments).value["error"].get<std::string>(); };
  CHECK(told({{"url", server.url("/latin")}}) == "the answer (1 bytes, text/plain; charset=iso-8859-1, gz?[31m) is not UTF-8 text");
  CHECK(told({{"url", server.url("/head")}}).find("head") != std::string::npos);
  CHECK(told({{"url", server.url("/head")}}).find("memory") == std::string::npos);
  CHECK(told({{"url", server.url("/loop")}}) == "more than 5 redirects");
  CHECK(told({{"url", server.url("/file")}}).find("redirect") != std::string::npos);
  CHECK(told({{"url", server.url("/chunk")}}).find("chunked") != std::string::npos);
  CHECK(told({{"url", server.url("/a b")}}) == "argument 'url': it is not a web address such as https://host/path; a blank in it is written %20");
  for (const Json& headers : {Json{{"X-A", "a\r\nX-B: c"}}, Json{{"a b", "c"}}, Json{{"a:", "c"}}}) {
    const auto result = world.call("web.get", {{"url", server.url("/a")}, {"headers", headers}});
    CHECK(result.error_kind == "invalid_arguments");
    CHECK(result.value["error"].get<std::string>().starts_with("argument 'headers': '"));
  }
}

TEST_CASE("TLS is verified: the authority, and the name", "[builtin]") {
  const auto folder = std::filesystem::temp_directory_path() / ("kontor-http-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  {
    LocalServer right([](const std::string&) { return answer("private line"); }, make_tls((folder / "right.pem").string(), "IP:127.0.0.1"));
    LocalServer wrong([](const std::string&) { return answer("wrong name"); }, make_tls((folder / "wrong.pem").string(), "DNS:elsewhere.example"));
    World world;
    world.context.folder = folder.string();
    const auto settings = [](const LocalServer& server, const Json& more) {
      Json out = local(server);
      out.erase("plain");
      for (const auto& [key, value] : more.items()) out[key] = value;
      return out;
    };
    world.use("trusted", settings(right, {{"ca_file", "right.pem"}}));
    world.use("unknown", settings(right, Json::object()));
    world.use("name", settings(wrong, {{"ca_file", "wrong.pem"}}));
    CHECK(world.call("trusted.get", {{"url", right.url("/")}}).value["text"] == "private line");
    CHECK(world.error("unknown.get", {{"url", right.url("/")}}) == "io");
    CHECK(world.error("name.get", {{"url", wrong.url("/")}}) == "io");
    CHECK(wrong.seen().empty());
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("hosts have to be named, and stars stand for the first part of a name", "[builtin]") {
  BuiltinContext context;
  const auto refused = [&](const Json& settings) { return !make_builtin("builtin.http", "web", settings, context).has_value(); };
  CHECK(refused(Json::object()));
  CHECK(refused({{"hosts", Json::array()}}));
  CHECK(refused({{"hosts", {"*"}}}));
  CHECK(refused({{"hosts", {"a.*.example"}}}));
  CHECK(refused({{"hosts", {"https://example.com/"}}}));
  CHECK(refused({{"hosts", {"a.example"}}, {"config", 5}}));
  CHECK(refused({{"hosts", {"a.example"}}, {"unknown", 5}}));
  CHECK(!refused({{"hosts", {"a.example", "*.example.org:8443"}}}));
}

}  // namespace kontor::tools
