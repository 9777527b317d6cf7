// policy.egress in the checker: its entries, and what stands in the file against it.

#include "agent/spec/explain.hpp"
#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace {

/// "kind line: message" of all diagnostics.
std::string check(const std::string& egress, const std::string& rest, const std::string& folder = ".") {
  const auto checked = kontor::agent::check_text("kontor: 1\nname: x\nworkflow: [{wait: 1s}]\npolicy: {egress: " + egress + "}\n" + rest + "\n", "a.yaml", folder);
  std::string out;
  for (const auto& one : checked.diagnostics) out += one.kind + " " + std::to_string(one.line) + ": " + one.message + "\n";
  return out;
}

}  // namespace

TEST_CASE("hosts of the policy are checked where they stand", "[check][egress]") {
  CHECK(check("{}", "") == "");
  CHECK(check("{allow: [], deny: []}", "") == "");
  CHECK(check("{allow: [api.example.com, '*.example.org:8443', 10.0.0.0/8, '[::1]:80'], deny: [a.example]}", "") == "");
  CHECK(check("{alow: []}", "").starts_with("unknown-key 4: unknown key 'alow' here (did you mean 'allow'?)"));
  CHECK(check("{allow: a.example}", "").starts_with("wrong-type 4"));
  CHECK(check("{allow: [1]}", "").starts_with("wrong-type 4"));
  CHECK(check("{allow: ['']}", "").starts_with("bad-format 4"));
  CHECK(check("[a.example]", "").starts_with("wrong-type 4"));
  for (const char* bad : {"'*'", "https://a.example", "'127.1'", "10.0.0.1/8", "'a.example:99999'"}) CHECK(check("{deny: [" + std::string(bad) + "]}", "").starts_with("bad-format 4"));
}

TEST_CASE("what the policy would never let through is an error before anything runs", "[check][egress]") {
  const std::string only = "{allow: [api.example.com, 'vllm:8000', '*.example.org'], deny: [bad.example.org]}";
  const std::string conflict = "conflict 5: '";
  CHECK(check(only, "models: {m: {endpoint: http://vllm:8000/v1, model: x}}") == "");
  CHECK(check(only, "models: {m: {endpoint: http://vllm:8001/v1, model: x}}") == conflict + "vllm' port 8001 may not be reached: policy.egress.allow names no such host\n");
  CHECK(check(only, "models: {m: {endpoint: https://bad.example.org/v1, model: x}}") == conflict + "bad.example.org' port 443 may not be reached: policy.egress.deny \"bad.example.org\"\n");
  CHECK(check("{deny: [127.0.0.0/8]}", "models: {m: {endpoint: 'http://2130706433:8000', model: x}}").starts_with(conflict));
  CHECK(check("{deny: ['::1']}", "models: {m: {endpoint: 'http://[::1]:8000/v1', model: x}}").starts_with(conflict + "[::1]' port 8000"));
  CHECK(check(only, "tools: {crm: {use: mcp, url: https://crm.example.net/mcp}}").starts_with(conflict + "crm.example.net' port 443"));
  CHECK(check(only, "tools: {crm: {use: mcp, url: https://crm.example.org/mcp}}") == "");
  CHECK(check(only, "tools: {web: {use: builtin.http, hosts: [api.example.com, '*.example.net', other.example.com]}}").starts_with(conflict + "other.example.com' port 443"));
  CHECK(check("{allow: ['a.example:80']}", "tools: {web: {use: builtin.http, hosts: [a.example]}}").starts_with(conflict));
  CHECK(check("{allow: ['a.example:80']}", "tools: {web: {use: builtin.http, hosts: [a.example], plain: true}}") == "");
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("kontor-egress-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  std::ofstream(folder / "p.json") << R"({"openapi": "3.1.0", "info": {"title": "Pets", "version": "1"}, "paths": {"/pets": {"get": {"operationId": "pets", "responses": {}}}}})";
  CHECK(check(only, "tools: {pets: {use: openapi, document: p.json, hosts: [api.example.com], server: 'https://pets.example/v1'}}", folder.string()).starts_with(conflict + "pets.example' port 443"));
  std::filesystem::remove_all(folder);
  CHECK(check(only, "tools: {post: {use: builtin.mail, from: a@b.example, server: mail.b.example, recipients: [b.example]}}").starts_with(conflict + "mail.b.example' port 587"));
  CHECK(check("{allow: ['mail.b.example:465']}", "tools: {post: {use: builtin.mail, from: a@b.example, server: mail.b.example, tls: implicit, recipients: [b.example]}}") == "");
  CHECK(check(only, "tools: {sh: {use: builtin.shell, commands: [curl], network: true}}").starts_with("conflict 5: programs with 'network'"));
  CHECK(check("{}", "tools: {sh: {use: builtin.shell, commands: [curl], network: true}}") == "");
}

TEST_CASE("policies of several files are one, and are explained as one", "[check][explain][egress]") {
  std::string pattern = (std::filesystem::temp_directory_path() / "kontor-egress-XXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(pattern.data());
  std::ofstream(folder / "more.yaml") << "policy: {egress: {deny: [b.example], allow: [c.example]}}\n";
  std::ofstream(folder / "agent.yaml") << "kontor: 1\nname: x\ninclude: more.yaml\nworkflow: [{wait: 1s}]\npolicy: {egress: {deny: [a.example], allow: []}}\n";
  const auto checked = kontor::agent::check_file((folder / "agent.yaml").string());
  REQUIRE(checked.spec.has_value());
  CHECK(checked.spec->policy.egress_deny == std::vector<std::string>{"a.example", "b.example"});
  REQUIRE(checked.spec->policy.egress_allow.has_value());
  CHECK(*checked.spec->policy.egress_allow == std::vector<std::string>{"c.example"});
  const auto again = kontor::agent::check_text(kontor::agent::explained((folder / "agent.yaml").string()), "explained.yaml", folder.string());
  REQUIRE(again.spec.has_value());
  CHECK(again.spec->policy.egress_deny == checked.spec->policy.egress_deny);
  CHECK(again.spec->policy.egress_allow == checked.spec->policy.egress_allow);

  std::ofstream(folder / "more.yaml") << "policy: {egress: {allow: []}}\n";
  const auto closed = kontor::agent::check_text(kontor::agent::explained((folder / "agent.yaml").string()), "explained.yaml", folder.string());
  REQUIRE(closed.spec.has_value());
  REQUIRE(closed.spec->policy.egress_allow.has_value());
  CHECK(closed.spec->policy.egress_allow->empty());
  std::filesystem::remove_all(folder);
}
