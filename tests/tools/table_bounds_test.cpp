// What keeps queries of builtin.table small in time and memory, and that it changes no result.

#include "tests/support/catch.hpp"

#include "tools/builtin/builtin.hpp"
#include "tools/builtin/table_bounds.hpp"
#include "tools/builtin/table_text_sql.hpp"
#include "tools/builtin/table_tokens.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>
#include <re2/re2.h>
#include <sqlite3.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

namespace kontor::tools {
namespace {

struct World {
  World() {
    path = std::filesystem::temp_directory_path() / ("kontor-bounds-" + std::to_string(getpid()));
    std::filesystem::create_directories(path);
    std::ofstream(path / "t.csv") << "a\n1\n2\n3\n";
    BuiltinContext context;
    context.folder = path.string();
    const auto made = make_builtin("builtin.table", "table", Json{{"timeout_ms", 1500}, {"memory_mb", 96}}, context);
    REQUIRE(made.has_value());
    for (const auto& tool : *made) REQUIRE(registry.add(tool).has_value());
  }
  ~World() { std::filesystem::remove_all(path); }
  /// Rows as JSON, or "kind: message".
  std::string run(const std::string& sql) const {
    const auto result = registry.call("table.query", Json{{"sql", sql}, {"files", {{"t", "t.csv"}}}}, {});
    return result.is_error ? result.error_kind + ": " + result.value["error"].get<std::string>() : result.value["rows"].dump();
  }
  std::filesystem::path path;
  Registry registry;
};

/// SQL for a text of `count` times one character.
std::string many(const std::string& count, const std::string& what) { return "replace(printf('%" + count + "c',' '),' ','" + what + "')"; }

/// A connection of SQLite as it is, or with the replaced functions.
class Plain {
 public:
  explicit Plain(bool replaced) {
    REQUIRE(sqlite3_open(":memory:", &database_) == SQLITE_OK);
    if (replaced) REQUIRE(add_linear_sql(database_).has_value());
    if (replaced) REQUIRE(add_text_sql(database_).has_value());
  }
  ~Plain() { sqlite3_close(database_); }
  /// Type and bytes of the only value.
  std::string value(const std::string& expression) const {
    sqlite3_stmt* statement = nullptr;
    REQUIRE(sqlite3_prepare_v2(database_, ("SELECT " + expression).c_str(), -1, &statement, nullptr) == SQLITE_OK);
    std::string out = "error";
    if (sqlite3_step(statement) == SQLITE_ROW) {
      out = std::to_string(sqlite3_column_type(statement, 0)) + ":";
      const void* bytes = sqlite3_column_blob(statement, 0);
      if (bytes) out.append(static_cast<const char*>(bytes), static_cast<std::size_t>(sqlite3_column_bytes(statement, 0)));
    }
    sqlite3_finalize(statement);
    return out;
  }

 private:
  sqlite3* database_ = nullptr;
};

}  // namespace

TEST_CASE("no query runs much longer, or takes much more, than it may", "[table]") {
  const World world;
  const std::string x = many("15000000", "x"), y = many("7000000", "y");
  const std::pair<std::string, const char*> queries[] = {
      // Each step of these copies or compares megabytes.
      {"WITH RECURSIVE c(n,s) AS (SELECT 1, printf('%15000000c','x') UNION SELECT n+1, s||n FROM c LIMIT 3000) SELECT count(*) AS n FROM c", "limit: the query needs more than 96 MiB of memory"},
      {"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 100000) SELECT count(DISTINCT substr(printf('%15000000c', n), 14000000, n)) AS n FROM c", "timeout: "},
      // Products of two lengths in one function.
      {"SELECT instr(" + x + ", " + many("7000000", "x") + "||'y') AS n", R"([{"n":0}])"},
      {"SELECT length(replace(" + x + ", " + many("7000000", "x") + "||'y', 'z')) AS n", R"([{"n":15000000}])"},
      {"SELECT length(trim(" + x + ", " + y + "||'x')) AS n", R"([{"n":0}])"},
      {"SELECT json_patch('{}', '{}') AS n", "denied: the function 'json_patch' is not available in queries"},
      {"SELECT 'a' LIKE '" + std::string(300, 'a') + "' AS n", "malformed: SQL: LIKE or GLOB pattern too complex"},
      // Results that are longer than their arguments.
      {"SELECT length(replace(" + x + ", 'x', 'yy')) AS n", "malformed: SQL: string or blob too big"},
      {"SELECT length(regexp_replace(" + x + ", 'x', " + many("1000", "y") + ")) AS n", "malformed: SQL: string or blob too big"},
      {"SELECT length(regexp_replace(" + x + ", 'x*', replace(" + many("100000", "y") + ", 'y', '\\0'))) AS n", "malformed: SQL: string or blob too big"}};
  for (const auto& [sql, expected] : queries) {
    INFO(sql.substr(0, 160));
    const auto start = std::chrono::steady_clock::now();
    CHECK(world.run(sql).substr(0, std::string_view(expected).size()) == expected);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(15));
  }
}

