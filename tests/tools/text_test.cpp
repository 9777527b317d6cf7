#include "tests/support/catch.hpp"

#include "tools/builtin/builtin.hpp"
#include "tools/builtin/child.hpp"
#include "tools/builtin/line_diff.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

namespace kontor::tools {
namespace {

struct World {
  World() {
    static int count = 0;
    path = std::filesystem::temp_directory_path() / ("kontor-text-" + std::to_string(getpid()) + "-" + std::to_string(count++));
    std::filesystem::create_directories(path / "work/sub");
    std::filesystem::create_directories(path / "out");
    context.folder = path.string();
  }
  ~World() { std::filesystem::remove_all(path); }
  void put(const std::string& name, const std::string& text) const { std::ofstream(path / name, std::ios::binary) << text; }
  void use(const std::string& use, const std::string& group, const char* settings) {
    const auto made = make_builtin(use, group, *parse_json(settings), context);
    if (!made) FAIL(made.error().describe());
    for (const auto& tool : *made) REQUIRE(registry.add(tool).has_value());
  }
  ToolResult call(const std::string& name, const Json& arguments, std::stop_token stop = {}) const {
    CallContext call;
    call.stop = std::move(stop);
    return registry.call(name, arguments, call);
  }
  Json ok(const std::string& name, const Json& arguments) const {
    const auto result = call(name, arguments);
    if (result.is_error) FAIL(result.error_kind + ": " + result.value.dump());
    return result.value;
  }
  std::string settings_error(const std::string& use, const char* settings) const {
    const auto made = make_builtin(use, "x", *parse_json(settings), context);
    return made ? "ok" : made.error().message;
  }
  std::filesystem::path path;
  BuiltinContext context;
  Registry registry;
};

/// A one-page PDF for each text, without compression.
std::string make_pdf(const std::vector<std::string>& texts) {
  std::string out = "%PDF-1.4\n";
  std::vector<std::size_t> offsets;
  const auto object = [&](const std::string& body) {
    offsets.push_back(out.size());
    out += std::to_string(offsets.size()) + " 0 obj\n" + body + "\nendobj\n";
  };
  std::string kids;
  for (std::size_t i = 0; i < texts.size(); ++i) kids += std::to_string(4 + 2 * i) + " 0 R ";
  object("<< /Type /Catalog /Pages 2 0 R >>");
  object("<< /Type /Pages /Kids [" + kids + "] /Count " + std::to_string(texts.size()) + " >>");
  object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string stream = "BT /F1 12 Tf 72 700 Td (" + texts[i] + ") Tj ET";
    object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> /Contents " + std::to_string(5 + 2 * i) + " 0 R >>");
    object("<< /Length " + std::to_string(stream.size()) + " >>\nstream\n" + stream + "\nendstream");
  }
  const std::size_t table = out.size();
  out += "xref\n0 " + std::to_string(offsets.size() + 1) + "\n0000000000 65535 f \n";
  for (const std::size_t offset : offsets) {
    char line[32];
    std::snprintf(line, sizeof line, "%010zu 00000 n \n", offset);
    out += line;
  }
  return out + "trailer << /Size " + std::to_string(offsets.size() + 1) + " /Root 1 0 R >>\nstartxref\n" + std::to_string(table) + "\n%%EOF\n";
}

bool can_confine() {
  ChildSetup setup;
  setup.program = "/bin/true";
  setup.folder = "/";
  const auto result = run_child(setup, {});
  return result || result.error().kind != "sandbox";
}

/// What a diff says when it is applied: the lines of `after`.
std::string applied(std::string_view before, std::string_view unified) {
  const auto old_lines = lines_of(before);
  std::string out;
  std::size_t at = 0;
  for (const auto line : lines_of(unified)) {
    if (line.starts_with("@@")) {
      std::size_t start = std::stoul(std::string(line.substr(4)));
      const auto comma = line.find(',', 4), space = line.find(' ', 4);
      const bool empty = comma < space && line.substr(comma + 1, 2) == "0 ";
      if (!empty) --start;
      while (at < start) out.append(old_lines[at++]).push_back('\n');
    } else {
      if (line[0] != '+') ++at;
      if (line[0] != '-') out.append(line.substr(1)).push_back('\n');
    }
  }
  while (at < old_lines.size()) out.append(old_lines[at++]).push_back('\n');
  return out;
}

}  // namespace

