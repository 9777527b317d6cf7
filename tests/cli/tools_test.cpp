// Tools through the real program: called by hand, asking a person, started where the agent file says.

#include "tests/support/program.hpp"

#include "base/json.hpp"

#include <nlohmann/json.hpp>

namespace {

namespace fs = std::filesystem;
using kontor::test::read_text;

struct Folder : kontor::test::ExampleCopy {
  Folder() : ExampleCopy("invoice-triage") { fs::remove(folder / "agent.yaml"); }
  int run_file(const std::string& yaml) {
    write("own.yaml", "kontor: 1\nname: own\n" + yaml);
    return run({"run", (folder / "own.yaml").string()});
  }
};

}  // namespace

TEST_CASE("built-in tools are called by hand, and those that need settings say so", "[cli]") {
  const Folder files;
  CHECK(files.run({"tools", "call", "math.eval", R"({"expression": "1250.00 * 0.19"})", "--json"}, false) == 0);
  CHECK(files.output().find("237.5") != std::string::npos);
  CHECK(files.run({"tools", "call", "web.get", "{}"}, false) == 2);
  CHECK(files.run({"tools", "call", "mail.send", "{}"}, false) == 2);
  CHECK(files.output().find("--file") != std::string::npos);
  CHECK(files.run({"tools", "call", "ask_user.ask", R"({"question": "Why?"})"}, false) == 1);
}

TEST_CASE("a question parks a run without terminal, and its answer goes on with it", "[cli][run]") {
  Folder files;
  const std::string yaml = "tools: {person: {use: builtin.ask_user}}\nworkflow: [{id: paint, tool: person.ask, with: {question: \"Which colour?\", choices: [red, blue]}}]\n";
  REQUIRE(files.run_file(yaml) == 3);
  CHECK(files.output().find("kontor runs answer") != std::string::npos);
  CHECK(files.run({"runs", "resume"}) == 3);
  CHECK(files.run({"runs", "approve"}) == 2);
  CHECK(files.run({"runs", "answer", "green"}) == 2);
  CHECK(files.run({"runs", "answer", "paint", "green"}) == 2);
  CHECK(files.run({"runs", "answer", "paint", "blue", "--by", "anna"}) == 0);
  CHECK(files.output().find(R"({"answer": "blue", "by": "anna"})") != std::string::npos);
  CHECK(files.run({"runs", "answer", "blue"}) != 0);
  CHECK(files.run({"runs", "replay"}) == 0);
  REQUIRE(files.run_file(yaml) == 3);
  CHECK(files.run({"runs", "reject"}) == 1);  // the step fails
}

TEST_CASE("an MCP server starts in its cwd, or in the folder of the agent file", "[cli]") {
  const Folder files;
  fs::create_directories(files.folder / "sub");
  const auto list = [&](const std::string& more) {
    files.write("own.yaml", "kontor: 1\nname: own\nworkflow: [{wait: 1s}]\ntools: {here: {use: mcp, command: [/bin/sh, -c, \"pwd > where.txt\"]" + more + "}}\n");
    return files.run({"tools", "list", (files.folder / "own.yaml").string()});
  };
  CHECK(list("") == 1);  // it speaks no MCP
  CHECK(read_text(files.folder / "where.txt") == fs::canonical(files.folder).string() + "\n");
  CHECK(list(", cwd: sub") == 1);
  CHECK(read_text(files.folder / "sub/where.txt") == fs::canonical(files.folder / "sub").string() + "\n");
  CHECK(list(", cwd: ../x") == 2);
}

TEST_CASE("tools are listed with their arguments, and a wrong call is told what was expected", "[cli]") {
  const Folder files;
  CHECK(files.run({"tools", "list", "text.search"}) == 0);
  CHECK(files.output().find("limit?        a whole number of 1 to 1000 - Matches shown") != std::string::npos);
  CHECK(files.output().find("pattern       a text of 1 to 4096 characters - What to look for") != std::string::npos);
  CHECK(files.output().find("text.diff") == std::string::npos);
  CHECK(files.run({"tools", "list", "math"}) == 0);
  CHECK(files.output().find("math.eval(expression)") != std::string::npos);
  CHECK(files.run({"tools", "list", "nothing"}) == 2);

  const auto call = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"tools", "call"});
    return files.run(words);
  };
  const auto says = [&](const char* words) { return files.output().find(words) != std::string::npos; };
  CHECK(call({"math", "{}"}) == 2);
  CHECK(says("there are: math.eval"));
  CHECK(call({"math.eval", "{}"}) == 2);
  CHECK(says("missing property 'expression' (a string)"));
  CHECK(says("it is called as math.eval(expression)"));
  CHECK(call({"memory.list"}) == 2);
  CHECK(says("kontor memory"));
  CHECK(call({"math.eval", "{}", "--root", "nowhere"}) == 2);
  CHECK(says("--root: there is no folder 'nowhere'"));
  CHECK(call({"math.eval", "@none.json"}) == 2);
  CHECK(says("none.json is no file that can be read"));
  CHECK(call({"math.eval", R"({"expression":"1"})", "--settings", R"({"scale":2})"}) == 2);
  CHECK(says("tools.math has no setting 'scale'"));
  CHECK(call({"shell.run", R"({"argv":["echo","hi"]})", "--settings", R"({"commands":["echo"]})"}) == 0);
  CHECK(says("\"stdout\": \"hi\\n\""));

  // With --json there is one JSON document, whatever went wrong.
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{"math.eval", "{x"}, {"math.eval", "[]"}, {"nope.x", "{}"}, {"http.get", R"({"url":"https://a.example"})"}, {"math.eval", "{}", "--settings", "7"},
                                                {"math.eval", "{}", "--file", "none.json"}, {"math.eval", "{}", "--file", "none.yaml"}}) {
    auto with = words;
    with.push_back("--json");
    INFO(words[0] + " " + words[1]);
    CHECK(call(with) == 2);
    const auto parsed = kontor::parse_json(files.read("stdout"));
    REQUIRE(parsed.has_value());
    CHECK((*parsed)["ok"] == false);
    CHECK(!(*parsed)["error"]["kind"].get<std::string>().empty());
    CHECK(!(*parsed)["error"]["message"].get<std::string>().empty());
  }
}

