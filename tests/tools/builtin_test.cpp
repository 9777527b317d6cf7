#include "tests/support/catch.hpp"

#include "base/hash.hpp"
#include "tools/builtin/builtin.hpp"
#include "tools/builtin/confined.hpp"
#include "tools/builtin/decimal_sql.hpp"
#include "tools/csv.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdio.h>
#include <thread>
#include <sys/stat.h>
#include <unistd.h>

namespace kontor::tools {
namespace {

struct World {
  World() {
    static int count = 0;
    path = std::filesystem::temp_directory_path() / ("kontor-tools-" + std::to_string(getpid()) + "-" + std::to_string(count++));
    std::filesystem::create_directories(path / "data/inbox");
    std::filesystem::create_directories(path / "secret");
    context.folder = path.string();
    context.clock = &clock;
  }
  ~World() { std::filesystem::remove_all(path); }

  void put(const std::string& name, const std::string& text) const { std::ofstream(path / name, std::ios::binary) << text; }
  std::string get(const std::string& name) const {
    std::ifstream in(path / name, std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  }
  void use(const std::string& use, const std::string& group, const char* settings = "{}") {
    const auto made = make_builtin(use, group, *parse_json(settings), context);
    if (!made) FAIL(made.error().describe());
    for (const auto& tool : *made) REQUIRE(registry.add(tool).has_value());
  }
  ToolResult call(const std::string& name, const std::string& arguments, const std::string& key = "") const {
    CallContext call;
    call.idempotency_key = key;
    const auto parsed = parse_json(arguments);
    if (!parsed) FAIL(parsed.error().describe());
    return registry.call(name, *parsed, call);
  }
  Json ok(const std::string& name, const std::string& arguments, const std::string& key = "") const {
    const auto result = call(name, arguments, key);
    if (result.is_error) FAIL(result.error_kind + ": " + result.value.dump());
    return result.value;
  }
  std::string error(const std::string& name, const std::string& arguments) const {
    const auto result = call(name, arguments);
    REQUIRE(result.is_error);
    return result.error_kind + ": " + result.value["error"].get<std::string>();
  }

  std::filesystem::path path;
  ManualClock clock{1'795'512'600'250};  // 2026-11-24T09:30:00.250Z
  BuiltinContext context;
  Registry registry;
};

}  // namespace

TEST_CASE("every built-in describes functions with schemas that compile, and unknown ones are suggested", "[builtin]") {
  for (const auto& use : builtin_names()) {
    const auto specs = describe_builtin(use, "g");
    REQUIRE(specs.has_value());
    for (const auto& spec : *specs) {
      INFO(spec.name);
      REQUIRE(spec.name.starts_with("g."));
      REQUIRE(!spec.description.empty());
      REQUIRE(spec.parameters.is_object());
      REQUIRE(Schema::compile(spec.parameters).has_value());
      if (!spec.result.is_null()) REQUIRE(Schema::compile(spec.result).has_value());
    }
  }
  REQUIRE(describe_builtin("builtin.tabel", "t").error().message == "there is no built-in 'builtin.tabel' (did you mean 'builtin.table'?)");
  REQUIRE(make_builtin("builtin.files", "files", Json{{"rot", "x"}}, {}).error().message == "tools.files has no setting 'rot' (did you mean 'root'?)");
}

TEST_CASE("files are listed by name and read with their digest", "[files]") {
  World world;
  world.put("data/inbox/b.txt", "zwei");
  world.put("data/inbox/a.txt", "eins \xc3\xa4");
  world.put("data/inbox/.hidden", "x");
  world.put("data/inbox/c.csv", "x");
  world.use("builtin.files", "files", R"({"root":"./data"})");
  const Json files = world.ok("files.list", R"({"path":"inbox","pattern":"*.txt"})")["files"];
  REQUIRE(files.size() == 2);
  REQUIRE(files[0] == Json{{"path", "inbox/a.txt"}, {"name", "a.txt"}, {"sha256", sha256_hex("eins \xc3\xa4")}, {"size", 7}});
  REQUIRE(world.ok("files.list", R"({"path":"data/inbox"})")["files"].size() == 3);
  const Json read = world.ok("files.read", R"({"path":"inbox/a.txt"})");
  REQUIRE(read["text"] == "eins \xc3\xa4");
  REQUIRE(read["sha256"] == files[0]["sha256"]);
  world.put("data/mark.txt", "\xef\xbb\xbf" "a\r\n\r\nb\rc\r\n\r");
  const Json marked = world.ok("files.read", R"({"path":"mark.txt"})");
  REQUIRE(marked["text"] == "a\n\nb\rc\n\r");  // A carriage return that ends no line is text.
  REQUIRE(marked["sha256"] == sha256_hex("\xef\xbb\xbf" "a\r\n\r\nb\rc\r\n\r"));
  const std::string absolute = Json((world.path / "data/inbox").string()).dump();
  REQUIRE(world.ok("files.list", "{\"path\":" + absolute + "}")["files"][0]["path"] == (world.path / "data/inbox/a.txt").string());
  REQUIRE(world.error("files.read", R"({"path":"inbox/zz.txt"})") == "not_found: there is no file 'inbox/zz.txt'");
  REQUIRE(world.error("files.read", R"({"path":"inbox"})").starts_with("usage: 'inbox' is a folder"));
  REQUIRE(world.error("files.read", R"({"path":"inbox/b.txt","max_bytes":3})").starts_with("limit"));
  world.put("data/bad.txt", "abc\xff");
  REQUIRE(world.error("files.read", R"({"path":"bad.txt"})") == "encoding: 'bad.txt' is not UTF-8 text: byte 3 (counted from 0) does not fit");
}

TEST_CASE("no path leads out of the folders", "[files]") {
  World world;
  world.put("secret/key", "geheim");
  world.put("data/hook.key", "geheim");
  world.context.hidden = {(world.path / "data/hook.key").string()};
  std::filesystem::create_symlink("../secret/key", world.path / "data/link");
  std::filesystem::create_symlink("../secret", world.path / "data/folder");
  std::filesystem::create_symlink((world.path / "secret").string(), world.path / "data/absolute");
  std::filesystem::create_hard_link(world.path / "data/hook.key", world.path / "data/copy");
  REQUIRE(mkfifo((world.path / "data/pipe").c_str(), 0600) == 0);
  world.use("builtin.files", "files", R"({"root":"data","write":"out"})");
  for (const std::string path : {"../secret/key", "inbox/../../secret/key", "link", "folder/key", "absolute/key", "hook.key", "copy", "/etc/passwd", "pipe"}) {
    INFO(path);
    REQUIRE(world.error("files.read", Json{{"path", path}}.dump()).starts_with("denied"));
  }
  REQUIRE(world.error("files.read", R"({"path":"a\u0000b"})").starts_with("malformed"));
  REQUIRE(world.error("files.read", Json{{"path", std::string(5000, 'x')}}.dump()).starts_with("malformed"));
  for (const std::string path : {"../x.txt", "/tmp/x.txt", "a/../../x"}) REQUIRE(world.error("files.write", Json{{"path", path}, {"text", "x"}}.dump()).starts_with("denied"));
  std::filesystem::create_directories(world.path / "out");
  std::filesystem::create_symlink("../secret", world.path / "out/way");
  std::filesystem::create_symlink("../secret/key", world.path / "out/target");
  REQUIRE(world.error("files.write", R"({"path":"way/x.txt","text":"x"})").starts_with("denied"));
  REQUIRE(world.error("files.write", R"({"path":"target","text":"x"})").starts_with("denied"));
  REQUIRE(world.get("secret/key") == "geheim");
  const OpenFile folder(open((world.path / "data").c_str(), O_PATH | O_DIRECTORY));
  world.put("data/inbox/a.txt", "a");
  REQUIRE(open_beneath(folder.fd(), "inbox/a.txt", O_RDONLY, 0, true).has_value());
  for (const std::string path : {"link", "folder/key", "absolute/key"}) REQUIRE(open_beneath(folder.fd(), path, O_RDONLY, 0, true).error().code == Errc::denied);
}

TEST_CASE("a link that is swapped in while a path is walked leads nowhere", "[files]") {
  namespace fs = std::filesystem;
  World world;
  world.put("secret/key", "SECRET");
  for (const char* folder : {"data/way", "out/way"}) {
    fs::create_directories(world.path / folder);
    fs::create_symlink(world.path / "secret", std::string(world.path / folder) + ".link");
  }
  world.put("data/way/key", "public");
  world.use("builtin.files", "files", R"({"root":"data","write":"out"})");
  // The folder and the link change places all the time.
  std::jthread swapper([&](std::stop_token stop) {
    while (!stop.stop_requested()) {
      for (const char* folder : {"data/way", "out/way"}) {
        const std::string path = world.path / folder;
        renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, (path + ".link").c_str(), RENAME_EXCHANGE);
      }
    }
  });
  const OpenFile root(open((world.path / "data").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  std::size_t read = 0, refused = 0, written = 0;
  for (int i = 0; i < 2000 || (i < 50'000 && (read == 0 || refused == 0 || written == 0)); ++i) {
    const auto got = world.call("files.read", R"({"path":"way/key"})");
    if (got.is_error) ++refused;
    else {
      ++read;
      if (got.value["text"] != "public") FAIL("read through a link");
    }
    const auto walked = open_beneath(root.fd(), "way/key", O_RDONLY, 0, true);  // the way without openat2
    if (walked) {
      const auto text = read_all(walked->fd(), "key", 100);
      if (!text || *text != "public") FAIL("walked through a link");
    }
    written += world.call("files.write", R"({"path":"way/made.txt","text":"x"})").is_error ? 0 : 1;
  }
  swapper.request_stop();
  swapper.join();
  INFO(read << " read, " << refused << " refused, " << written << " written");
  CHECK(read > 0);
  CHECK(refused > 0);
  CHECK(written > 0);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(world.path / "secret")) names.push_back(entry.path().filename().string());
  CHECK(names == std::vector<std::string>{"key"});
  CHECK(world.get("secret/key") == "SECRET");
}

TEST_CASE("inputs of the agent file can be read beside the root", "[files]") {
  World world;
  world.put("secret/in.txt", "input");
  world.put("one.txt", "one");
  world.context.read_roots = {(world.path / "secret").string(), (world.path / "one.txt").string()};
  world.use("builtin.files", "files", R"({"root":"data"})");
  REQUIRE(world.ok("files.read", R"({"path":"secret/in.txt"})")["text"] == "input");
  REQUIRE(world.ok("files.read", R"({"path":"one.txt"})")["text"] == "one");
  REQUIRE(world.ok("files.read", Json{{"path", (world.path / "one.txt").string()}}.dump())["text"] == "one");
  REQUIRE(world.error("files.read", Json{{"path", (world.path / "two.txt").string()}}.dump()).starts_with("denied"));
}

TEST_CASE("rows become CSV with columns as they first appear", "[files]") {
  World world;
  world.use("builtin.files", "files", R"({"root":"data","write":"./out"})");
  const char* rows = R"({"path":"out/decisions.csv","rows":[{"file":"a.txt","n":1.50},{"n":7,"why":"say \"no\", twice","file":"b.txt","x":null,"l":[1,"a"]}]})";
  const Json result = world.ok("files.write", rows);
  const std::string expected = "file,n,why,x,l\na.txt,1.5,,,\nb.txt,7,\"say \"\"no\"\", twice\",,\"[1,\"\"a\"\"]\"\n";
  REQUIRE(world.get("out/decisions.csv") == expected);
  REQUIRE(result["rows"] == 2);
  REQUIRE(result["bytes"] == expected.size());
  world.ok("files.write", R"({"path":"decisions.csv","columns":["b","a"],"rows":[{"a":1,"b":true,"c":3}]})");
  REQUIRE(world.get("out/decisions.csv") == "b,a\ntrue,1\n");
  world.ok("files.write", R"({"path":"deep/er/x.jsonl","rows":[{"a":1},{"a":"ä"}]})");
  REQUIRE(world.get("out/deep/er/x.jsonl") == "{\"a\":1}\n{\"a\":\"\xc3\xa4\"}\n");
  world.ok("files.write", R"({"path":"x.json","rows":[]})");
  REQUIRE(world.get("out/x.json") == "[]\n");
  world.ok("files.write", R"({"path":"note.md","text":"hello"})");
  REQUIRE(world.ok("files.read", R"({"path":"out/note.md"})")["text"] == "hello");
  REQUIRE(world.error("files.write", R"({"path":"a.txt","rows":[]})").starts_with("usage"));
  REQUIRE(world.error("files.write", R"({"path":"a.txt"})") == "invalid_arguments: missing property 'text', 'rows' or 'value'");
  REQUIRE(world.error("files.write", R"({"path":"a.csv","text":"","rows":[]})").starts_with("invalid_arguments"));
  for (const auto& entry : std::filesystem::directory_iterator(world.path / "out")) REQUIRE(!entry.path().filename().string().starts_with(".kontor-"));
}

