#include "tests/importer/imported.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

using namespace kontor;
using kontor::agent::ForeignFormat;
using kontor::test::ImportedFolder;

TEST_CASE("a map of servers becomes groups of tools, and no secret is copied", "[import][mcp]") {
  const ImportedFolder result(ForeignFormat::mcp, R"({
	"mcpServers": {
		"my files": {"command": "npx", "args": ["-y", "server-filesystem", "/data"], "description": "Files"},
		"crm": {"type": "stdio", "command": "crm-mcp", "env": {"CRM_API_KEY": "sk-12345", "MODE": "read ${x", "DB": "postgres://u:pw@db/x", "HOST": "${CRM_HOST:-localhost}"}, "autoApprove": ["get"]},
		"web": {"type": "http", "url": "https://web.example/mcp", "headers": {"Authorization": "Bearer abc", "X-Team": "finance"}},
		"off": {"command": "x", "disabled": true}
	}
})");
  INFO(result.findings());
  INFO(result.imported.text);
  REQUIRE(result.spec);
  CHECK(result.imported.complete());
  CHECK(result.agent("assistant").tools == std::vector<std::string>{"my_files.*", "crm.*", "web.*"});
  CHECK(result.tool("my_files").settings.at("command") == Json({"npx", "-y", "server-filesystem", "/data"}));
  CHECK(result.tool("crm").settings.at("config") == Json{{"CRM_API_KEY", "{{secret:crm_api_key}}"}, {"MODE", "read $${x"}, {"DB", "{{secret:db}}"}, {"HOST", "{{secret:crm_host}}"}});
  CHECK(result.tool("web").settings.at("config") == Json{{"Authorization", "{{secret:web_authorization}}"}, {"X-Team", "finance"}});
  for (const char* secret : {"sk-12345", "Bearer abc", "u:pw"}) CHECK(result.imported.text.find(secret) == std::string::npos);
  REQUIRE(result.spec->secrets.size() == 4);
  CHECK(result.spec->secrets[0].from == "env:CRM_API_KEY");
  CHECK(result.spec->secrets[0].allow_tools == std::vector<std::string>{"crm.*"});
  CHECK(result.spec->policy.allow == std::vector<std::string>{"crm.get"});
  CHECK(std::any_of(result.imported.to_set.begin(), result.imported.to_set.end(), [](const auto& line) { return line.starts_with("policy.allow: these calls do not ask"); }));
  CHECK(result.finds("6:3 left-out: the server 'off' is switched off"));
}

TEST_CASE("servers that cannot be carried over are named with their place", "[import][mcp]") {
  const ImportedFolder result(ForeignFormat::mcp, R"({"mcpServers": {
"a": {"type": "sse", "url": "https://a.example/sse"},
"b": {"command": "b", "args": ["--key=${KEY}"]},
"c": {"command": "c", "url": "https://c.example/mcp"},
"d": {"command": "d", "cwd": "/tmp"}, "d2": {"command": "d", "cwd": "a/../../b"}, "d3": {"url": "https://d.example/mcp", "cwd": "a"}, "d4": {"command": "d", "cwd": "${HOME}/x"}, "d5": {"command": "d", "cwd": ["a"]}, "d6": {"command": "d", "cwd": "./srv/x"}, "d7": {"command": "d7", "cwd": "."},
"e": {},
"f": {"command": "f", "sandbox": true},
"g": {"url": "https://u:p@g.example/mcp"}
}, "globalShortcut": "x"})");
  INFO(result.findings());
  REQUIRE(result.spec);
  CHECK_FALSE(result.imported.complete());
  CHECK(result.finds("2:7 unsupported: the server 'a': 'sse'"));
  CHECK(result.finds("3:32 unsupported: an argument of 'b' holds a variable"));
  CHECK(result.finds("4:7 unsupported: the server 'c' has a program and an address"));
  CHECK(result.finds("5:30 unsupported: 'cwd' of 'd' lies elsewhere"));
  CHECK(result.finds("unsupported: 'cwd' of 'd2' lies elsewhere"));
  CHECK(result.finds("unsupported: 'cwd' of 'd3' has no meaning for a server with an address"));
  CHECK(result.finds("unsupported: 'cwd' of 'd4' holds a variable"));
  CHECK(result.finds("unsupported: 'cwd' of 'd5' is not a folder"));
  CHECK(result.tool("d6").settings.at("cwd").get<std::string>().ends_with("/srv/x"));
  CHECK(!result.tool("d7").settings.contains("cwd"));
  CHECK(result.finds("6:1 unsupported: the server 'e' has neither"));
  CHECK(result.finds("7:23 unsupported: 'sandbox' of the server 'f' is not known"));
  CHECK(result.finds("8:14 unsupported: the address of 'g'"));
  CHECK(result.finds("9:4 unsupported: 'globalShortcut'"));
  CHECK(ImportedFolder(ForeignFormat::mcp, "{\"servers\": {}}").error.code == Errc::usage);
  const ImportedFolder twice(ForeignFormat::mcp, "{\"mcpServers\": {\"a\": {\"command\": \"x\", \"command\": \"y\"}}}");
  CHECK(twice.finds("1:39 unsupported: 'command' stands twice"));
}

TEST_CASE("times and approvals of servers are carried over where they say what they mean", "[import][mcp]") {
  const ImportedFolder result(ForeignFormat::mcp, R"({"mcpServers": {
"a": {"command": "a", "timeout": 60, "alwaysAllow": ["x", "x"]},
"b": {"command": "b", "timeout": 120000, "trust": true},
"c": {"command": "c", "timeout": 3600},
"d": {"command": "d", "timeout": 3600000, "autoApprove": ["two words", "y*", "*"]},
"e": {"command": "e", "timeout": -1, "trust": false, "autoApprove": []},
"f": {"command": "f", "timeout": "long"}
}})");
  INFO(result.findings());
  REQUIRE(result.spec);
  CHECK(result.tool("a").settings.at("timeout_ms") == 60'000);
  CHECK(result.tool("b").settings.at("timeout_ms") == 120'000);
  CHECK(result.finds("4:34 unsupported: 'timeout' of 'c' may be seconds or milliseconds; write it as `timeout_ms`"));
  CHECK(result.tool("d").settings.at("timeout_ms") == 600'000);
  CHECK(result.finds("5:34 left-out: 'timeout' of 'd': a call has 10 minutes at the most"));
  CHECK(result.finds("unsupported: 'two words' is no name of a tool"));
  CHECK(result.finds("unsupported: 'y*' is no name of a tool"));
  CHECK(result.finds("6:34 unsupported: 'timeout' of 'e' is not a number above zero"));
  CHECK(result.finds("7:34 unsupported: 'timeout' of 'f' is not a number above zero"));
  CHECK(result.spec->policy.allow == std::vector<std::string>{"a.x", "b.*", "d.*"});
}
