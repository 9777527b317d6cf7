// What people and models get wrong with the built-in tools, and what they are told.

#include "tests/support/catch.hpp"

#include "tools/builtin/builtin.hpp"
#include "tools/builtin/child.hpp"
#include "tools/builtin/line_diff.hpp"
#include "tools/builtin/optional_parts.hpp"
#include "tools/builtin/public_places.hpp"
#include "tools/nearest.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <filesystem>
#include <fstream>

namespace kontor::tools {
namespace {

struct World {
  World() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kontor-unclear-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
    context.folder = path.string();
    context.clock = &clock;
  }
  ~World() { std::filesystem::remove_all(path); }
  void put(const std::string& name, const std::string& text) const { std::ofstream(path / name, std::ios::binary) << text; }
  void use(const std::string& use, const std::string& group, const char* settings = "{}") {
    const auto made = make_builtin(use, group, *parse_json(settings), context);
    if (!made) FAIL(made.error().describe());
    for (const auto& tool : *made) REQUIRE(registry.add(tool).has_value());
  }
  /// "kind: message", or the value.
  std::string told(const std::string& name, const Json& arguments) const {
    const auto result = registry.call(name, arguments, {});
    return result.is_error ? result.error_kind + ": " + result.value["error"].get<std::string>() : result.value.dump();
  }
  Json ok(const std::string& name, const Json& arguments) const {
    const auto result = registry.call(name, arguments, {});
    if (result.is_error) FAIL(result.error_kind + ": " + result.value.dump());
    return result.value;
  }
  std::filesystem::path path;
  ManualClock clock{1'795'512'600'250};
  BuiltinContext context;
  Registry registry;
};

bool has(const std::string& text, const std::string& words) { return text.find(words) != std::string::npos; }

}  // namespace

TEST_CASE("files: near names, links in circles, names that are too long", "[files]") {
  World world;
  world.put("report.txt", "x");
  world.put("key.txt", "geheim");
  world.put(".hidden.txt", "x");
  std::filesystem::create_directories(world.path / "sub");
  world.put("sub/notes.md", "x");
  std::filesystem::create_symlink("b", world.path / "a");
  std::filesystem::create_symlink("a", world.path / "b");
  world.context.hidden = {(world.path / "key.txt").string()};
  world.use("builtin.files", "files", R"({"write":"out"})");
  const auto read = [&](const std::string& path) { return world.told("files.read", {{"path", path}}); };
  CHECK(read("Report.txt") == "not_found: there is no file 'Report.txt' (did you mean 'report.txt'?)");
  CHECK(read("sub/note.md") == "not_found: there is no file 'sub/note.md' (did you mean 'notes.md'?)");
  CHECK(read("kay.txt") == "not_found: there is no file 'kay.txt'");  // a secret's name is not told
  CHECK(read("hiden.txt") == "not_found: there is no file 'hiden.txt'");
  CHECK(read("a") == "denied: 'a' is a symbolic link that leads in a circle or is not followed here");
  CHECK(read("report.txt/x") == "not_found: 'report.txt/x': what stands for a folder in this path is none");
  CHECK(has(read(std::string(256, 'x')), "malformed: a name of more than 255 bytes in the path 'xxx"));
  CHECK(has(world.told("files.write", {{"path", std::string(256, 'x') + ".txt"}, {"text", "x"}}), "malformed: a name of more than 255 bytes"));
  CHECK(world.told("files.list", {{"path", "sbu"}}) == "not_found: there is no folder 'sbu' (did you mean 'sub'?)");
  CHECK(has(world.told("files.list", {{"path", "."}, {"pattern", "sub/*.md"}}), "invalid_arguments: argument 'pattern': it is compared with the names in one folder"));
  CHECK(has(world.told("files.list", {{"path", "."}, {"pattern", ""}}), "invalid_arguments: argument 'pattern'"));
  // A large file is refused by its size, before it is read.
  std::filesystem::resize_file(world.path / "report.txt", std::uintmax_t{1} << 40);
  CHECK(has(read("report.txt"), "limit: 'report.txt' has 1099511627776 bytes, more than 1048576 (`max_bytes`, at most 67108864)"));
}

TEST_CASE("files: listing ends when it is told to, however large a file is", "[files]") {
  World world;
  world.put("huge.bin", "x");
  std::filesystem::resize_file(world.path / "huge.bin", std::uintmax_t{1} << 40);
  world.use("builtin.files", "files");
  std::stop_source stop;
  CallContext call;
  call.stop = stop.get_token();
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    stop.request_stop();
  });
  const auto begin = std::chrono::steady_clock::now();
  CHECK(world.registry.call("files.list", {{"path", "."}}, call).error_kind == "cancelled");
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
}