TEST_CASE("without a folder for results nothing is written, and the error says what to add", "[files]") {
  World world;
  world.use("builtin.files", "files", R"({"root":"data"})");
  REQUIRE(world.error("files.write", R"({"path":"a.txt","text":"x"})").find("write: ./out") != std::string::npos);
}

TEST_CASE("appending with a key happens once for that key", "[files]") {
  World world;
  world.use("builtin.files", "files", R"({"write":"out"})");
  const std::string one = R"({"path":"log.csv","rows":[{"a":1}],"append":true})";
  world.ok("files.write", one, "run/1");
  world.ok("files.write", one, "run/1");
  world.ok("files.write", one, "run/2");
  world.ok("files.write", one, "run/1");
  REQUIRE(world.get("out/log.csv") == "a\n1\n1\n");
  REQUIRE(world.error("files.write", R"({"path":"log.csv","rows":[{"b":1}],"append":true})") == "usage: the file has no column 'b'");
}

TEST_CASE("CSV reads quotes and line breaks, and errors have line and column", "[csv]") {
  const auto table = parse_csv("\xef\xbb\xbf" "a,b\r\n\"x, \"\"y\"\"\nz\",\n\n1,2");
  REQUIRE(table.has_value());
  REQUIRE(table->columns == std::vector<std::string>{"a", "b"});
  REQUIRE(table->rows == std::vector<std::vector<std::string>>{{"x, \"y\"\nz", ""}, {"1", "2"}});
  const auto where = [](std::string_view text) { return parse_csv(text).error().where; };
  REQUIRE(where("a,b\n1,\"open\n2") == "2:3");
  REQUIRE(where("a,b\n1,x\"y") == "2:4");
  REQUIRE(where("a,b\n1,\"x\"y") == "2:6");
  REQUIRE(where("a,b\n1,2\n1") == "3:1");
  REQUIRE(where("a,a\n") == "1:1");
  REQUIRE(where("") == "1:1");
  REQUIRE(where("a,\n") == "1:1");
  std::string out;
  append_csv_record(out, {"", "a;b", "c,d"}, ';');
  append_csv_record(out, {""});
  REQUIRE(out == ";\"a;b\";c,d\n\"\"\n");
}

