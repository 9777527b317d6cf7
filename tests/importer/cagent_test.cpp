#include "tests/importer/imported.hpp"

#include <nlohmann/json.hpp>

using namespace kontor;
using kontor::agent::ForeignFormat;
using kontor::test::ImportedFolder;

TEST_CASE("agents of cagent keep their tools, their helpers and their models' settings", "[import][cagent]") {
  const ImportedFolder result(ForeignFormat::cagent, R"(#!/usr/bin/env cagent run
version: "2"
agents:
  checker:
    model: local
    description: Checks figures
    instruction: Check every figure.
    toolsets:
      - type: filesystem
        tools: [read_file, search_files_content]
  root:
    model: big
    description: Writes the monthly report
    instruction: |
      Write the report for ${env.REGION}.
      It costs ${amount} at most.
    sub_agents: [checker]
    max_iterations: 7
    toolsets:
      - type: filesystem
      - type: shell
      - type: think
      - type: mcp
        command: crm-mcp
        args: [--read-only]
        tools: [get_account]
        env: {CRM_TOKEN: $CRM_TOKEN, REGION: eu}
        instruction: Ask the CRM first.
      - type: mcp
        remote:
          url: https://docs.example/mcp
          transport_type: streamable
          headers: {Authorization: "Bearer ${env.DOCS_TOKEN}"}
models:
  big: {provider: openai, model: gpt-5, temperature: 0.3, max_tokens: 4000}
  local: {provider: openai, model: qwen3, base_url: "http://127.0.0.1:8000/v1", token_key: LOCAL_KEY}
)");
  INFO(result.findings());
  REQUIRE(result.spec);
  CHECK(result.imported.complete());
  REQUIRE(result.spec->agents.size() == 2);
  CHECK(result.spec->agents[0].name == "root");  // the one that starts
  const auto& root = result.agent("root");
  CHECK(root.role == "Writes the monthly report");
  CHECK(root.instruction == "Write the report for ${inputs.REGION}.\nIt costs $${amount} at most.\n\n\nAsk the CRM first.");
  CHECK(root.sub_agents == std::vector<std::string>{"checker"});
  CHECK(root.max_steps == 7);
  CHECK(root.tools == std::vector<std::string>{"files.*", "shell.run", "crm_mcp.*", "docs_example.*"});
  CHECK(result.agent("checker").tools == std::vector<std::string>{"files.read", "text.search"});
  REQUIRE(result.spec->inputs.size() == 1);
  CHECK(result.spec->inputs[0].required);

  CHECK(result.tool("crm_mcp").settings.at("command") == Json({"crm-mcp", "--read-only"}));
  CHECK(result.tool("crm_mcp").settings.at("only") == Json({"get_account"}));
  CHECK(result.tool("crm_mcp").settings.at("config") == Json{{"CRM_TOKEN", "{{secret:crm_token}}"}, {"REGION", "eu"}});
  CHECK(result.tool("docs_example").settings.at("config") == Json{{"Authorization", "Bearer {{secret:docs_token}}"}});
  REQUIRE(result.spec->models.size() == 2);
  CHECK(result.spec->models[0].temperature == 0.3);
  CHECK(result.spec->models[1].endpoint == "http://127.0.0.1:8000/v1");
  CHECK(result.spec->models[1].api_key_secret == "local_key");

  CHECK(result.finds("35:59 left-out: 'max_tokens' of the model 'big'"));
  CHECK(result.finds("22:9 left-out: the toolset 'think'"));
  REQUIRE(!result.imported.to_set.empty());
  CHECK(result.imported.text.find("# Set before the first run:") != std::string::npos);
}