TEST_CASE("queries at the same time are measured one by one", "[table]") {
  const World world;
  // 48 MiB of 96 each.
  const std::string sql = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 48) SELECT count(DISTINCT printf('%1048576c', char(64 + n))) AS n FROM c";
  std::vector<std::string> results(4);
  {
    std::vector<std::jthread> threads;
    for (auto& result : results) threads.emplace_back([&] { result = world.run(sql); });
  }
  for (const auto& result : results) CHECK(result == R"([{"n":48}])");
}

TEST_CASE("loading counts, too, and ends when the run does", "[table]") {
  World world;
  {
    std::ofstream big(world.path / "big.csv");
    big << "a,b,c,d,e,f,g,h\n";
    for (int i = 0; i < 300'000; ++i) big << i << ",some words,more words,7.25,x,y,z," << i * 3 << "\n";
  }
  BuiltinContext context;
  context.folder = world.path.string();
  const auto load = [&](const Json& settings, const CallContext& call) {
    Registry registry;
    const auto made = make_builtin("builtin.table", "table", settings, context);
    REQUIRE(made.has_value());
    for (const auto& tool : *made) REQUIRE(registry.add(tool).has_value());
    const auto result = registry.call("table.query", Json{{"sql", "SELECT count(*) AS n FROM t"}, {"files", {{"t", "big.csv"}}}}, call);
    return result.is_error ? result.error_kind + ": " + result.value["error"].get<std::string>() : result.value["rows"].dump();
  };
  CHECK(load(Json{{"timeout_ms", 600'000}}, {}) == R"([{"n":300000}])");
  CHECK(load(Json{{"timeout_ms", 1}}, {}) == "timeout: the query took longer than 1 ms");
  CHECK(load(Json{{"memory_mb", 4}, {"timeout_ms", 600'000}}, {}) == "limit: big.csv:13108:7: more than 104857 cells");
  CHECK(load(Json{{"memory_mb", 92}, {"timeout_ms", 600'000}}, {}) == R"([{"n":300000}])");
  std::stop_source source;
  CallContext stopping;
  stopping.stop = source.get_token();
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    source.request_stop();
  });
  CHECK(load(Json{{"timeout_ms", 600'000}}, stopping).starts_with("cancelled: "));
}

TEST_CASE("common table expressions that double with each step are counted before SQLite sees them", "[table]") {
  const World world;
  for (const std::string hint : {"", "MATERIALIZED ", "NOT MATERIALIZED "}) {
    std::string sql = "WITH c0(x) AS " + hint + "(SELECT 1)";
    for (int i = 1; i < 40; ++i) {
      const std::string last = "c" + std::to_string(i - 1);
      sql += ", \"C" + std::to_string(i) + "\"(x) AS /* ( */ " + hint + "(SELECT a.x FROM " + last + " a, [" + last + "] b)";
    }
    CHECK(world.run(sql + " SELECT x FROM c39").starts_with("limit: the common table expressions of the query become more than 10000 SELECTs"));
  }
  CHECK(world.run("WITH a(n) AS (SELECT a FROM t), b(n) AS (SELECT x.n FROM a x, a y), c(n) AS (SELECT x.n FROM b x, b y) SELECT count(*) AS n FROM c, a") == R"([{"n":243}])");
  CHECK(world.run("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT sum(n) AS s FROM r") == R"([{"s":15}])");
  const auto count = [](std::string_view sql) { return count_sql_expansions(sql, 1000); };
  CHECK(count("SELECT 1") == 1);
  CHECK(count("WITH a AS (SELECT a.x, 'b' FROM t) SELECT a.y FROM a") < 10);
  std::string deep, names, nested;
  for (int i = 0; i < 20'000; ++i) {
    deep += "((a as (";
    nested += "a as (";
    names += "n" + std::to_string(i) + " as (),";
  }
  const auto start = std::chrono::steady_clock::now();
  CHECK(count(deep) == 1000);
  CHECK(count(nested) == 1000);
  CHECK(count(names) == 1000);
  for (const std::string broken : {"a as (", "a (", "a as", "as (", ")", "with a as not materialized", "a () as ()", "'", "[", "/*", "--", ""}) (void)count(broken);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
}

TEST_CASE("functions that only compute are available, and no others", "[table]") {
  const World world;
  for (const std::string function : {"load_extension('x')", "readfile('/etc/passwd')", "writefile('x','y')", "randomblob(9)", "zeroblob(9)", "sqlite_version()", "sqlite_source_id()", "last_insert_rowid()",
                                     "changes()", "fts3_tokenizer('x')", "sqlite_compileoption_get(1)", "eval('SELECT 1')"}) {
    INFO(function);
    const auto said = world.run("SELECT " + function + " AS x");
    CHECK((said.starts_with("denied: the function '") || said.find("no such function") != std::string::npos));
  }
  for (const std::string table : {"pragma_database_list", "pragma_function_list", "dbstat", "sqlite_stmt", "bytecode('SELECT 1')", "generate_series(1,2)", "fsdir('/')"}) {
    INFO(table);
    CHECK(!world.run("SELECT * FROM " + table).starts_with("["));
  }
  CHECK(world.run(R"(SELECT '{"a":[1,2]}' ->> '$.a[1]' AS x, json_extract('{"b":3}', '$.b') AS y, UPPER('a') || lower('B') AS z, strftime('%Y','2026-01-02') AS w)") == R"([{"x":2,"y":3,"z":"Ab","w":"2026"}])");
  CHECK(world.run("SELECT row_number() OVER (ORDER BY a) AS n, lag(a) OVER (ORDER BY a) AS b FROM t LIMIT 1") == R"([{"n":1,"b":null}])");
  CHECK(world.run("SELECT value AS v FROM json_each('[7]')") == R"([{"v":7}])");
}

TEST_CASE("replaced functions give what SQLite gives", "[table]") {
  const Plain sqlite(false), ours(true);
  const std::string values[] = {"NULL", "''", "' '", "'a'", "'aa'", "'ab'", "'abcabc'", "'  ab  '", "'äöü'", "'öä'", "'ä'", "'xäx'", "x''", "x'61'", "x'c3a4'", "x'00'", "12", "1", "1.5", "'aaa'", "'\xf0\x9f\x98\x80z'", "'z'"};
  for (const auto& a : values) {
    for (const char* function : {"trim", "ltrim", "rtrim"}) {
      const std::string call = std::string(function) + "(" + a + ")";
      INFO(call);
      CHECK(ours.value(call) == sqlite.value(call));
    }
    for (const auto& b : values) {
      for (const char* function : {"instr", "trim", "ltrim", "rtrim"}) {
        const std::string call = std::string(function) + "(" + a + ", " + b + ")";
        INFO(call);
        CHECK(ours.value(call) == sqlite.value(call));
      }
      for (const char* c : {"NULL", "''", "'zz'", "'a'", "7", "x'41'"}) {
        const std::string call = "replace(" + a + ", " + b + ", " + c + ")";
        INFO(call);
        CHECK(ours.value(call) == sqlite.value(call));
      }
    }
  }
  for (const std::string text : {"", "a", "aab", "baab", "xaax", "äöä", "abc abc", "\xf0\x9f\x98\x80"}) {
    for (const std::string pattern : {"a", "a*", "a+", "(a)(b)?", "", "^a", "a$", "\\b", "(ä)", ".", "x|"}) {
      for (const std::string rewrite : {"", "-", "<\\0>", "\\0\\0", "\\\\"}) {
        std::string expected = text;
        re2::RE2::GlobalReplace(&expected, re2::RE2(pattern), rewrite);
        INFO("'" + text + "' '" + pattern + "' '" + rewrite + "' " + expected);
        CHECK(ours.value("regexp_replace('" + text + "', '" + pattern + "', '" + rewrite + "')") == "3:" + expected);
      }
    }
  }
}

}  // namespace kontor::tools