TEST_CASE("text: matches are shown where they are, lines may end as on Windows", "[builtin]") {
  World world;
  world.put("long.txt", std::string(3000, 'a') + "needle" + std::string(3000, 'b') + "\n");
  world.put("pages.txt", "one\ftwo\fthree");
  world.use("builtin.text", "text");
  const Json match = world.ok("text.search", {{"path", "long.txt"}, {"pattern", "needle"}})["matches"][0];
  CHECK(match["column"] == 3001);
  CHECK(has(match["text"].get<std::string>(), "needle"));
  CHECK(match["text"].get<std::string>().starts_with("... a"));
  CHECK(match["text"].get<std::string>().ends_with("b ..."));
  const std::string wide = "\xc3\xa4";
  std::string umlauts;
  for (int i = 0; i < 1000; ++i) umlauts += wide;
  for (const std::size_t at : {0u, 99u, 500u, 999u}) {
    std::string line = umlauts;
    line.insert(at * 2, "X");
    const std::string text = world.ok("text.search", {{"text", line}, {"pattern", "X"}})["matches"][0]["text"].get<std::string>();
    CHECK(has(text, "X"));
    CHECK(Json(text).dump().size() > 0);  // no half character: dump refuses those
  }
  CHECK(world.ok("text.search", {{"text", "a\r\nb\r\n"}, {"pattern", "a$"}, {"regex", true}})["count"] == 1);
  CHECK(has(world.told("text.search", {{"text", "a\nb"}, {"pattern", "a\nb"}}), "invalid_arguments: argument 'pattern': lines are searched one by one"));
  CHECK(world.ok("text.diff", {{"before", "a"}, {"after", "a\n"}}) == Json{{"equal", false}, {"added", 1}, {"removed", 1}, {"unified", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"}});
  CHECK(world.ok("text.diff", {{"before", "a\nb"}, {"after", "c\nb"}})["unified"] == "@@ -1,2 +1,2 @@\n-a\n+c\n b\n\\ No newline at end of file\n");
  CHECK(world.ok("text.diff", {{"before", ""}, {"after", "x"}})["unified"] == "@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n");
  CHECK(world.ok("text.extract", {{"path", "pages.txt"}, {"first_page", 2}})["text"] == "two\fthree");
  CHECK(world.ok("text.extract", {{"path", "pages.txt"}, {"first_page", 2}, {"last_page", 2}})["pages"] == Json::parse(R"([{"page":2,"text":"two"}])"));
  CHECK(world.told("text.extract", {{"path", "pages.txt"}, {"first_page", 4}}) == "invalid_arguments: argument 'first_page': 'pages.txt' has 3 pages");
}

TEST_CASE("math: other notations are told how it is written here", "[math]") {
  World world;
  world.use("builtin.math", "math");
  const auto told = [&](const std::string& expression) { return world.told("math.eval", {{"expression", expression}}); };
  CHECK(has(told("2^10"), "column 2: expected an operator, found '^' (powers are written pow(a, n))"));
  CHECK(has(told("2**10"), "powers are written pow(a, n)"));
  CHECK(has(told("3 × 4"), "a product is written a * b"));
  CHECK(has(told("8 ÷ 4"), "a quotient is written a / b"));
  CHECK(has(told("−5"), "minus is written -"));
  CHECK(has(told("1.000.000"), "decimals are written with a point"));
  CHECK(has(told("1 000"), "thousands are written without a mark"));
  CHECK(has(told("1_000"), "thousands are written without a mark"));
  CHECK(has(told("19%"), "% is the remainder of a division"));
  CHECK(!has(told("2 +"), "remainder"));
  CHECK(has(told("1e1000000000"), "does not fit into 38 digits"));
  CHECK(has(told("pow(2, 1000000000)"), "whole exponent from 0 to 100"));
}

TEST_CASE("time: days that are none, and zones that are nearly one", "[time]") {
  World world;
  world.use("builtin.time", "time");
  const auto told = [&](const std::string& time) { return world.told("time.parse", {{"time", time}}); };
  for (const char* time : {"2024-02-30", "2023-02-29", "2024-13-01", "2024-01-01T24:00:00Z", "2024-01-01T10:61:00"}) {
    INFO(time);
    CHECK(told(time) == "malformed: '" + std::string(time) + "' is not in the calendar: months are 01 to 12, days end with the month, hours 00 to 23");
  }
  for (const char* time : {"01.02.2024", "yesterday", "1700000000", "24:00", "2024-W10-1"}) CHECK(has(told(time), "is not a time such as 2026-11-24T09:30:00+01:00"));
  if (!std::filesystem::exists("/usr/share/zoneinfo/Europe/Berlin")) return;
  const auto zone = [&](const std::string& name) { return world.told("time.now", {{"zone", name}}); };
  CHECK(zone("Europe/Berln") == "not_found: there is no time zone 'Europe/Berln' (did you mean 'Europe/Berlin'?)");
  CHECK(has(zone("europe/berlin"), "(did you mean 'Europe/Berlin'?)"));
  CHECK(has(zone("Berlin"), "(did you mean 'Europe/Berlin'?)"));
  CHECK(has(zone("Nowhere/At_All_Of_It"), "write UTC, +02:00 or a name such as Europe/Berlin"));
}

TEST_CASE("table: a file whose cells are separated in another way is told from one with other columns", "[table]") {
  World world;
  world.put("a.csv", "id|name\n1|x\n");
  world.put("c.csv", "id;name\n1;x\n");
  world.put("b.csv", "id\n1\n");
  world.use("builtin.table", "table");
  const auto told = [&](const char* file) { return world.told("table.query", {{"sql", "SELECT name FROM t"}, {"files", {{"t", file}}}}); };
  CHECK(has(told("a.csv"), "there are: id|name (one column: cells are separated by commas or semicolons in .csv and by tabs in .tsv)"));
  CHECK(!has(told("b.csv"), "separated"));
  CHECK(has(told("c.csv"), "\"name\":\"x\""));
  const auto query = [&](const char* sql) { return world.told("table.query", {{"sql", sql}, {"files", {{"t", "b.csv"}}}}); };
  CHECK(query("SELECT 1e308 * 10 AS x") == "malformed: the column 'x' of row 1 is too large for a number; reckon with dec_add, dec_mul and the like");
  CHECK(has(query("SELECT -1e308 * 10"), "of row 1 is too large"));
  CHECK(has(query("SELECT 1e308 AS x, NULL AS y"), "\"y\":null"));
}

TEST_CASE("shell: a folder that is a file, and the secrets of /etc", "[builtin]") {
  World world;
  world.put("a.txt", "x");
  world.use("builtin.shell", "sh", R"({"commands": ["cat", "ls"]})");
  CHECK(world.told("sh.run", {{"argv", {"ls"}}, {"folder", "a.txt"}}) == "not_found: argument 'folder': 'a.txt' is not a folder");
  ChildSetup setup;
  setup.program = find_program("cat");
  setup.folder = "/";
  setup.arguments = {"/etc/passwd"};
  const auto open = run_child(setup, {});
  if (!open && open.error().kind == "sandbox") return test::count_cases("shell (no Landlock)", 0, 0, 1);
  REQUIRE(open.has_value());
  CHECK(open->exit_code == 0);
  setup.arguments = {"/etc/shadow"};
  CHECK(run_child(setup, {})->exit_code != 0);  // as root, too
}

TEST_CASE("the parts of a folder that others may read", "[builtin]") {
  const World world;
  const auto folder = [&](const std::string& name, int mode) {
    std::filesystem::create_directories(world.path / name);
    REQUIRE(chmod((world.path / name).c_str(), static_cast<mode_t>(mode)) == 0);
  };
  const auto file = [&](const std::string& name, int mode) {
    world.put(name, "x");
    REQUIRE(chmod((world.path / name).c_str(), static_cast<mode_t>(mode)) == 0);
  };
  folder("etc", 0755);
  folder("etc/all", 0755);
  file("etc/all/x", 0644);
  const auto names = [&] {
    std::vector<std::string> list;
    for (const auto& place : public_places((world.path / "etc").string())) list.push_back(std::filesystem::path(place).lexically_relative(world.path).string());
    std::sort(list.begin(), list.end());
    return list;
  };
  CHECK(names() == std::vector<std::string>{"etc"});
  file("etc/shadow", 0640);
  folder("etc/ssl", 0755);
  folder("etc/ssl/certs", 0755);
  folder("etc/ssl/private", 0710);
  file("etc/ssl/private/key", 0644);
  file("etc/ssl/conf", 0644);
  folder("etc/listed", 0744);
  std::filesystem::create_symlink("shadow", world.path / "etc/link");
  CHECK(names() == std::vector<std::string>{"etc/all", "etc/ssl/certs", "etc/ssl/conf"});
  CHECK(public_places("/nowhere/at/all").empty());
}

TEST_CASE("near names count code points, ignore case, and cost little", "[nearest]") {
  CHECK(nearest("Gr\xc3\xb6sse", {"gr\xc3\xbcsse", "menge"}) == "gr\xc3\xbcsse");
  CHECK(nearest("read-file", {"read_file"}) == "read_file");
  CHECK(nearest("ab", {"xy"}) == "");
  CHECK(nearest("", {"a"}) == "");
  CHECK(nearest("teh", {"the", "toe"}) == "the");
  CHECK(nearest(std::string(100'000, 'a'), {std::string(100'000, 'b')}) == "");
  CHECK(edit_distance("kitten", "sitting", 5) == 3);
  CHECK(edit_distance("kitten", "sitting", 2) == 3);
}

TEST_CASE("every optional library says what it is for and which package brings it", "[builtin]") {
  const auto parts = optional_parts();
  CHECK(parts.size() == 4);
  for (const auto& part : parts) {
    INFO(part.name);
    CHECK(!part.purpose.empty());
    CHECK(!part.package.empty());
  }
}

}  // namespace kontor::tools