TEST_CASE("what cagent says and Kontor cannot do is named with its place, and the rest still passes the checker", "[import][cagent]") {
  const ImportedFolder result(ForeignFormat::cagent, R"(agents:
  root:
    model: openai/gpt-5
    instruction: Help.
    rag: [manuals]
    sub_agents: [example/pirate]
    toolsets:
      - type: lsp
        command: gopls
      - type: mcp
        remote: {url: "https://old.example/sse", transport_type: sse}
      - type: filesystem
        post_edit: [{path: "*.go", cmd: gofmt}]
permissions:
  deny: ["shell:cmd=rm *"]
  allow: [read_file]
somewhere: else
)");
  INFO(result.findings());
  REQUIRE(result.spec);
  CHECK_FALSE(result.imported.complete());
  CHECK(result.finds("5:11 unsupported: there are no documents 'manuals' in 'rag' of the file"));
  CHECK(result.finds("6:18 unsupported: 'example/pirate'"));
  CHECK(result.finds("8:9 unsupported: the toolset 'lsp'"));
  CHECK(result.finds("11:50 unsupported: 'sse'"));
  CHECK(result.finds("13:9 unsupported: 'post_edit'"));
  CHECK(result.finds("15:3 unsupported: 'deny'"));
  CHECK(result.finds("16:3 left-out: 'allow'"));
  CHECK(result.finds("17:1 unsupported: 'somewhere' of the file is not known"));
  CHECK(result.spec->agents.at(0).tools == std::vector<std::string>{"files.*"});
}

TEST_CASE("a schema of an answer becomes a file of its own", "[import][cagent]") {
  const ImportedFolder result(ForeignFormat::cagent, R"(agents:
  root:
    model: openai/gpt-5
    instruction: Extract the person.
    structured_output:
      name: person
      strict: true
      schema: {type: object, properties: {name: {type: string}}, required: [name], additionalProperties: false}
)");
  REQUIRE(result.spec);
  CHECK(result.imported.complete());
  REQUIRE(result.imported.files.size() == 1);
  CHECK(result.imported.files[0].path == "schemas/root.json");
  REQUIRE(result.agent("root").output_schema);
  CHECK(result.agent("root").output_schema->at("required") == Json({"name"}));
}

TEST_CASE("a shared server definition is one group, however many agents use it", "[import][cagent]") {
  const ImportedFolder result(ForeignFormat::cagent, R"(mcps:
  search: {ref: "docker:duckduckgo"}
agents:
  root: {model: a, instruction: One., sub_agents: [two], toolsets: [{type: mcp, ref: search}]}
  two: {model: a, instruction: Two., toolsets: [{type: mcp, ref: search}]}
)");
  INFO(result.findings());
  REQUIRE(result.spec);
  REQUIRE(result.spec->tools.size() == 1);
  CHECK(result.spec->tools[0].settings.at("command") == Json({"docker", "mcp", "gateway", "run", "--servers=duckduckgo"}));
  CHECK(result.spec->models.size() == 1);
}

TEST_CASE("a file that is no agent file, or hides a secret's handle in a prompt, is refused", "[import][cagent]") {
  CHECK(ImportedFolder(ForeignFormat::cagent, "name: x\n").error.code == Errc::usage);
  const ImportedFolder broken(ForeignFormat::cagent, "agents:\n  root: {model: [\n");
  CHECK(broken.error.code == Errc::malformed);
  CHECK(broken.error.where.rfind("theirs.yaml:2:", 0) == 0);
  const ImportedFolder greedy(ForeignFormat::cagent, "agents:\n  root: {model: a, instruction: \"Say {{secret:erp}}.\"}\n");
  CHECK(greedy.error.code == Errc::unsupported);
  CHECK(greedy.error.message.find("secret-exposure") != std::string::npos);
}