TEST_CASE("CSV files of spreadsheets that separate by semicolons are read and continued as such", "[csv][table]") {
  REQUIRE(csv_separator("a;b\n1,5;2") == ';');
  REQUIRE(csv_separator("\"a,x\";b\n") == ';');
  for (const char* commas : {"", "a", "a,b", "a;b,c", "\"a;b\"", "a\n1;2", "a,b;c"}) REQUIRE(csv_separator(commas) == ',');
  World world;
  std::filesystem::create_directories(world.path / "out");
  world.use("builtin.table", "table", R"({"root":"data"})");
  world.use("builtin.files", "files", R"({"write":"out"})");
  world.put("data/stock.csv", "\xef\xbb\xbf" "sku;price;min\r\nA1;3,20;50\r\nB2;1.002,10;7\r\n");
  REQUIRE(world.ok("table.query", R"q({"sql": "SELECT sku, dec_sum(replace(replace(price, '.', ''), ',', '.')) AS price, min + 1 AS more FROM stock GROUP BY sku", "files": {"stock": "stock.csv"}})q").at("rows").dump() ==
          R"([{"sku":"A1","price":"3.20","more":51},{"sku":"B2","price":"1002.10","more":8}])");
  world.put("out/log.csv", "a;b\n1,5;2\n");
  world.ok("files.write", R"({"path":"log.csv","rows":[{"b":"x,y","a":"p;q"}],"append":true})", "run/1");
  REQUIRE(world.get("out/log.csv") == "a;b\n1,5;2\n\"p;q\";x,y\n");
}

