// Messages, lines, events, headers and addresses: what the transports are made of.

#include "tests/support/catch.hpp"
#include "tools/base64.hpp"
#include "tools/mcp/client.hpp"
#include "tools/mcp/headers.hpp"
#include "tools/mcp/http_client.hpp"
#include "tools/mcp/oauth.hpp"

using namespace kontor;
using namespace kontor::tools;
using namespace kontor::tools::mcp;

TEST_CASE("messages are told apart, and what is none is refused", "[mcp]") {
  const auto kind = [](const char* text) {
    const auto message = parse_message(text);
    return message ? static_cast<int>(message->kind) : -1;
  };
  CHECK(kind(R"({"jsonrpc":"2.0","id":1,"method":"ping"})") == static_cast<int>(Message::Kind::request));
  CHECK(kind(R"({"jsonrpc":"2.0","method":"x","params":{}})") == static_cast<int>(Message::Kind::notification));
  CHECK(kind(R"({"jsonrpc":"2.0","id":"a","result":{}})") == static_cast<int>(Message::Kind::result));
  CHECK(kind(R"({"jsonrpc":"2.0","error":{"code":-32700,"message":"m"}})") == static_cast<int>(Message::Kind::error));
  for (const char* bad : {"", "5", "[]", "{}", R"({"jsonrpc":"1.0","id":1,"result":{}})", R"({"jsonrpc":"2.0","id":null,"method":"x"})",
                          R"({"jsonrpc":"2.0","id":1.5,"method":"x"})", R"({"jsonrpc":"2.0","id":1,"result":[]})", R"({"jsonrpc":"2.0","id":1,"result":{},"result":{}})",
                          R"({"jsonrpc":"2.0","id":1,"error":{"code":"x"}})", R"({"jsonrpc":"2.0","id":1,"method":"x","params":[1]})"}) {
    INFO(bad);
    CHECK(kind(bad) == -1);
  }
}

TEST_CASE("header values are plain where that is safe and Base64 where it is not", "[mcp]") {
  CHECK(header_value("us-west1") == "us-west1");
  CHECK(header_value(" padded ") == "=?base64?IHBhZGRlZCA=?=");
  CHECK(header_value("line1\nline2") == "=?base64?bGluZTEKbGluZTI=?=");
  CHECK(header_value("=?base64?literal?=") == "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=");
  for (const std::string text : {"", "plain", "grün", "\t", "a b"}) CHECK(from_header_value(header_value(text)) == text);
  CHECK(!from_header_value("=?base64?***?="));
}

TEST_CASE("arguments become headers by the rules of the schema", "[mcp]") {
  const auto schema = [](const char* text) { return *parse_json(text); };
  const auto good = argument_headers(schema(R"({"type":"object","properties":{"r":{"type":"string","x-mcp-header":"Region"},
    "o":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},"b":{"type":"boolean","x-mcp-header":"B"}}})"),
    Json{{"r", "eu"}, {"o", Json{{"n", 42}}}});
  REQUIRE(good.has_value());
  CHECK(*good == Headers{{"Mcp-Param-Region", "eu"}, {"Mcp-Param-N", "42"}});
  for (const char* bad : {R"({"properties":{"a":{"type":"string","x-mcp-header":""}}})", R"({"properties":{"a":{"type":"string","x-mcp-header":"a b"}}})",
                          R"({"properties":{"a":{"type":"number","x-mcp-header":"A"}}})", R"({"properties":{"a":{"type":"string","x-mcp-header":5}}})",
                          R"({"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}})",
                          R"({"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}})",
                          R"({"properties":{"a":{"anyOf":[{"type":"string","x-mcp-header":"A"}]}}})", R"({"x-mcp-header":"A","properties":{}})"}) {
    INFO(bad);
    CHECK(!argument_headers(schema(bad), Json::object()));
  }
}

TEST_CASE("addresses are read strictly", "[mcp]") {
  const auto url = parse_url("HTTPS://Example.com/mcp?x=1");
  REQUIRE(url.has_value());
  CHECK(url->text() == "https://example.com/mcp?x=1");
  CHECK(parse_url("http://[::1]:8080")->origin() == "http://[::1]:8080");
  for (const char* bad : {"", "http", "HTTPS", "http:/", "ftp://x/", "http://", "http://a b/", "http://u:p@x/", "http://x:0/", "http://x:99999/", "http://x/#y", "http://x\r\nHost: y/", "http://[::1/"}) {
    INFO(bad);
    CHECK(!parse_url(bad));
  }
  for (const char* bare : {"http", "HTTPS", "http:/"}) {
    INFO(bare);
    CHECK(parse_url(bare).error().message.find("does not begin with") != std::string::npos);
  }
  CHECK(is_loopback_host("127.0.0.1"));
  CHECK(!is_loopback_host("127.evil.example"));
}

TEST_CASE("redirects are seen from the address that gave them", "[mcp]") {
  const auto base = parse_url("https://example.com:8443/a/b?x=1");
  REQUIRE(base.has_value());
  const auto to = [&](const char* location) {
    const auto url = resolve_url(*base, location);
    return url ? url->text() : "";
  };
  CHECK(to("/c#d") == "https://example.com:8443/c");
  CHECK(to("c?y=2") == "https://example.com:8443/a/c?y=2");
  CHECK(to("//other.example/z") == "https://other.example/z");
  CHECK(to("http://other.example") == "http://other.example/");
  for (const char* bad : {"", "#x", "ftp://x/", "file:///etc/passwd", "/a b"}) CHECK(to(bad).empty());
}

TEST_CASE("without network not even a name server is asked", "[mcp]") {
  for (const char* address : {"http://models.example/", "http://192.0.2.1/", "http://[2001:db8::1]/"}) {
    HttpLimits limits;
    limits.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    limits.egress = kontor::tools::Egress::airgap();
    const auto answer = http_fetch({"GET", *parse_url(address), {}, {}}, limits);
    REQUIRE(!answer);
    CHECK(answer.error().kind == "airgap");
  }
}

TEST_CASE("challenges of a server are read", "[mcp]") {
  const auto challenge = read_challenge({R"(Basic realm="x", Bearer error="insufficient_scope", scope="a b",resource_metadata="https://x/y\"z")"});
  CHECK(challenge.error == "insufficient_scope");
  CHECK(challenge.scope == "a b");
  CHECK(challenge.resource_metadata == "https://x/y\"z");
  CHECK(read_challenge({"Bearer scope=one"}).scope == "one");
}

TEST_CASE("Base64 goes there and back", "[mcp]") {
  for (const std::string& text : {std::string(), std::string("a"), std::string("ab"), std::string("abc"), std::string("\0\xff", 2)}) CHECK(from_base64(base64(text)) == text);
  CHECK(!from_base64("a"));
  CHECK(!from_base64("a==="));
  CHECK(base64_url("\xfb\xff") == "-_8");
}
