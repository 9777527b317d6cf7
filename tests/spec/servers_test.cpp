// What other files bring: servers of an `mcpServers` map, operations of OpenAPI documents.

#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

namespace {

namespace fs = std::filesystem;
using namespace kontor;

struct Folder {
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "kontor-servers-test-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path / name) << text; }
  agent::Checked check(const std::string& rest) const { return agent::check_text("kontor: 1\nname: x\n" + rest, "a.yaml", path.string()); }
  /// "FILE:LINE:COLUMN KIND MESSAGE" of every finding, a line each; the checked file has no name.
  std::string found(const std::string& rest) const {
    std::string out;
    for (const auto& finding : check(rest).diagnostics)
      out += finding.file + ":" + std::to_string(finding.line) + ":" + std::to_string(finding.column) + " " + finding.kind + " " + finding.message + "\n";
    return out;
  }
  fs::path path;
};

bool has(const std::string& text, const std::string& words) { return text.find(words) != std::string::npos; }

const std::string kStep = "workflow: [{wait: 1s}]\n";

}  // namespace

TEST_CASE("an mcpServers map of another program is included as it is", "[check][mcp]") {
  const Folder folder;
  folder.write("mcp.json", "{\n\t\"mcpServers\": {\n\t\t\"web-search\": {\"type\": \"stdio\", \"command\": \"npx\", \"args\": [\"-y\", \"search\"], \"env\": {\"MODE\": \"safe\"}, \"cwd\": \"srv\"},\n"
                           "\t\t\"docs\": {\"type\": \"http\", \"url\": \"https://docs.example/mcp\", \"headers\": {\"X-Team\": \"a\"}},\n\t\t\"off\": {\"command\": \"x\", \"description\": \"Off\", \"disabled\": true}\n\t}\n}\n");
  const auto checked = folder.check("include: mcp.json\nsecrets: {t: {from: env:T, allow_tools: [\"crm.*\"]}}\nmcpServers:\n  crm: {command: crm-mcp, env: {TOKEN: \"{{secret:t}}\"}, only: [get_*], effects: {get_a: once}}\n"
                                    "workflow: [{tool: web-search.find}, {tool: docs.read}, {tool: crm.get_a}]\npolicy: {allow: [\"web-search.*\"]}\n");
  INFO((checked.diagnostics.empty() ? "" : checked.diagnostics.front().message));
  REQUIRE(checked.diagnostics.empty());
  REQUIRE(checked.spec->tools.size() == 3);
  const auto& [crm, search, docs] = std::tie(checked.spec->tools[0], checked.spec->tools[1], checked.spec->tools[2]);
  CHECK(crm.name == "crm");
  CHECK(crm.use == "mcp");
  CHECK(crm.settings == Json{{"config", {{"TOKEN", "{{secret:t}}"}}}, {"only", {"get_*"}}, {"command", {"crm-mcp"}}});
  CHECK(crm.effects == std::map<std::string, std::string>{{"get_a", "once"}});
  CHECK(search.name == "web-search");
  CHECK(search.settings == Json{{"config", {{"MODE", "safe"}}}, {"cwd", (folder.path / "srv").string()}, {"command", {"npx", "-y", "search"}}});
  CHECK(docs.settings == Json{{"url", "https://docs.example/mcp"}, {"config", {{"X-Team", "a"}}}});
  CHECK(has(folder.found("include: mcp.json\nworkflow: [{tool: off.x}]\n"), ":4:19 unknown-tool"));
}

TEST_CASE("what a server cannot have is named with its place", "[check][mcp]") {
  const Folder folder;
  const auto found = folder.found("tools: {dup: {use: builtin.math}}\nsecrets: {s: {from: env:S, allow_tools: [\"a.*\"]}}\nmcpServers:\n"
                                  "  dup: {command: x}\n"
                                  "  two words: {command: x}\n"
                                  "  a.b: {command: x}\n"
                                  "  none: {args: [a]}\n"
                                  "  both: {command: x, url: \"https://a.example/\"}\n"
                                  "  cwd: {url: \"https://a.example/\", cwd: x}\n"
                                  "  up: {command: x, cwd: ../x}\n"
                                  "  sse: {type: sse, url: \"https://a.example/\"}\n"
                                  "  stdio: {type: stdio, url: \"https://a.example/\"}\n"
                                  "  http: {type: http, command: x}\n"
                                  "  heads: {command: x, headers: {A: b}}\n"
                                  "  more: {command: x, gallery: [a]}\n"
                                  "  list: {command: [x, y]}\n" + kStep);
  INFO(found);
  CHECK(has(found, ":6:3 duplicate-key 'dup' is also defined in tools"));
  CHECK(has(found, ":7:3 bad-format"));
  CHECK(has(found, ":8:3 bad-format"));
  CHECK(has(found, ":9:3 missing-key a server needs one of command and url"));
  CHECK(has(found, ":9:10 conflict 'args' belongs to 'command'"));
  CHECK(has(found, ":10:22 conflict a server is a program or an address: 'command' and 'url' exclude each other"));
  CHECK(has(found, ":11:36 conflict 'cwd' belongs to 'command'"));
  CHECK(has(found, ":12:25 path-escape"));
  CHECK(has(found, ":13:15 unknown-value"));
  CHECK(has(found, ":14:17 conflict 'type' is stdio, which is not the transport of an address"));
  CHECK(has(found, ":15:16 conflict 'type' is http, which is not the transport of a program"));
  CHECK(has(found, ":16:23 conflict 'headers' belongs to 'url'"));
  CHECK(has(found, ":17:22 unknown-key"));
  CHECK(has(found, ":18:19 wrong-type"));
  // A secret goes to the environment and to headers, and nowhere else.
  const std::string secret = "secrets: {s: {from: env:S, allow_tools: [\"a.*\"]}}\nmcpServers: {a: {command: x, ";
  CHECK(folder.found(secret + "env: {A: \"{{secret:s}}\"}}}\n" + kStep) == "");
  CHECK(has(folder.found(secret + "args: [\"{{secret:s}}\"]}}\n" + kStep), ":4:38 secret-exposure"));
  CHECK(has(folder.found(secret + "env: {A: \"{{secret:t}}\"}}}\n" + kStep), "unknown-secret"));
  CHECK(has(folder.found("mcpServers: {a: {command: x, env: {A: \"${inputs.none}\"}}}\n" + kStep), ":3:49 unresolved-reference"));
}

