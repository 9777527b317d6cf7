#include "tests/support/catch.hpp"
#include "tests/tools/local_server.hpp"
#include "tools/builtin/openapi.hpp"
#include "tools/builtin/openapi_document.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

namespace kontor::tools {
namespace {

namespace fs = std::filesystem;

const char* const kShop = R"({"openapi": "3.1.0", "info": {"title": "Shop", "version": "1"}, "servers": [{"url": "https://{region}.example/v1"}],
  "paths": {
    "/orders/{id}": {
      "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}, {"$ref": "#/components/parameters/Trace"}],
      "get": {"operationId": "getOrder", "summary": "One order.", "parameters": [{"name": "fields", "in": "query", "explode": false, "schema": {"type": "array", "items": {"type": "string"}}}]},
      "put": {"operationId": "putOrder", "requestBody": {"$ref": "#/components/requestBodies/Order"}},
      "delete": {"operationId": "orders.delete"}},
    "/orders": {
      "get": {"parameters": [{"name": "tag", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}}, {"name": "where", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
                             {"name": "q", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}}]},
      "post": {"operationId": "addOrder", "requestBody": {"required": true, "content": {"text/plain": {}, "application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}}}}},
  "components": {
    "parameters": {"Trace": {"name": "X-Trace", "in": "header", "schema": {"type": "string"}}},
    "requestBodies": {"Order": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}}},
    "schemas": {"Order": {"type": "object", "properties": {"amount": {"type": "number"}, "example": {"type": "string"}, "next": {"$ref": "#/components/schemas/Order"}}, "required": ["amount"], "additionalProperties": false},
                "Unused": {"type": "object"}}}})";

struct World {
  World() {
    folder = fs::temp_directory_path() / ("kontor-openapi-" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
    context.folder = folder.string();
  }
  ~World() { fs::remove_all(folder); }
  Result<std::vector<std::shared_ptr<Tool>>> make(const std::string& document, const Json& settings) {
    std::ofstream(folder / "api.json") << document;
    Json all{{"document", "api.json"}};
    for (const auto& [key, value] : settings.items()) all[key] = value;
    return make_openapi("shop", all, context);
  }
  ToolResult call(const std::string& name, const Json& arguments) const {
    CallContext call;
    call.idempotency_key = "key-1";
    return registry.call(name, arguments, call);
  }
  fs::path folder;
  BuiltinContext context;
  Registry registry;
};

std::string first_line(const std::string& request) { return request.substr(0, request.find("\r\n")); }

/// The kind of error that a document ends in, with its place; "" when it is read.
std::string refused(Json document) {
  document.emplace("openapi", "3.1.1");
  const auto read = read_api_document(document);
  return read ? "" : std::string(to_string(read.error().code)) + " " + read.error().where;
}
Json with_get(const Json& operation, const std::string& path = "/a") { return Json{{"paths", {{path, {{"get", operation}}}}}}; }

}  // namespace

TEST_CASE("operations of an OpenAPI document are called as it describes them", "[builtin][openapi]") {
  World world;
  LocalServer server([](const std::string& request) {
    if (request.starts_with("GET /v2/orders/404")) return answer(R"({"why": "gone"})", "Content-Type: application/json\r\n", "404 Not Found");
    return answer(R"({"ok": true})", "Content-Type: application/json\r\n");
  });
  const auto made = world.make(kShop, {{"server", server.url("/v2/")}, {"hosts", {"127.0.0.1:" + std::to_string(server.port)}}, {"private", true}, {"plain", true}, {"config", {{"Authorization", "Bearer s3cret"}}}});
  if (!made) FAIL(made.error().describe());
  for (const auto& tool : *made) REQUIRE(world.registry.add(tool).has_value());
  CHECK(world.registry.names() == std::vector<std::string>{"shop.addOrder", "shop.getOrder", "shop.get_orders", "shop.orders_delete", "shop.putOrder"});
  CHECK(world.registry.find("shop.getOrder")->spec().effect == Effect::none);
  CHECK(world.registry.find("shop.putOrder")->spec().effect == Effect::idempotent);
  CHECK(world.registry.find("shop.orders_delete")->spec().effect == Effect::idempotent);
  CHECK(world.registry.find("shop.addOrder")->spec().effect == Effect::once);
  CHECK(world.registry.find("shop.addOrder")->spec().untrusted_output);

  const auto got = world.call("shop.getOrder", {{"id", "a/b ü?"}, {"fields", {"x,y", "z"}}, {"X-Trace", "t1"}});
  INFO(got.value.dump());
  REQUIRE(!got.is_error);
  CHECK(got.value["json"]["ok"] == true);
  CHECK(first_line(server.seen().back()) == "GET /v2/orders/a%2Fb%20%C3%BC%3F?fields=x%2Cy,z HTTP/1.1");
  CHECK(server.seen().back().find("Authorization: Bearer s3cret\r\n") != std::string::npos);
  CHECK(server.seen().back().find("X-Trace: t1\r\n") != std::string::npos);
  REQUIRE(!world.call("shop.get_orders", {{"tag", {"a", "b&c"}}, {"where", {{"x y", 1}}}, {"q", {{"k", true}}}}).is_error);
  CHECK(first_line(server.seen().back()) == "GET /v2/orders?tag=a&tag=b%26c&where%5Bx%20y%5D=1&q=%7B%22k%22%3Atrue%7D HTTP/1.1");
  REQUIRE(!world.call("shop.putOrder", {{"id", "7"}, {"body", {{"amount", 1.5}, {"example", "e"}, {"next", {{"amount", 2}}}}}}).is_error);
  CHECK(first_line(server.seen().back()) == "PUT /v2/orders/7 HTTP/1.1");
  CHECK(server.seen().back().ends_with(R"({"amount":1.5,"example":"e","next":{"amount":2}})"));
  CHECK(server.seen().back().find("Idempotency-Key: key-1\r\n") != std::string::npos);
  CHECK(server.seen().back().find("Content-Type: application/json\r\n") != std::string::npos);
  REQUIRE(!world.call("shop.orders_delete", {{"id", "7"}}).is_error);
  CHECK(first_line(server.seen().back()) == "DELETE /v2/orders/7 HTTP/1.1");
  REQUIRE(!world.call("shop.addOrder", {{"body", {{"amount", 1}}}}).is_error);
  CHECK(first_line(server.seen().back()) == "POST /v2/orders HTTP/1.1");
  const auto missing = world.call("shop.getOrder", {{"id", "404"}});
  CHECK(missing.error_kind == "http_status");
  CHECK(missing.value["error"] == R"(the server answered 404: {"why": "gone"})");

  const auto before = server.seen().size();
  for (const char* part : {"..", ".", ""}) CHECK(world.call("shop.getOrder", {{"id", part}}).error_kind == "invalid_arguments");
  CHECK(world.call("shop.getOrder", Json::object()).error_kind == "invalid_arguments");
  CHECK(world.call("shop.getOrder", {{"id", "1"}, {"X-Trace", "a\r\nX-Evil: b"}}).is_error);
  CHECK(world.call("shop.addOrder", {{"body", {{"amount", 1}, {"next", {{"amount", "x"}}}}}}).error_kind == "invalid_arguments");
  CHECK(world.call("shop.addOrder", Json::object()).error_kind == "invalid_arguments");
  CHECK(server.seen().size() == before);
}

TEST_CASE("an OpenAPI document reaches only the hosts of the agent file", "[builtin][openapi]") {
  World world;
  LocalServer inside([](const std::string&) { return answer("inside"); });
  const std::string document = Json{{"openapi", "3.1.0"}, {"servers", {{{"url", inside.url("")}}}}, {"paths", {{"/a", {{"get", {{"operationId", "a"}}}}}}}}.dump();
  CHECK(!world.make(document, Json::object()).has_value());  // hosts are needed
  const auto other = world.make(document, {{"hosts", {"api.example"}}, {"plain", true}});
  REQUIRE(other.has_value());
  CHECK((*other)[0]->call(Json::object(), {}).error_kind == "denied");
  const auto named = world.make(document, {{"hosts", {"127.0.0.1:" + std::to_string(inside.port)}}, {"plain", true}});
  REQUIRE(named.has_value());
  CHECK((*named)[0]->call(Json::object(), {}).error_kind == "denied");  // private
  CHECK(inside.seen().empty());
  CHECK(!world.make(kShop, {{"hosts", {"a.example"}}}).has_value());  // a server with variables is no address
  CHECK(!world.make(kShop, {{"hosts", {"a.example"}}, {"server", "https://a.example/?x"}}).has_value());
  CHECK(!world.make(kShop, {{"hosts", {"a.example"}}, {"server", "https://a.example"}, {"only", {"nothing*"}}}).has_value());
  CHECK(world.make(kShop, {{"hosts", {"a.example"}}, {"server", "https://a.example"}, {"only", {"get*"}}})->size() == 2);
  CHECK(!world.make(kShop, {{"hosts", {"a.example"}}, {"document", "../api.json"}}).has_value());
  CHECK(!world.make("{", {{"hosts", {"a.example"}}}).has_value());
}

TEST_CASE("what an OpenAPI document may not say is an error with its place", "[builtin][openapi]") {
  CHECK(refused(with_get(Json::object())) == "");
  for (const char* version : {"2.0", "3.2.0", "3.0", "3", ""}) CHECK(refused({{"openapi", version}, {"paths", Json::object()}}) == "unsupported /openapi");
  CHECK(refused({{"paths", 5}}) == "malformed /paths");
  CHECK(refused(with_get(Json::object(), "a")) == "malformed /paths/a");
  CHECK(refused(with_get(Json::object(), "/a?b")) == "malformed /paths/~1a?b");
  CHECK(refused(with_get(Json::object(), "/{x}")) == "malformed /paths/~1{x}/get");
  CHECK(refused(with_get(Json::object(), "/{x")) == "malformed /paths/~1{x/get");
  const auto parameter = [](const Json& value) { return refused(with_get({{"parameters", {value}}})); };
  const std::string place = " /paths/~1a/get/parameters/0";
  CHECK(parameter({{"name", "x"}, {"in", "query"}}) == "");
  CHECK(parameter({{"name", "x"}, {"in", "path"}}) == "malformed /paths/~1a/get");
  CHECK(parameter({{"name", "x"}, {"in", "body"}}) == "malformed" + place);
  CHECK(parameter({{"name", "x"}, {"in", "cookie"}, {"required", true}}) == "unsupported" + place);
  CHECK(parameter({{"name", "Host"}, {"in", "header"}}) == "unsupported" + place);
  CHECK(parameter({{"name", "a b"}, {"in", "header"}}) == "malformed" + place);
  CHECK(parameter({{"name", "x"}, {"in", "query"}, {"style", "pipeDelimited"}}) == "unsupported" + place);
  CHECK(parameter({{"$ref", "other.json#/x"}}) == "unsupported" + place);
  CHECK(parameter({{"$ref", "#/components/parameters/none"}}) == "malformed" + place);
  CHECK(parameter({{"name", "x"}, {"in", "query"}, {"schema", {{"$ref", "https://evil.example/x"}}}}) == "unsupported" + place);
  CHECK(parameter({{"name", "x"}, {"in", "query"}, {"schema", {{"$ref", "#/components/schemas/none"}}}}) == "malformed" + place);
  CHECK(parameter({{"name", "x"}, {"in", "query"}, {"schema", 7}}) == "malformed" + place);
  Json circle = with_get({{"parameters", {{{"$ref", "#/components/parameters/a"}}}}});
  circle["components"]["parameters"] = {{"a", {{"$ref", "#/components/parameters/b"}}}, {"b", {{"$ref", "#/components/parameters/a"}}}};
  CHECK(refused(circle) == "malformed" + place);
  CHECK(refused(with_get({{"requestBody", {{"content", {{"multipart/form-data", Json::object()}}}}}})) == "unsupported /paths/~1a/get/requestBody/content");
  Json twice{{"paths", {{"/a", {{"get", {{"operationId", "x"}}}, {"put", {{"operationId", "x"}}}}}}}};
  CHECK(refused(twice) == "malformed /paths/~1a/put");

  // Schemas that bring each other along, for every operation again.
  Json large{{"components", {{"schemas", Json::object()}}}, {"paths", Json::object()}};
  for (int i = 0; i < 400; ++i) {
    large["components"]["schemas"]["s" + std::to_string(i)] = {{"title", std::string(500, 'x')}, {"properties", {{"next", {{"$ref", "#/components/schemas/s" + std::to_string((i + 1) % 50)}}}}}};
    large["paths"]["/p" + std::to_string(i)]["get"] = {{"parameters", {{{"name", "q"}, {"in", "query"}, {"schema", {{"$ref", "#/components/schemas/s" + std::to_string(i)}}}}}}};
  }
  const auto begin = std::chrono::steady_clock::now();
  (void)refused(large);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
  Json deep = with_get({{"parameters", {{{"name", "x"}, {"in", "query"}, {"schema", {{"$ref", "#/components/schemas/s0"}}}}}}});
  for (int i = 0; i < 200; ++i) deep["components"]["schemas"]["s" + std::to_string(i)] = {{"not", {{"$ref", "#/components/schemas/s" + std::to_string(i + 1)}}}};
  CHECK(refused(deep).starts_with("limit"));
}

TEST_CASE("documents of OpenAPI 3.0 are read, with what they say in their own way", "[builtin][openapi]") {
  World world;
  LocalServer server([](const std::string&) { return answer(R"({"ok": true})", "Content-Type: application/json\r\n"); });
  const char* document = R"({"openapi": "3.0.3", "paths": {
    "/pets/{id}": {"get": {"operationId": "getPet", "parameters": [
      {"name": "id", "in": "path", "required": true, "schema": {"type": "integer", "minimum": 0, "exclusiveMinimum": true, "maximum": 9, "exclusiveMaximum": false}},
      {"name": "kind", "in": "query", "schema": {"type": "string", "nullable": true, "enum": ["cat", "dog"]}},
      {"name": "pet", "in": "query", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet", "description": "beside", "minProperties": 5}}}}]}},
    "/far": {"$ref": "far.yaml#/x"}},
    "components": {"schemas": {"Pet": {"type": "object", "nullable": true, "properties": {"nullable": {"type": "string"}, "next": {"$ref": "#/components/schemas/Pet"}}}}}})";
  const Json settings{{"server", server.url("/v1")}, {"hosts", {"127.0.0.1:" + std::to_string(server.port)}}, {"private", true}, {"plain", true}};
  const auto whole = world.make(document, settings);
  REQUIRE(!whole.has_value());
  CHECK(whole.error().describe().find("/paths/~1far") != std::string::npos);
  Json chosen = settings;
  chosen["only"] = {"getPet"};  // without names, operations of elsewhere are not meant
  const auto made = world.make(document, chosen);
  if (!made) FAIL(made.error().describe());
  for (const auto& tool : *made) REQUIRE(world.registry.add(tool).has_value());
  const auto told = [&](const Json& arguments) { return world.call("shop.getPet", arguments).error_kind; };
  CHECK(told({{"id", 0}}) == "invalid_arguments");
  CHECK(told({{"id", 9}}) == "");
  CHECK(told({{"id", 10}}) == "invalid_arguments");
  CHECK(told({{"id", 1}, {"kind", "cow"}}) == "invalid_arguments");
  CHECK(told({{"id", 1}, {"kind", "cat"}}) == "");
  CHECK(first_line(server.seen().back()) == "GET /v1/pets/1?kind=cat HTTP/1.1");
  CHECK(told({{"id", 1}, {"kind", nullptr}}) == "");
  CHECK(told({{"id", 1}, {"pet", nullptr}}) == "");
  CHECK(told({{"id", 1}, {"pet", {{"nullable", "x"}, {"next", nullptr}}}}) == "");  // one property: what stands beside $ref does not count
  CHECK(told({{"id", 1}, {"pet", {{"nullable", 5}}}}) == "invalid_arguments");
}

TEST_CASE("forms are written field by field", "[builtin][openapi]") {
  World world;
  LocalServer server([](const std::string&) { return answer(R"({"ok": true})", "Content-Type: application/json\r\n"); });
  const auto made = world.make(R"({"openapi": "3.0.0", "paths": {"/charges": {"post": {"operationId": "charge", "requestBody": {"required": true, "content": {
    "multipart/form-data": {}, "application/x-www-form-urlencoded": {"schema": {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}}}}}}}})",
                               {{"server", server.url("")}, {"hosts", {"127.0.0.1:" + std::to_string(server.port)}}, {"private", true}, {"plain", true}});
  if (!made) FAIL(made.error().describe());
  for (const auto& tool : *made) REQUIRE(world.registry.add(tool).has_value());
  REQUIRE(!world.call("shop.charge", {{"body", {{"amount", 5}, {"note", "a&b=c d\r\n"}, {"tags", {"x", "y"}}, {"none", nullptr}}}}).is_error);
  CHECK(server.seen().back().ends_with("\r\n\r\namount=5&note=a%26b%3Dc%20d%0D%0A&tags=x&tags=y&none="));
  CHECK(server.seen().back().find("Content-Type: application/x-www-form-urlencoded\r\n") != std::string::npos);
  CHECK(world.call("shop.charge", {{"body", {{"note", "x"}}}}).error_kind == "invalid_arguments");
  const auto nested = world.call("shop.charge", {{"body", {{"amount", 5}, {"card", {{"number", 1}}}}}});
  CHECK(nested.value["error"].get<std::string>().find("argument 'body.card'") != std::string::npos);
  CHECK(server.seen().size() == 1);
  CHECK(refused(with_get({{"requestBody", {{"content", {{"application/x-www-form-urlencoded", {{"encoding", Json::object()}}}}}}}})) == "unsupported /paths/~1a/get/requestBody/content");
}

}  // namespace kontor::tools