TEST_CASE("text.search names the line and column of what it finds", "[builtin]") {
  World world;
  world.put("work/a.txt", "one\nT\xc3\xbcr two\r\nthree two two\n");
  world.use("builtin.text", "text", R"({"root": "./work"})");
  const Json found = world.ok("text.search", {{"path", "a.txt"}, {"pattern", "two"}, {"context", 1}});
  CHECK(found["count"] == 2);
  CHECK(found["matches"][0] == Json::parse(R"({"line":2,"column":5,"text":"T\u00fcr two","before":["one"],"after":["three two two"]})"));
  CHECK(world.ok("text.search", {{"text", "a.b\naxb"}, {"pattern", "a.b"}})["count"] == 1);
  CHECK(world.ok("text.search", {{"text", "a.b\naxb"}, {"pattern", "a.b"}, {"regex", true}})["count"] == 2);
  CHECK(world.ok("text.search", {{"text", "AB\nab"}, {"pattern", "ab"}, {"ignore_case", true}, {"limit", 1}})["matches"].size() == 1);
  CHECK(world.ok("text.search", {{"text", ""}, {"pattern", "a"}})["count"] == 0);
  CHECK(world.ok("text.search", {{"text", std::string(1u << 20, 'a')}, {"pattern", "(a*)*b"}, {"regex", true}})["count"] == 0);
  CHECK(world.call("text.search", {{"pattern", "a"}}).error_kind == "invalid_arguments");
  CHECK(world.call("text.search", {{"text", "a"}, {"pattern", "("}, {"regex", true}}).error_kind == "invalid_arguments");
  CHECK(world.call("text.search", {{"path", "../secret"}, {"pattern", "a"}}).error_kind == "denied");
}

TEST_CASE("text.diff shows what changed, and applying it gives the new text", "[builtin]") {
  World world;
  world.use("builtin.text", "text", "{}");
  const Json diff = world.ok("text.diff", {{"before", "a\nb\nc\n"}, {"after", "a\nx\nc\nd\n"}, {"context", 1}});
  CHECK(diff["unified"] == "@@ -1,3 +1,4 @@\n a\n-b\n+x\n c\n+d\n");
  CHECK(diff["added"] == 2);
  CHECK(diff["removed"] == 1);
  CHECK(world.ok("text.diff", {{"before", "same"}, {"after", "same"}})["equal"] == true);
  std::mt19937 random(3);
  const auto text = [&](std::size_t most) {
    std::string out;
    for (auto n = random() % (most + 1); n > 0; --n) out += std::string(1, static_cast<char>('a' + random() % 4)) + "\n";
    return out;
  };
  for (int i = 0; i < 2000; ++i) {
    const std::string before = text(20), after = text(20);
    const LineDiff made = diff_lines(before, after, random() % 4, i % 2 == 0 ? 2000 : 3);
    REQUIRE(applied(before, made.unified) == after);
  }
  std::string left, right;
  for (int i = 0; i < 20000; ++i) {
    left += "l" + std::to_string(i) + "\n";
    right += "r" + std::to_string(i) + "\n";
  }
  const auto started = std::chrono::steady_clock::now();
  CHECK(diff_lines(left, right, 3).removed == 20000);
  CHECK(std::chrono::steady_clock::now() - started < std::chrono::seconds(20));
}