TEST_CASE("times and approvals of an mcpServers map are honoured, and policy stays above them", "[check][mcp]") {
  const Folder folder;
  const auto checked = folder.check("mcpServers:\n  a: {command: x, timeout: 90, autoApprove: [get, 'list_*']}\n  b: {command: x, timeout: 120000, alwaysAllow: [put]}\n  c: {command: x, timeout_ms: 700}\n  off: {command: x, disabled: true, autoApprove: [z]}\n"
                                    "policy: {deny: [a.get], allow: [c.d]}\n" + kStep);
  REQUIRE(checked.diagnostics.empty());
  CHECK(checked.spec->tools[0].settings.at("timeout_ms") == 90'000);
  CHECK(checked.spec->tools[1].settings.at("timeout_ms") == 120'000);
  CHECK(checked.spec->tools[2].settings.at("timeout_ms") == 700);
  CHECK(checked.spec->policy.allow == std::vector<std::string>{"c.d", "a.get", "a.list_*", "b.put"});
  CHECK(checked.spec->policy.deny == std::vector<std::string>{"a.get"});
  const auto found = [&](const std::string& keys) { return folder.found("mcpServers: {a: {command: x, " + keys + "}}\n" + kStep); };
  CHECK(has(found("timeout: 3600"), ":3:39 out-of-range 'timeout' is in seconds up to 600 and in milliseconds from 10000"));
  CHECK(has(found("timeout: 0"), "out-of-range"));
  CHECK(has(found("timeout: 9000000"), "out-of-range"));
  CHECK(has(found("timeout: 60s"), "wrong-type"));
  CHECK(has(found("timeout: 60, timeout_ms: 60"), "conflict a call has one longest time"));
  CHECK(has(found("timeout_ms: 0"), "out-of-range"));
  CHECK(has(found("autoApprove: get"), "wrong-type"));
  folder.write("pin.json", R"({"tools":[{"name":"get_a","inputSchema":{"type":"object"}}]})");
  CHECK(found("pin: pin.json, autoApprove: [get_a]") == "");
  CHECK(has(found("pin: pin.json, autoApprove: [get_b]"), "unknown-tool 'get_b' is no function of the pin (did you mean 'get_a'?)"));
}

TEST_CASE("a server of tools has a folder or an address", "[check][mcp]") {
  const Folder folder;
  CHECK(folder.found("tools: {a: {use: mcp, command: [x], cwd: sub}}\n" + kStep) == "");
  CHECK(has(folder.found("tools: {a: {use: mcp, url: \"https://a.example/\", cwd: sub}}\n" + kStep), ":3:50 conflict 'cwd' is for a server that is a program"));
  CHECK(has(folder.found("tools: {a: {use: mcp, cwd: sub, url: \"https://a.example/\"}}\n" + kStep), ":3:33 conflict"));
}

TEST_CASE("the keys of an openapi entry are checked", "[check][openapi]") {
  const Folder folder;
  folder.write("api.yaml", "openapi: 3.1.0\nservers: [{url: /v1}]\npaths:\n  /a: {get: {operationId: getA}}\n");
  const auto found = [&](const std::string& keys) { return folder.found("tools: {t: {use: openapi, " + keys + "}}\n" + kStep); };
  const std::string good = "document: api.yaml, hosts: [a.example], server: \"https://a.example/v2\"";
  CHECK(found(good) == "");
  CHECK(has(found("document: api.yaml, hosts: [a.example]"), ":3:9 missing-key 'server' is missing: 'api.yaml' names no server"));
  CHECK(has(found("hosts: [a.example]"), ":3:9 missing-key 'document' is missing"));
  CHECK(has(found("document: api.yaml, server: \"https://a.example\""), ":3:9 missing-key 'hosts' is missing"));
  CHECK(has(found(good + ", host: [b]"), "unknown-key unknown key 'host' here (did you mean 'hosts'?)"));
  CHECK(has(found("document: api.yaml, hosts: a.example, server: a"), "wrong-type"));
  CHECK(has(found("document: api.yaml, hosts: [a.example], server: a"), "bad-format"));
  CHECK(has(found(good + ", only: getA"), "wrong-type"));
  CHECK(has(found(good + ", only: [putA]"), "glob-no-match 'only' names no operation of 'api.yaml'"));
  CHECK(has(found(good + ", timeout_ms: 0"), "out-of-range"));
  CHECK(has(found(good + ", private: maybe"), "wrong-type"));
  CHECK(has(found("document: ../api.yaml, hosts: [a.example]"), "path-escape"));
  CHECK(has(found("document: api.yml, hosts: [a.example]"), "missing-file 'api.yml' cannot be read: there is no such file (did you mean 'api.yaml'?)"));
  CHECK(has(found(good + ", effects: {getB: once}"), "unknown-key 't' has no function 'getB' (did you mean 'getA'?)"));
  CHECK(found(good + ", effects: {getA: once}") == "");
}

TEST_CASE("an OpenAPI document is checked with its own lines, and its operations are known", "[check][openapi]") {
  const Folder folder;
  const std::string entry = "tools: {t: {use: openapi, hosts: [a.example], document: ";
  folder.write("good.json", R"({"openapi": "3.1.0", "servers": [{"url": "https://a.example"}], "paths": {"/a/{id}": {"parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}}],
    "get": {"operationId": "getA"}, "post": {"requestBody": {"content": {"text/html": {}}}}}}})");
  CHECK(folder.found(entry + "good.json, only: [getA]}}\nworkflow: [{tool: t.getA, with: {id: 7}}]\n") == "");
  CHECK(has(folder.found(entry + "good.json, only: [getA]}}\nworkflow: [{tool: t.getB, with: {id: 7}}]\n"), ":4:19 unknown-tool there is no tool 't.getB' (did you mean 't.getA'?)"));
  CHECK(has(folder.found(entry + "good.json, only: [getA]}}\nworkflow: [{tool: t.getA, with: {ix: 7}}]\n"), ":4:34 unknown-key"));
  CHECK(has(folder.found(entry + "good.json}}\n" + kStep), "good.json:2:62 bad-schema in the OpenAPI document good.json: /paths/~1a~1{id}/post/requestBody/content: a body that is neither JSON, a form of fields, nor plain text"));
  folder.write("syntax.json", "{\"openapi\": \"3.1.0\",\n \"paths\": {,}}");
  CHECK(has(folder.found(entry + "syntax.json}}\n" + kStep), "syntax.json:2:12 bad-schema in the OpenAPI document syntax.json: "));
  folder.write("syntax.yaml", "openapi: 3.1.0\npaths: [\n");
  CHECK(has(folder.found(entry + "syntax.yaml}}\n" + kStep), "syntax.yaml:2:8 bad-schema in the OpenAPI document syntax.yaml: '[' is never closed"));
  folder.write("tag.yaml", "openapi: 3.1.0\npaths: !x {}\n");
  CHECK(has(folder.found(entry + "tag.yaml}}\n" + kStep), "tag.yaml:2:8 bad-schema"));
  folder.write("old.yaml", "# old\nswagger: '2.0'\nopenapi: 2.0.2\n");
  CHECK(has(folder.found(entry + "old.yaml}}\n" + kStep), "old.yaml:3:1 bad-schema in the OpenAPI document old.yaml: /openapi: 'openapi' has to be 3.0.x or 3.1.x, not 2.0.2"));
  folder.write("list.yaml", "- a\n");
  CHECK(has(folder.found(entry + "list.yaml}}\n" + kStep), "list.yaml:1:1 bad-schema"));
  folder.write("empty.yaml", "");
  CHECK(has(folder.found(entry + "empty.yaml}}\n" + kStep), "empty.yaml:1:1 bad-schema"));
  folder.write("none.yaml", "openapi: 3.1.0\npaths: {}\n");
  CHECK(has(folder.found(entry + "none.yaml}}\n" + kStep), ":3:57 bad-schema 'none.yaml' has no operation"));
  // Through an include the document's name is seen from the checked file.
  fs::create_directories(folder.path / "inc");
  folder.write("inc/a.yaml", entry + "api.yaml}}\n");
  folder.write("inc/api.yaml", "openapi: 3.1.0\npaths:\n  a: {}\n");
  CHECK(has(folder.found("include: inc/a.yaml\n" + kStep), "inc/api.yaml:3:3 bad-schema in the OpenAPI document inc/api.yaml: /paths/a: a path begins with '/'"));
}
