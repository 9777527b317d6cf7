// What may be reached: patterns, their order, and hosts that try to look like others.

#include "tests/support/catch.hpp"
#include "tests/tools/local_server.hpp"
#include "tools/builtin/builtin.hpp"
#include "tools/egress.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <mutex>

namespace kontor::tools {
namespace {

std::vector<HostPattern> patterns(const std::vector<std::string>& texts) {
  std::vector<HostPattern> out;
  for (const auto& text : texts) {
    auto pattern = HostPattern::parse(text);
    if (!pattern) FAIL(pattern.error().message);
    out.push_back(std::move(*pattern));
  }
  return out;
}

Egress only(const std::vector<std::string>& allow, const std::vector<std::string>& deny = {}) {
  EgressRules rules;
  rules.allow = patterns(allow);
  rules.deny = patterns(deny);
  return Egress(std::move(rules));
}

Egress not_these(const std::vector<std::string>& deny) {
  EgressRules rules;
  rules.deny = patterns(deny);
  return Egress(std::move(rules));
}

std::string rule(const Egress& egress, const std::string& host, std::uint16_t port = 443) {
  const auto decision = egress.judge(host, port);
  return (decision.allowed ? "+ " : "- ") + decision.rule;
}

}  // namespace

TEST_CASE("entries that could be read in two ways are refused", "[egress]") {
  for (const char* text : {"api.example.com", "*.example.com", "API.Example.com.", "localhost", "vllm:8000", "10.0.0.0/8", "192.0.2.7:8080", "0.0.0.0/0", "2001:db8::/32", "::1", "[2001:db8::1]:443", "xn--bcher-kva.example", "a_b.example"}) {
    INFO(text);
    CHECK(HostPattern::parse(text).has_value());
  }
  for (const char* text : {"", "*", "*.", "*.*.example", "a.*.example", "*example.com", "http://a.example", "a.example/path", "user@a.example", "a..example", ".example", "a.example:0", "a.example:65536", "a.example:x", "a.example:",
                           "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/-1", "2001:db8::1/32", "example/8", "2130706433", "0x7f000001", "127.1", "1.2.3", "1.2.3.4.5", "010.0.0.1", "[::1", "[::1]x", "[a.example]:1", "fe80::1%eth0",
                           "b\xc3\xbc" "cher.example", "a b.example", "a.example,b.example", "a.0x7f"}) {
    INFO(text);
    const auto pattern = HostPattern::parse(text);
    REQUIRE(!pattern.has_value());
    CHECK(pattern.error().kind == "host_pattern");
  }
}

TEST_CASE("deny beats allow, allow is everything or what it names", "[egress]") {
  CHECK(rule(Egress(), "a.example") == "+ no rule");
  CHECK(!Egress().restricted());
  CHECK(!Egress(EgressRules{}).restricted());
  const Egress some = only({"api.example.com", "*.example.org:8443", "10.0.0.0/8", "[2001:db8::1]:443"}, {"bad.example.org", "10.9.0.0/16"});
  CHECK(rule(some, "api.example.com") == "+ policy.egress.allow \"api.example.com\"");
  CHECK(rule(some, "API.EXAMPLE.COM.", 1) == "+ policy.egress.allow \"api.example.com\"");
  CHECK(rule(some, "a.example.org", 8443) == "+ policy.egress.allow \"*.example.org:8443\"");
  CHECK(rule(some, "bad.example.org", 8443) == "- policy.egress.deny \"bad.example.org\"");
  CHECK(rule(some, "10.1.2.3") == "+ policy.egress.allow \"10.0.0.0/8\"");
  CHECK(rule(some, "10.9.2.3") == "- policy.egress.deny \"10.9.0.0/16\"");
  CHECK(rule(some, "[2001:DB8:0::1]") == "+ policy.egress.allow \"[2001:db8::1]:443\"");
  const std::string none = "- policy.egress.allow names no such host";
  for (const char* host : {"example.com", "x.api.example.com", "api.example.com.evil", "xapi.example.com", "evil.example", "", "11.0.0.1", "2001:db8::2", "api.example.com\n", "api.example.com@evil"}) CHECK(rule(some, host) == none);
  CHECK(rule(some, std::string("api.example.com\0x", 17)) == none);
  CHECK(rule(some, "example.org", 8443) == none);
  CHECK(rule(some, "a.example.org", 443) == none);
  CHECK(rule(some, "2001:db8::1", 80) == none);
  CHECK(rule(only({}), "localhost") == none);
}

TEST_CASE("an address is the same in every spelling", "[egress]") {
  const Egress denied = not_these({"127.0.0.0/8", "169.254.0.0/16", "::1"});
  for (const char* host : {"127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001", "::ffff:127.0.0.1", "[::ffff:7f00:1]", "::1", "0:0:0:0:0:0:0:1", "[::1]", "::1%lo", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1",
                           "169.254.169.254", "0xA9FEA9FE", "2852039166", "127.0.0.1.", "64:ff9b::169.254.169.254"}) {
    INFO(host);
    CHECK(rule(denied, host).starts_with("- policy.egress.deny"));
  }
  for (const char* host : {"128.0.0.1", "a.example", "::2", "2606:4700::1111", "1.1"}) CHECK(rule(denied, host) == "+ no rule");
  // Another form of an allowed address is that address; a wrapped one is not.
  CHECK(rule(only({"192.0.2.7"}), "3221225991").starts_with("+ "));
  CHECK(rule(only({"192.0.2.7"}), "::ffff:192.0.2.7").starts_with("+ "));
  CHECK(rule(only({"192.0.2.7"}), "64:ff9b::192.0.2.7").starts_with("- "));
  CHECK(rule(only({"0.0.0.0/0"}), "8.8.8.8").starts_with("+ "));
  CHECK(rule(only({"0.0.0.0/0"}), "2606:4700::1111").starts_with("- "));
  CHECK(rule(only({"0.0.0.0/0"}), "a.example").starts_with("- "));  // A name is no address.
}

TEST_CASE("the address that a name leads to is judged as well", "[egress]") {
  const Egress egress = only({"api.example.com"}, {"10.0.0.0/8"});
  CHECK(egress.permit_name("x", "api.example.com", 443).has_value());
  CHECK(egress.permit_address("x", "api.example.com", "192.0.2.1", 443).has_value());
  const auto inside = egress.permit_address("https://api.example.com", "api.example.com", "10.1.1.1", 443);
  REQUIRE(!inside);
  CHECK(inside.error().kind == "egress");
  CHECK(inside.error().message == "https://api.example.com (10.1.1.1) may not be reached: policy.egress.deny \"10.0.0.0/8\"");
  for (const char* address : {"::ffff:10.1.1.1", "64:ff9b::10.1.1.1", "", "nonsense", "10.1.1.1 "}) {
    const auto permitted = egress.permit_address("x", "api.example.com", address, 443);
    if (std::string(address).empty()) CHECK(permitted.has_value());  // Nothing was looked up.
    else CHECK(!permitted.has_value());
  }
  CHECK(!egress.permit_address("x", "evil.example", "192.0.2.1", 443).has_value());

  const Egress air = Egress::airgap();
  for (const char* host : {"localhost", "127.0.0.1", "[::1]", "2130706433"}) CHECK(air.permit_name("x", host, 80).has_value());
  for (const char* host : {"localhost.evil.example", "a.example", "192.0.2.1", "::ffff:192.0.2.1", "127.0.0.1.evil.example", "0.0.0.0"}) CHECK(!air.permit_name("x", host, 80).has_value());
  CHECK(!air.permit_address("x", "localhost", "192.0.2.1", 80).has_value());
  CHECK(air.permit_address("x", "localhost", "::1", 80).has_value());
}

TEST_CASE("a redirect, a name and odd spellings lead nowhere that the agent file does not allow", "[egress]") {
  LocalServer inside([](const std::string&) { return answer("inside"); });
  LocalServer hop([&](const std::string& request) {
    if (request.starts_with("GET /away")) return answer("", "Location: " + inside.url("/x") + "\r\n", "302 Found");
    if (request.starts_with("GET /name")) return answer("", "Location: " + inside.url("/x", "localhost") + "\r\n", "307 Temporary Redirect");
    if (request.starts_with("GET /user")) return answer("", "Location: http://127.0.0.1:" + std::to_string(hop.port) + "@localhost:" + std::to_string(inside.port) + "/\r\n", "302 Found");
    return answer("arrived");
  });
  const std::string in = std::to_string(inside.port), at = std::to_string(hop.port);
  std::mutex mutex;
  std::vector<EgressDecision> told;
  EgressRules rules;
  rules.allow = patterns({"127.0.0.1:" + at, "localhost:" + in, "*.example"});
  rules.deny = patterns({"127.0.0.1:" + in, "[::1]:" + in});
  BuiltinContext context;
  context.egress = Egress(rules, [&](const EgressDecision& decision) {
    const std::lock_guard lock(mutex);
    told.push_back(decision);
  }).named("tools.web");
  // The group itself would reach everything here: the file-wide rules are what refuses.
  const Json settings{{"hosts", {"127.0.0.1:" + at, "127.0.0.1:" + in, "localhost:" + in, "localhost:" + at}}, {"private", true}, {"plain", true}};
  const auto made = make_builtin("builtin.http", "web", settings, context);
  REQUIRE(made.has_value());
  const auto get = [&](const std::string& url) {
    const auto result = (*made)[0]->call({{"url", url}}, {});
    return result.is_error ? result.error_kind : result.value["text"].get<std::string>();
  };
  CHECK(get(hop.url("/")) == "arrived");
  CHECK(get(hop.url("/away")) == "denied");
  CHECK(get(hop.url("/name")) == "denied");  // The name is allowed, the address that it has is denied.
  CHECK(get(hop.url("/user")) != "inside");
  const std::vector<std::string> spellings{"127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "LOCALHOST", "localhost.", "[::ffff:127.0.0.1]", "127.0.0.1:" + at + "@127.0.0.1"};
  for (const auto& host : spellings) {
    INFO(host);
    CHECK(get("http://" + host + ":" + in + "/") != "inside");
  }
  CHECK(get("http://localhost:" + at + "/") == "denied");
  CHECK(inside.seen().empty());
  REQUIRE(!told.empty());
  CHECK(told[0].who == "tools.web");
  CHECK(told[0].allowed);
  CHECK(told[0].address == "127.0.0.1");
  CHECK(told[0].rule == "policy.egress.allow \"127.0.0.1:" + at + "\"");
  CHECK(std::any_of(told.begin(), told.end(), [&](const auto& one) { return !one.allowed && one.host == "localhost" && one.address == "127.0.0.1" && one.rule == "policy.egress.deny \"127.0.0.1:" + in + "\""; }));
}

TEST_CASE("mail goes to no server that the agent file does not allow", "[egress]") {
  BuiltinContext context;
  context.egress = only({"other.example"});
  const auto made = make_builtin("builtin.mail", "mail", {{"from", "a@b.example"}, {"server", "mail.example"}, {"recipients", {"b.example"}}}, context);
  REQUIRE(made.has_value());
  const auto sent = (*made)[1]->call({{"to", {"c@b.example"}}, {"subject", "s"}, {"text", "t"}}, {});
  CHECK(sent.error_kind == "denied");
  CHECK(sent.value["error"].get<std::string>().find("mail.example may not be reached: policy.egress.allow names no such host") != std::string::npos);
}

}  // namespace kontor::tools