TEST_CASE("tools of every kind are called by hand", "[cli]") {
  const Folder files;
  files.write("api.json", R"({"openapi":"3.1.0","servers":[{"url":"https://a.example"}],"paths":{"/a":{"get":{"operationId":"getA","parameters":[{"name":"n","in":"query","required":true,"schema":{"type":"integer","maximum":9}}]}}}})");
  files.write("mcp.json", std::string(R"({"mcpServers":{"fix-1":{"command":")") + KONTOR_BINARY_DIR + R"(/tests/mcp_fixture_server"}}})");
  files.write("all.yaml", std::string("kontor: 1\nname: all\ninclude: mcp.json\nworkflow: [{wait: 1s}]\ntools:\n  sums: {use: builtin.math}\n  api: {use: openapi, document: api.json, hosts: [a.example]}\n"
                          "  echo: {use: plugin, library: libecho_c.so}\n"));
  fs::copy_file(std::string(KONTOR_BINARY_DIR) + "/plugins/libecho_c.so", files.folder / "libecho_c.so");
  const auto call = [&](const std::string& name, const std::string& arguments) {
    return files.run({"tools", "call", name, arguments, "--file", (files.folder / "all.yaml").string(), "--airgap"});
  };
  const auto says = [&](const char* words) { return files.output().find(words) != std::string::npos; };
  CHECK(call("sums.eval", R"({"expression":"2*3"})") == 0);
  CHECK(says("\"value\": 6"));
  CHECK(call("fix-1.echo", R"({"text":"hi"})") == 0);
  CHECK(says("hi"));
  CHECK(call("fix-1.echo", R"({"text":7})") == 2);
  CHECK(says("argument 'text': expected a string, got a number"));
  CHECK(call("api.getA", R"({"n":10})") == 2);
  CHECK(says("argument 'n': "));
  CHECK(call("api.getA", R"({"n":1})") == 1);  // --airgap
  CHECK(call("echo.say", R"({"text":"over there"})") == 0);
  CHECK(says("over there"));
  CHECK(call("echo.say", R"({"txt":"x"})") == 2);
  CHECK(says("missing property 'text'"));
  CHECK(says("it is called as echo.say(text)"));
  CHECK(call("sms.eval", "{}") == 2);
  CHECK(says("did you mean 'sums'?"));
}

TEST_CASE("a map of servers is read as in an agent file, and its times are honoured", "[cli]") {
  const Folder files;
  const std::string server = std::string(KONTOR_BINARY_DIR) + "/tests/mcp_fixture_server";
  const auto run = [&](const std::string& entry, std::vector<std::string> words) {
    files.write("servers.json", "{\"mcpServers\": {\n" + entry + "\n}}");
    words.push_back((files.folder / "servers.json").string());
    return files.run(words);
  };
  const auto says = [&](const char* words) { return files.output().find(words) != std::string::npos; };
  const std::string good = "\"fix\": {\"command\": \"" + server + "\", \"timeout\": 1, \"autoApprove\": [\"echo\"]}, \"off\": {\"command\": \"x\", \"disabled\": true}";
  CHECK(run(good, {"tools", "list"}) == 0);
  CHECK(says("fix.echo(text?)"));
  CHECK(!says("off."));
  CHECK(run(good, {"tools", "call", "fix.echo", R"({"text":"hi"})", "--file"}) == 0);
  CHECK(says("hi"));
  CHECK(run(good, {"tools", "call", "fix.sleep", "{}", "--json", "--file"}) == 1);
  CHECK(says("\"kind\":\"timeout\""));
  CHECK(run("\"a\": {\"command\": \"x\", \"gallery\": 1},\n\"two words\": {\"command\": \"x\"}", {"tools", "list"}) == 2);
  CHECK(says("servers.json:2:23: unknown-key"));
  CHECK(says("servers.json:3:1: bad-format"));
  CHECK(says("kontor import mcp"));
  CHECK(run("\"a\": 7", {"tools", "pin", "--out", (files.folder / "pin.json").string()}) == 2);
  CHECK(run("\"a\": {}", {"tools", "list"}) == 2);
  CHECK(says("a server needs one of command and url"));
}

TEST_CASE("an author is told when a result is not what the plugin declares", "[cli]") {
  const Folder files;
  const auto call = [&](const char* name) { return files.run({"plugin", "call", std::string(KONTOR_BINARY_DIR) + "/tests/plugins/libkontor_fixture_" + name + ".so", "act", "{}"}, false); };
  CHECK(call("newer") == 0);
  CHECK(call("other_result") == 1);
  CHECK(files.output().find("{\"ok\": true}") != std::string::npos);
  CHECK(files.output().find("the result is not what the plugin declares: missing property 'status'") != std::string::npos);
  CHECK(files.output().find("the result is not what the plugin declares: /ok: expected a string, got") != std::string::npos);
}
