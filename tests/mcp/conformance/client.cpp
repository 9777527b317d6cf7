// The client of the MCP conformance suite: `mcp_conformance_client URL`, the scenario in MCP_CONFORMANCE_SCENARIO. It is
// Kontor's own client with a person that says yes to everything.

#include "tools/mcp/client.hpp"
#include "tools/mcp/http_transport.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

using namespace kontor;
using namespace kontor::tools::mcp;

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int fail_with(const Error& error) {
  std::fprintf(stderr, "%s\n", error.describe().c_str());
  return 1;
}

/// The browser: it follows the redirect of the authorization server to our own address.
void visit(const std::string& page) {
  std::thread([page] {
    const HttpLimits limits{std::chrono::steady_clock::now() + std::chrono::seconds(20), {}, 1u << 20, {}};
    const auto url = parse_url(page);
    if (!url) return;
    const auto answer = http_fetch({"GET", *url, {}, {}}, limits);
    if (!answer) return;
    if (const auto back = parse_url(answer->head.header("Location"))) http_fetch({"GET", *back, {}, {}}, limits);
  }).detach();
}

/// What a person would fill in: the defaults, else something of the type.
Json filled(const Json& schema) {
  Json content = Json::object();
  for (const auto& [name, field] : object_at(schema, "properties").items()) {
    if (field.contains("default")) content[name] = field.at("default");
    else if (text_at(field, "type") == "boolean") content[name] = true;
    else if (text_at(field, "type") == "string" && !field.contains("enum") && !field.contains("oneOf")) content[name] = "text";
  }
  return content;
}

struct Run {
  std::unique_ptr<Client> client;
  std::string scenario;

  Reply answer(const std::string& method, const Json& params) {
    if (method == "roots/list") return Json{{"roots", Json::array()}};
    if (method != "elicitation/create") return RpcError{kInvalidRequest, "there is no model here"};
    // Something else in between must not carry the state of this call.
    if (scenario == "sep-2322-client-request-state" && client) client->call_tool("test_mrtr_unrelated", Json::object(), nullptr, Patience::of_ms(10'000));
    return Json{{"action", "accept"}, {"content", filled(object_at(params, "requestedSchema"))}};
  }
};

/// Arguments that fit a schema, more or less.
Json arguments_for(const Json& tool) {
  Json arguments = Json::object();
  for (const auto& [name, field] : object_at(object_at(tool, "inputSchema"), "properties").items()) {
    const std::string type = text_at(field, "type");
    if (type == "number" || type == "integer") arguments[name] = 2;
    else if (type == "boolean") arguments[name] = true;
    else if (type == "string") arguments[name] = "text";
  }
  return arguments;
}

const Json* find(const std::vector<Json>& tools, const std::string& name) {
  for (const auto& tool : tools) {
    if (text_at(tool, "name") == name) return &tool;
  }
  return nullptr;
}

int call_all(Run& run, const std::vector<Json>& tools, const Json& context) {
  const auto call = [&](const Json& tool, const Json& arguments) {
    const auto result = run.client->call_tool(text_at(tool, "name"), arguments, tool, Patience::of_ms(20'000));
    if (!result) std::fprintf(stderr, "%s: %s\n", text_at(tool, "name").c_str(), result.error().describe().c_str());
    return result.has_value();
  };
  bool good = true;
  if (context.contains("toolCalls") && context.at("toolCalls").is_array()) {
    for (const auto& wanted : context.at("toolCalls")) {
      if (const Json* tool = find(tools, text_at(wanted, "name"))) good = call(*tool, object_at(wanted, "arguments")) && good;
    }
    return good ? 0 : 1;
  }
  if (run.scenario == "json-schema-2020-12-preservation") {
    const Json *focal = find(tools, "json_schema_2020_12_tool"), *echo = find(tools, "json_schema_echo");
    return focal && echo && call(*echo, Json{{"schema", focal->at("inputSchema")}}) ? 0 : 1;
  }
  for (const auto& tool : tools) {
    if (!problem_of_definition(tool).empty() || !argument_headers(object_at(tool, "inputSchema"), Json::object())) continue;
    if (text_at(tool, "name") == "test_mrtr_unrelated") continue;
    good = call(tool, arguments_for(tool)) && good;
  }
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  Run run;
  run.scenario = variable("MCP_CONFORMANCE_SCENARIO");
  const auto parsed = parse_json(variable("MCP_CONFORMANCE_CONTEXT"));
  const Json context = parsed ? *parsed : Json::object();
  HttpSetup setup;
  setup.url = argv[argc - 1];
  setup.open_page = visit;
  setup.headers = {{"oauth_client_metadata_url", "https://conformance-test.local/client-metadata.json"}};
  if (!text_at(context, "client_id").empty() && run.scenario == "auth/pre-registration") {
    setup.headers.emplace_back("oauth_client_id", text_at(context, "client_id"));
    setup.headers.emplace_back("oauth_client_secret", text_at(context, "client_secret"));
  }
  auto transport = make_http_transport(std::move(setup));
  if (!transport) return fail_with(transport.error());
  ClientHooks hooks;
  hooks.capabilities = Json{{"elicitation", Json{{"form", Json::object()}}}, {"roots", Json::object()}, {"sampling", Json::object()}};
  hooks.answer = [&run](const std::string& method, const Json& params) { return run.answer(method, params); };
  hooks.note = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  ClientOptions options;
  options.revision = variable("MCP_CONFORMANCE_PROTOCOL_VERSION");
  options.version = "conformance";
  auto client = Client::connect(std::move(*transport), std::move(hooks), options);
  if (!client) return fail_with(client.error());
  run.client = std::move(*client);
  const auto tools = run.client->list_tools(Patience::of_ms(20'000));
  if (!tools) return fail_with(tools.error());
  if (run.scenario == "json-schema-ref-no-deref" || run.scenario == "request-metadata") return 0;
  return call_all(run, *tools, context);
}