TEST_CASE("every kind of toolset is carried over, or its place and what to do are told", "[import][cagent]") {
  const ImportedFolder result(ForeignFormat::cagent, R"(mcps:
  gh: {command: gh-mcp, instruction: Read issues first.}
agents:
  root:
    model: openai/gpt-5
    instruction: Help, and keep your ToDo list.
    toolsets:
      - {type: user_prompt}
      - {type: mcp, ref: gh}
      - {type: todo}
      - {type: script, shell: {build: {cmd: make, env: {A: b}}, none: {}, odd: {cmd: x, args: {"a b": {}}}}}
      - {type: openapi, url: "https://a.example/openapi.json"}
      - {type: api, api_config: {name: x}}
      - {type: background_agents}
      - {type: a2a, url: "https://a.example"}
      - {type: ""}
)");
  INFO(result.findings());
  REQUIRE(result.spec);
  CHECK(result.agent("root").tools == std::vector<std::string>{"person.ask", "gh.*", "shell.run"});
  CHECK(result.tool("person").use == "builtin.ask_user");
  CHECK(result.agent("root").instruction == "Help, and keep your ToDo list.\n\nRead issues first.\n\nTo use build, call shell.run with argv [\"sh\", \"scripts/build.sh\"].");
  CHECK(result.finds("10:9 unsupported: the toolset 'todo', of which the instruction speaks"));
  CHECK(result.finds("11:51 unsupported: 'env' of the script 'build': write the variables into the script"));
  CHECK(result.finds("unsupported: the script 'none' has no command"));
  CHECK(result.finds("unsupported: the argument 'a b' of the script 'odd' is no name of a variable"));
  CHECK(result.finds("12:9 unsupported: the toolset 'openapi' has no counterpart here; save the document"));
  CHECK(result.finds("13:33 unsupported: the toolset 'api' of 'x' has no endpoint"));
  CHECK(result.finds("14:9 unsupported: the toolset 'background_agents'"));
  CHECK(result.finds("15:9 unsupported: the toolset 'a2a' has no counterpart here"));
  CHECK(result.finds("16:9 unsupported: the toolset ''"));
}

TEST_CASE("requests of cagent become OpenAPI documents that are called", "[import][cagent]") {
  const ImportedFolder result(ForeignFormat::cagent, R"(agents:
  root:
    model: openai/gpt-5
    toolsets:
      - type: api
        api_config:
          name: get-weather
          endpoint: "https://api.weather.example/v1/${city}/now?units=metric&days=${days}"
          instruction: Weather of a city
          args: {city: {type: string, description: City}, days: {type: integer}, unused: {}}
          required: [city]
          headers: {Authorization: "Bearer ${env.WEATHER_KEY}", X-Team: a, Content-Type: application/json}
      - type: api
        api_config: {name: add, method: POST, endpoint: "http://tasks.example:81/tasks", args: {title: {type: string}, note: {type: string}}, required: [title]}
)");
  INFO(result.findings());
  INFO(result.imported.text);
  REQUIRE(result.spec);
  CHECK(result.imported.complete());
  CHECK(result.agent("root").tools == std::vector<std::string>{"get_weather.*", "add.*"});
  CHECK(result.tool("get_weather").settings.at("hosts") == Json({"api.weather.example"}));
  CHECK(result.tool("get_weather").settings.at("config") == Json{{"Authorization", "Bearer {{secret:weather_key}}"}, {"X-Team", "a"}});
  CHECK(result.spec->secrets.at(0).allow_tools == std::vector<std::string>{"get_weather.*"});
  CHECK(result.tool("add").settings.at("hosts") == Json({"tasks.example:81"}));
  CHECK(result.tool("add").settings.at("plain") == Json(true));
  REQUIRE(result.imported.files.size() == 2);
  const Json get = *parse_json(result.imported.files[0].text), post = *parse_json(result.imported.files[1].text);
  const Json& operation = get.at("paths").at("/v1/{city}/now").at("get");
  CHECK(operation.at("operationId") == "get_weather");
  REQUIRE(operation.at("parameters").size() == 3);
  CHECK(operation.at("parameters")[0] == Json{{"name", "city"}, {"in", "path"}, {"required", true}, {"description", "City"}, {"schema", {{"type", "string"}}}});
  CHECK(operation.at("parameters")[1].at("schema") == Json{{"type", "string"}, {"const", "metric"}});
  CHECK(operation.at("parameters")[2].at("required") == false);
  CHECK(post.at("paths").at("/tasks").at("post").at("requestBody").at("content").at("application/json").at("schema").at("required") == Json({"title"}));
}