TEST_CASE("text.extract reads PDF files page by page, and says so where it cannot", "[builtin]") {
  World world;
  world.put("work/two.pdf", make_pdf({"First page", "Second page"}));
  world.put("work/broken.pdf", "%PDF-1.4\nnothing here");
  world.put("work/fake.pdf", "not a PDF");
  world.put("work/plain.txt", "plain\n");
  world.use("builtin.text", "text", R"({"root": "./work"})");
  world.use("builtin.text", "bare", R"({"root": "./work", "pdftotext": ""})");
  CHECK(world.ok("text.extract", {{"path", "plain.txt"}})["text"] == "plain\n");
  CHECK(world.call("text.extract", {{"path", "fake.pdf"}}).error_kind == "encoding");
  const auto missing = world.call("bare.extract", {{"path", "two.pdf"}});
  CHECK(missing.error_kind == "unsupported");
  CHECK(missing.value["error"].get<std::string>().find("poppler-utils") != std::string::npos);
  if (find_program("pdftotext").empty() || !can_confine()) return test::count_cases("PDF files (no pdftotext or no Landlock)", 0, 0, 1);
  const Json read = world.ok("text.extract", {{"path", "two.pdf"}});
  REQUIRE(read["pages"].size() == 2);
  CHECK(read["pages"][1]["text"].get<std::string>().find("Second page") == 0);
  CHECK(world.ok("text.extract", {{"path", "two.pdf"}, {"first_page", 2}})["pages"][0]["page"] == 2);
  const auto broken = world.call("text.extract", {{"path", "broken.pdf"}});
  CHECK(broken.error_kind == "malformed");
  CHECK(broken.value["error"].get<std::string>().find("(exit code 1): ") != std::string::npos);  // and why
  CHECK(world.call("text.extract", {{"path", "two.pdf"}, {"first_page", 2}, {"last_page", 1}}).error_kind == "invalid_arguments");
}

TEST_CASE("shell.run tells with what its result begins, in whole lines, and not for every one of them", "[builtin]") {
  World world;
  world.use("builtin.shell", "sh", R"({"commands": ["sh"], "root": "./work", "timeout_ms": 20000})");
  if (!can_confine()) return test::count_cases("shell (no Landlock)", 0, 0, 1);
  std::vector<std::string> told;
  CallContext context;
  context.partial = [&](std::string_view text) { told.emplace_back(text); };
  const Json arguments{{"argv", {"sh", "-c", "for i in 1 2 3 4; do for j in 1 2 3 4 5 6 7 8 9 10; do echo 'a \"line\" with \303\244, a\ttab and more of it'; done; sleep 0.1; done; printf 'no line'; exit 3"}}};
  const auto result = world.registry.call("sh.run", arguments, context);
  REQUIRE(!result.is_error);
  CHECK(result.value["exit_code"] == 3);
  const std::string text = spaced_json(result.value);
  REQUIRE(told.size() >= 2);
  CHECK(told.size() <= 5);
  for (const auto& part : told) CHECK(text.starts_with(part));
  CHECK(told.back().size() > told.front().size());
  CHECK(told.back().find("no line") == std::string::npos);
}