TEST_CASE("tables are queried with exact decimals", "[table]") {
  World world;
  world.put("data/orders.csv", "id,region,amount,qty\n1,North,0.10,3\n2,North,0.20,1\n3,South,4800.00,10\n4,South,9.5,2\n007,West,,5\n");
  world.put("data/vendors.json", R"([{"region":"North","manager":"Mia","active":true,"rate":0.19},{"region":"South","manager":"Jon","tags":["a"]}])");
  world.use("builtin.table", "table", R"({"root":"data"})");
  const auto rows = [&](const std::string& sql, const std::string& rest = "") {
    return world.ok("table.query", Json{{"sql", sql}, {"files", {{"orders", "orders.csv"}, {"vendors", "vendors.json"}}}}.dump().insert(1, rest))["rows"].dump();
  };
  REQUIRE(rows("SELECT dec_sum(amount) AS total FROM orders WHERE region='North'") == R"([{"total":"0.30"}])");
  REQUIRE(rows("SELECT sum(amount) AS total FROM orders WHERE region='North'") == R"([{"total":0.3}])");
  REQUIRE(rows("SELECT region FROM orders GROUP BY region HAVING dec_sum(amount) > 5000").size() == 2);
  REQUIRE(rows("SELECT region FROM orders GROUP BY region HAVING dec_sum(amount) > 4809.4") == R"([{"region":"South"}])");
  REQUIRE(rows("SELECT region FROM orders GROUP BY region HAVING sum(amount) > 5000") == "[]");
  REQUIRE(rows("SELECT id FROM orders WHERE amount > 9.5 ORDER BY id") == R"([{"id":"3"}])");
  REQUIRE(rows("SELECT id FROM orders WHERE amount = 4800") == R"([{"id":"3"}])");
  REQUIRE(rows("SELECT id, amount FROM orders WHERE amount IS NOT NULL ORDER BY amount DESC LIMIT 2") == R"([{"id":"3","amount":"4800.00"},{"id":"4","amount":"9.5"}])");
  REQUIRE(rows("SELECT max(amount) AS m, sum(qty) AS q FROM orders") == R"([{"m":"4800.00","q":21}])");
  REQUIRE(rows("SELECT dec_round(dec_mul(amount, qty), 2) AS v FROM orders WHERE id='1'") == R"([{"v":"0.30"}])");
  REQUIRE(rows("SELECT dec_avg(amount) AS a FROM orders WHERE region='North'") == R"([{"a":"0.15"}])");
  REQUIRE(rows("SELECT manager, active FROM vendors WHERE rate > 0.18") == R"([{"manager":"Mia","active":"true"}])");
  REQUIRE(rows("SELECT t FROM (SELECT region, dec_sum(amount) AS t FROM orders GROUP BY region) WHERE t > 100") == R"([{"t":"4809.50"}])");
  REQUIRE(rows("SELECT id, dec_sum(amount) OVER (ORDER BY id) AS run FROM orders WHERE region='North'") == R"([{"id":"1","run":"0.10"},{"id":"2","run":"0.30"}])");
  REQUIRE(rows("SELECT dec_sum(amount) FILTER (WHERE qty > 1) AS f FROM orders WHERE region='North'") == R"([{"f":"0.10"}])");
  REQUIRE(rows("SELECT dec_sum(amount) FROM orders WHERE region='North'") == R"j([{"dec_sum(amount)":"0.30"}])j");
  REQUIRE(rows("SELECT id FROM orders WHERE region = ? AND amount > ?", R"("params":["South",100],)") == R"([{"id":"3"}])");
  REQUIRE(rows("SELECT 'dec_sum(' AS text, 1+1 AS n, 0.1+0.2 AS r, NULL AS e") == R"([{"text":"dec_sum(","n":2,"r":0.3,"e":null}])");
}

TEST_CASE("a query can neither write nor run away", "[table]") {
  World world;
  world.put("data/t.csv", "a\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
  world.put("data/bad.csv", "a,b\n1\n");
  world.use("builtin.table", "table", R"({"root":"data","timeout_ms":300,"max_rows":1000,"memory_mb":64})");
  const auto error = [&](const std::string& sql) { return world.error("table.query", Json{{"sql", sql}, {"files", {{"t", "t.csv"}}}}.dump()); };
  for (const std::string sql : {"DELETE FROM t", "INSERT INTO t VALUES (1)", "CREATE TABLE x(a)", "ATTACH 'x.db' AS x", "PRAGMA user_version", "DROP TABLE t",
                                "SELECT 1; SELECT 2", "VACUUM", "BEGIN", "SELECT load_extension('x')", "SELECT * FROM pragma_table_info('t')", "WITH x AS (SELECT 1) UPDATE t SET a=2",
                                "SELECT randomblob(1000000000)"}) {
    INFO(sql);
    REQUIRE(error(sql).starts_with("denied"));
  }
  REQUIRE(error("SELECT t.a FROM t, t b, t c, t d").starts_with("limit: more than 1000 rows"));
  REQUIRE(error("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c").starts_with("timeout"));
  REQUIRE(error("SELECT count(*) FROM t a,t b,t c,t d,t e,t f,t g,t h,t i,t j").starts_with("timeout"));
  REQUIRE(error("SELECT b FROM t").find("no such column: b") != std::string::npos);
  REQUIRE(error("SELECT a FROM tt") == "malformed: SQL: no such table: tt (did you mean 't'?)");
  REQUIRE(error("SELEC 1").starts_with("malformed: SQL"));
  REQUIRE(error("SELECT sum('x')").find("'x' is not a number") != std::string::npos);
  REQUIRE(error("SELECT a, a FROM t").find("name one with AS") != std::string::npos);
  REQUIRE(world.error("table.query", R"({"sql":"SELECT 1","files":{"t":"bad.csv"}})") == "malformed: bad.csv:2:1: expected 2 cells, got 1");
  REQUIRE(world.error("table.query", R"({"sql":"SELECT 1","files":{"t":"../x.csv"}})").starts_with("denied"));
  REQUIRE(world.error("table.query", R"({"sql":"SELECT 1","files":{"1t":"t.csv"}})").starts_with("invalid_arguments"));
}

TEST_CASE("decimal functions are wrapped wherever they stand, and unwrapped in names", "[table]") {
  const std::string sql = "SELECT dec_sum (dec_mul(a, b)) FILTER (WHERE x > ')') OVER w, 'dec_sum(x)', \"dec_avg(\" -- dec_sum(\n FROM t";
  const auto wrapped = with_decimal_affinity(sql);
  REQUIRE(wrapped == "SELECT (CAST(dec_sum ((CAST(dec_mul(a, b) AS TEXT) COLLATE decimal)) FILTER (WHERE x > ')') OVER w AS TEXT) COLLATE decimal), "
                     "'dec_sum(x)', \"dec_avg(\" -- dec_sum(\n FROM t");
  REQUIRE(without_decimal_affinity(wrapped) == sql);
  for (const std::string broken : {"dec_sum(", "dec_sum", "dec_sum)))", "'", "\"", "[", "/*", "dec_sum(x) over", "dec_sum(x) filter", "--", ""}) with_decimal_affinity(broken);
}

TEST_CASE("the calculator is exact and says where an expression is wrong", "[math]") {
  World world;
  world.use("builtin.math", "math");
  const auto text = [&](const std::string& expression) { return world.ok("math.eval", Json{{"expression", expression}}.dump())["text"].get<std::string>(); };
  REQUIRE(text("0.1 + 0.2") == "0.3");
  REQUIRE(text("1250.00 * 0.19") == "237.5000");
  REQUIRE(text("round(1250.00 * 0.19, 2)") == "237.50");
  REQUIRE(text("-(2 + 3) * -4 - -1") == "21");
  REQUIRE(text("2 - 3 - 4") == "-5");
  REQUIRE(text("100 / 8 / 2") == "6.25");
  REQUIRE(text("sum(1, 2.5, max(3, 4), min(1, -1))") == "6.5");
  REQUIRE(text("avg(1, 2)") == "1.5");
  REQUIRE(text("pow(1.1, 3)") == "1.331");
  REQUIRE(text("7 % 3 + -7 % 3") == "0");
  REQUIRE(text("abs(-3)") == "3");
  REQUIRE(text("round(2.5)") == "2");
  REQUIRE(text("1.5e3") == "1500");
  REQUIRE(world.ok("math.eval", R"({"expression":"1/3"})")["exact"] == false);
  REQUIRE(world.ok("math.eval", R"({"expression":"1/8"})")["value"] == 0.125);
  const auto error = [&](const std::string& expression) { return world.error("math.eval", Json{{"expression", expression}}.dump()); };
  REQUIRE(error("1 / 0") == "malformed: column 3: division by zero");
  REQUIRE(error("2 +") == "malformed: column 4: expected a number, found the end");
  REQUIRE(error("(1 + 2") == "malformed: column 1: this parenthesis is never closed");
  REQUIRE(error("1 + 2)") == "malformed: column 6: this ')' has no opening parenthesis");
  REQUIRE(error("rond(1)") == "malformed: column 1: unknown name 'rond' (did you mean 'round'?)");
  REQUIRE(error("1 2").find("expected an operator") != std::string::npos);
  REQUIRE(error("sum()").find("sum needs at least one number") != std::string::npos);
  REQUIRE(error("(1, 2)").find("comma outside") != std::string::npos);
  REQUIRE(error(std::string(3000, '(')).find("nested deeper") != std::string::npos);
  REQUIRE(error(std::string(3000, '-') + "1").find("nested deeper") != std::string::npos);
  REQUIRE(error("pow(9, 100)").starts_with("malformed"));
}

TEST_CASE("time knows zones, calendars and daylight saving", "[time]") {
  World world;
  world.use("builtin.time", "time");
  const auto time = [&](const std::string& function, const Json& arguments) { return world.ok("time." + function, arguments.dump())["time"].get<std::string>(); };
  REQUIRE(time("now", Json::object()) == "2026-11-24T09:30:00.250Z");
  REQUIRE(time("now", {{"zone", "+05:30"}}) == "2026-11-24T15:00:00.250+05:30");
  REQUIRE(world.ok("time.parse", R"({"time":"2026-11-24"})")["weekday"] == "Tuesday");
  REQUIRE(world.ok("time.parse", R"({"time":"1970-01-01T01:00:00+01:00"})")["unix"] == 0);
  REQUIRE(time("add", {{"time", "2026-01-31T10:00:00Z"}, {"months", 1}}) == "2026-02-28T10:00:00Z");
  REQUIRE(time("add", {{"time", "2024-02-29"}, {"years", 1}, {"days", -1}}) == "2025-02-27T00:00:00Z");
  REQUIRE(world.error("time.parse", R"({"time":"2026-02-30"})").starts_with("malformed"));
  REQUIRE(world.error("time.parse", R"({"time":"2026-01-01","zone":"Europe/Berlni"})").starts_with("not_found"));
  REQUIRE(world.error("time.parse", R"({"time":"2026-01-01","zone":"../../etc/passwd"})").starts_with("not_found"));
  REQUIRE(world.error("time.add", R"({"time":"9999-12-31","days":1})").starts_with("limit"));
  if (!std::filesystem::exists("/usr/share/zoneinfo/Europe/Berlin")) return;
  REQUIRE(time("parse", {{"time", "2026-07-01 12:00"}, {"zone", "Europe/Berlin"}}) == "2026-07-01T12:00:00+02:00");
  REQUIRE(time("parse", {{"time", "2026-12-01 12:00"}, {"zone", "Europe/Berlin"}}) == "2026-12-01T12:00:00+01:00");
  REQUIRE(time("parse", {{"time", "2060-07-01 12:00"}, {"zone", "Europe/Berlin"}}) == "2060-07-01T12:00:00+02:00");
  REQUIRE(time("parse", {{"time", "2026-01-15 12:00"}, {"zone", "Australia/Sydney"}}) == "2026-01-15T12:00:00+11:00");
  REQUIRE(time("parse", {{"time", "2050-01-15 12:00"}, {"zone", "Australia/Sydney"}}) == "2050-01-15T12:00:00+11:00");
  REQUIRE(time("parse", {{"time", "2026-03-29 02:30"}, {"zone", "Europe/Berlin"}}) == "2026-03-29T03:30:00+02:00");  // Skipped.
  REQUIRE(time("parse", {{"time", "2026-10-25 02:30"}, {"zone", "Europe/Berlin"}}) == "2026-10-25T02:30:00+02:00");  // Twice: the first.
  REQUIRE(time("add", {{"time", "2026-03-28 12:00"}, {"zone", "Europe/Berlin"}, {"days", 1}}) == "2026-03-29T12:00:00+02:00");
  REQUIRE(time("add", {{"time", "2026-03-28 12:00"}, {"zone", "Europe/Berlin"}, {"hours", 24}}) == "2026-03-29T13:00:00+02:00");
}

TEST_CASE("memory tools use the store they are given and never call a model's text trusted", "[memory]") {
  struct Fake final : MemoryAccess {
    Result<std::int64_t> remember(const std::string& space, const std::string& text, const std::string&, const Labels& labels) override {
      facts.push_back({static_cast<std::int64_t>(facts.size()) + 1, text, space, !labels.untrusted, labels.secret, 0, 0});
      return facts.back().id;
    }
    Result<std::vector<MemoryFact>> recall(const std::string&, const std::string&, std::size_t limit) override {
      return std::vector<MemoryFact>(facts.begin(), facts.begin() + static_cast<std::ptrdiff_t>(std::min(limit, facts.size())));
    }
    Result<std::vector<MemoryFact>> list(const std::string& space, std::size_t limit) override { return recall(space, "", limit); }
    Result<bool> forget(const std::string&, std::int64_t id) override { return id == 1; }
    std::vector<MemoryFact> facts;
  };
  World world;
  REQUIRE(!make_builtin("builtin.memory", "memory", Json::object(), world.context));
  const auto fake = std::make_shared<Fake>();
  world.context.memory = fake;
  world.use("builtin.memory", "memory", R"({"namespace":"invoices"})");
  REQUIRE(world.ok("memory.remember", R"({"text":"a fact"})")["id"] == 1);
  REQUIRE(fake->facts[0].source == "invoices");
  REQUIRE(!fake->facts[0].trusted);
  REQUIRE(world.ok("memory.recall", R"({"query":"fact"})")["facts"][0]["text"] == "a fact");
  REQUIRE(world.ok("memory.list", "{}")["facts"].size() == 1);
  REQUIRE(world.ok("memory.forget", R"({"id":2})")["forgotten"] == false);

  // What a secret had influence on is a secret fact, and so is what holds it.
  REQUIRE(!world.ok("memory.list", "{}")["facts"][0].contains("secret"));
  CallContext secret;
  secret.labels.secret = true;
  REQUIRE(!world.registry.call("memory.remember", {{"text", "the balance is 12"}}, secret).is_error);
  REQUIRE(fake->facts[1].secret);
  const auto one = world.registry.call("memory.recall", {{"query", "fact"}, {"limit", 1}}, {});
  REQUIRE(one.labels == Labels{true, false});
  const auto both = world.registry.call("memory.list", {{"limit", 2}}, {});
  REQUIRE(both.labels == Labels{true, true});
  REQUIRE(both.value["facts"][1]["secret"] == true);
}

}  // namespace kontor::tools