TEST_CASE("requests that cannot be described are named with their place", "[import][cagent]") {
  const auto finds = [](const std::string& config, const char* words) {
    const ImportedFolder result(ForeignFormat::cagent, "agents:\n  root:\n    model: a/b\n    toolsets:\n      - {type: api, api_config: {name: x, args: {a: {}}, " + config + "}}\n");
    INFO(result.findings());
    CHECK(result.finds(words));
    CHECK(!result.imported.complete());
    CHECK(result.imported.files.empty());
  };
  finds("endpoint: \"ftp://a.example/\"", "'endpoint' has no fixed host");
  finds("endpoint: \"https://${a}/x\"", "'endpoint' has no fixed host");
  finds("endpoint: \"https://u:p@a.example/x\"", "unsupported: 'endpoint'");
  finds("endpoint: \"https://a.example/x-${a}\"", "'endpoint' has a placeholder that is not a whole part of the path");
  finds("endpoint: \"https://a.example/${a\"", "'endpoint' has a placeholder");
  finds("endpoint: \"https://a.example/${env.KEY}\"", "'endpoint' has a placeholder");
  finds("endpoint: \"https://a.example/${b}\"", "'endpoint' uses 'b', which is not in 'args'");
  finds("endpoint: \"https://a.example/?q=in:${a}\"", "'endpoint' has a placeholder that is not a whole value of the query");
  finds("endpoint: \"https://a.example/?q=a%20b\"", "'endpoint' has encoded characters in its query");
  finds("endpoint: \"https://a.example/#${a}\"", "'endpoint' has a fragment");
  finds("endpoint: \"https://a.example/{a}\"", "'endpoint' has braces in its path");
  finds("method: POST, endpoint: \"https://a.example/${a}\"", "'endpoint' of a POST request has placeholders");
  finds("method: PATCH, endpoint: \"https://a.example/\"", "the method 'PATCH' of 'x' is neither GET nor POST");
  finds("endpoint: [1]", "the toolset 'api' of 'x' has no endpoint");
  finds("endpoint: \"https://a.example/${a\", retries: 3", "'retries' of api_config is not known");
}

TEST_CASE("scripts and documents of cagent lie beside the agent file, and the prompt says how they are used", "[import][cagent]") {
  const ImportedFolder result(ForeignFormat::cagent, R"(rag:
  kb: {tool: {description: blorks}, docs: [./docs, guide.txt], strategies: [{type: bm25, docs: [./docs, more.md]}], results: {limit: 3}}
  away: {docs: [/etc/passwd, ../up, "${env.HOME}/x"]}
agents:
  root:
    model: openai/gpt-5
    instruction: Help.
    rag: [kb, away]
    toolsets:
      - type: todo
      - type: script
        shell:
          shout: {cmd: "printf %s \"$word\" | tr a-z A-Z", description: "Shout\na word", args: {word: {description: The word}, often: {}}}
)");
  INFO(result.findings());
  INFO(result.imported.text);
  REQUIRE(result.spec);
  CHECK(result.agent("root").tools == std::vector<std::string>{"shell.run", "files.list", "files.read", "text.search"});
  CHECK(result.agent("root").instruction ==
        "Help.\n\nTo use shout (Shout a word), call shell.run with argv [\"sh\", \"scripts/shout.sh\"], followed by one word each for word (The word), often.\n\n"
        "Documents of kb (blorks): ./docs, guide.txt, more.md. Find what they say with files.list, text.search and files.read.");
  REQUIRE(result.imported.files.size() == 1);
  CHECK(result.imported.files[0].path == "scripts/shout.sh");
  CHECK(result.imported.files[0].text == "#!/bin/sh\n# Shout a word\nword=${1-}\noften=${2-}\nexport word often\nprintf %s \"$word\" | tr a-z A-Z\n");
  CHECK(result.finds("2:3 left-out: the index of 'kb'"));
  CHECK(result.finds("10:9 left-out: the toolset 'todo'"));
  CHECK(result.finds("3:17 unsupported: a document of 'away' lies elsewhere"));
  CHECK(result.finds("3:3 unsupported: the documents 'away' have no files"));
  CHECK(!result.tool("files").settings.contains("write"));
}