TEST_CASE("shell.run takes an argument list, and only allowed programs", "[builtin]") {
  World world;
  CHECK(world.settings_error("builtin.shell", "{}").find("commands") != std::string::npos);
  CHECK(world.settings_error("builtin.shell", R"({"commands": ["no-such-program-here"]})").find("no program") != std::string::npos);
  world.context.hidden = {(world.path / "work/key").string()};
  CHECK(world.settings_error("builtin.shell", R"({"commands": ["cat"], "root": "./work"})").find("secret") != std::string::npos);
  world.context.hidden.clear();
  world.use("builtin.shell", "sh", R"({"commands": ["cat", "echo", "sh", "sleep", "yes"], "root": "./work", "write": "./out", "timeout_ms": 3000, "max_output": 1000})");
  CHECK(world.call("sh.run", {{"argv", {"rm", "-rf", "/"}}}).error_kind == "denied");
  if (!can_confine()) return test::count_cases("shell (no Landlock)", 0, 0, 1);
  CHECK(world.ok("sh.run", {{"argv", {"echo", "$HOME", "*", "; ls"}}})["stdout"] == "$HOME * ; ls\n");
  CHECK(world.ok("sh.run", {{"argv", {"cat"}}, {"input", "from input"}})["stdout"] == "from input");
  const Json failed = world.ok("sh.run", {{"argv", {"sh", "-c", "echo no >&2; exit 3"}}});
  CHECK(failed["exit_code"] == 3);
  CHECK(failed["stderr"] == "no\n");
  const Json mixed = world.ok("sh.run", {{"argv", {"sh", "-c", "printf 'a\\377b'"}}});
  INFO(mixed.dump());
  CHECK(mixed["stdout"] == "a\xef\xbf\xbd" "b");
  CHECK(world.ok("sh.run", {{"argv", {"sh", "-c", "pwd"}}, {"folder", "sub"}})["stdout"].get<std::string>().ends_with("/work/sub\n"));
  CHECK(world.call("sh.run", {{"argv", {"echo"}}, {"folder", "../out"}}).error_kind == "denied");
  const Json much = world.ok("sh.run", {{"argv", {"sh", "-c", "yes | head -c 100000"}}});
  CHECK(much["cut"] == true);
  CHECK(much["stdout"].get<std::string>().size() == 1000);
}

TEST_CASE("a program of shell.run cannot leave its folders, reach the network or outlive its time", "[builtin]") {
  if (!can_confine()) return test::count_cases("shell (no Landlock)", 0, 0, 1);
  World world;
  world.put("secret.txt", "secret");
  world.put("work/in.txt", "in");
  world.use("builtin.shell", "sh", R"({"commands": ["sh"], "root": "./work", "write": "./out", "timeout_ms": 2000})");
  const auto exit_code = [&](const std::string& script) { return world.ok("sh.run", {{"argv", {"sh", "-c", script}}})["exit_code"].get<int>(); };
  CHECK(exit_code("cat in.txt") == 0);
  CHECK(exit_code("cat ../secret.txt") != 0);
  CHECK(exit_code("ln -s " + world.path.string() + "/secret.txt ../out/link && cat ../out/link") != 0);
  CHECK(exit_code("echo x > in.txt") != 0);
  CHECK(exit_code("echo x > /tmp/kontor-escape-" + std::to_string(getpid())) != 0);
  CHECK(exit_code("echo x > ../out/new.txt") == 0);
  CHECK(exit_code("cat /proc/" + std::to_string(getpid()) + "/environ") != 0);
  CHECK(exit_code("kill -0 1 2>/dev/null; true") == 0);

  // A server on this machine that a program may not reach.
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(bind(server, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(listen(server, 1) == 0);
  REQUIRE(getsockname(server, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  if (const std::string bash = find_program("bash"); !bash.empty()) {
    ChildSetup setup;
    setup.program = bash;
    setup.arguments = {"-c", "exec 3<>/dev/tcp/127.0.0.1/" + std::to_string(ntohs(address.sin_port))};
    setup.folder = "/";
    CHECK(run_child(setup, {})->exit_code != 0);
    setup.network = true;
    CHECK(run_child(setup, {})->exit_code == 0);
  }
  close(server);

  const auto started = std::chrono::steady_clock::now();
  CHECK(world.call("sh.run", {{"argv", {"sh", "-c", "sleep 60 & sleep 60"}}}).error_kind == "timeout");
  CHECK(world.call("sh.run", {{"argv", {"sh", "-c", "exec >&- 2>&-; sleep 60"}}}).error_kind == "timeout");
  CHECK(std::chrono::steady_clock::now() - started < std::chrono::seconds(15));
  std::stop_source stop;
  stop.request_stop();
  CHECK(world.call("sh.run", {{"argv", {"sh", "-c", "sleep 60"}}}, stop.get_token()).error_kind == "cancelled");
}

}  // namespace kontor::tools
