// `kontor model pull` through the binary, against a server of our own that breaks, redirects and lies.

#include "base/hash.hpp"
#include "base/json.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/http_server.hpp"

#include <nlohmann/json.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

using namespace kontor;
namespace fs = std::filesystem;

namespace {

using Server = test::HttpServer;

const auto reply = test::http_reply;

std::string whole(const std::string& body, const std::string& extra = "ETag: \"v1\"\r\n") {
  return reply("200 OK", extra + "Content-Length: " + std::to_string(body.size()) + "\r\n", body);
}

struct Outcome {
  int code = -1;
  Json json;
};

Outcome pull(const std::vector<std::string>& arguments) {
  std::string command = std::string(KONTOR_BINARY_DIR) + "/kontor model pull --json";
  for (const std::string& a : arguments) command += " '" + a + "'";
  std::FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  REQUIRE(pipe);
  std::string out;
  char part[4096];
  for (std::size_t n; (n = std::fread(part, 1, sizeof part, pipe)) > 0;) out.append(part, n);
  const int status = ::pclose(pipe);
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (const auto json = parse_json(out)) outcome.json = *json;
  return outcome;
}

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("kontor-pull-" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::string read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string some_bytes(std::size_t count) {
  std::string bytes(count, '\0');
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
  return bytes;
}

}  // namespace

TEST_CASE("a download is under its name when it is complete, with its digest") {
  const Folder folder;
  const std::string body = some_bytes(1 << 20);
  Server server([&](const std::string&) { return whole(body); });
  const Outcome done = pull({server.url("/models/a.gguf?x=1"), "-o", folder / ""});
  CHECK(done.code == 0);
  CHECK(done.json.at("sha256") == sha256_hex(body));
  CHECK(done.json.at("bytes") == body.size());
  CHECK(done.json.at("checked") == false);
  CHECK(read_all(folder / "a.gguf") == body);
  CHECK(!fs::exists(folder / "a.gguf.part"));
  CHECK(!fs::exists(folder / "a.gguf.part.json"));
  CHECK(pull({server.url("/models/a.gguf"), "-o", folder / ""}).code == 1);  // It is there already.
}

TEST_CASE("a download that breaks goes on where it was") {
  const Folder folder;
  const std::string body = some_bytes(1 << 20);
  int calls = 0;
  Server server([&](const std::string& request) {
    if (++calls == 1) {  // Half of what was promised.
      const std::string full = whole(body);
      return full.substr(0, full.size() - body.size() / 2);
    }
    const auto at = request.find("Range: bytes=");
    if (at == std::string::npos) return whole(body);
    const std::size_t first = std::stoul(request.substr(at + 13));
    return reply("206 Partial Content",
                 "ETag: \"v1\"\r\nContent-Range: bytes " + std::to_string(first) + "-" + std::to_string(body.size() - 1) + "/" + std::to_string(body.size()) +
                     "\r\nContent-Length: " + std::to_string(body.size() - first) + "\r\n",
                 body.substr(first));
  });
  const Outcome done = pull({server.url("/a.gguf"), "-o", folder / "a.gguf", "--sha256", sha256_hex(body)});
  CHECK(done.code == 0);
  CHECK(done.json.at("checked") == true);
  CHECK(read_all(folder / "a.gguf") == body);
  const auto requests = server.requests();
  REQUIRE(requests.size() == 2);
  CHECK(requests[1].find("If-Range: \"v1\"") != std::string::npos);
  CHECK(requests[1].find("Range: bytes=0-") == std::string::npos);
}

TEST_CASE("a file that changed on the server is fetched from its beginning") {
  const Folder folder;
  const std::string old_body = some_bytes(300000), new_body = std::string(400000, 'n');
  int calls = 0;
  Server server([&](const std::string&) {
    if (++calls == 1) {
      const std::string full = whole(old_body);
      return full.substr(0, full.size() - 100000);
    }
    return whole(new_body, "ETag: \"v2\"\r\n");
  });
  CHECK(pull({server.url("/a"), "-o", folder / "a"}).code == 0);
  CHECK(read_all(folder / "a") == new_body);
}

TEST_CASE("a wrong digest leaves nothing behind") {
  const Folder folder;
  Server server([&](const std::string&) { return whole("some model"); });
  CHECK(pull({server.url("/a"), "-o", folder / "a", "--sha256", std::string(64, '0')}).code == 1);
  CHECK(!fs::exists(folder / "a"));
  CHECK(!fs::exists(folder / "a.part"));
  CHECK(pull({server.url("/a"), "-o", folder / "a", "--sha256", "123"}).code == 2);
}

TEST_CASE("redirects are followed, and a hub's announced digest is checked") {
  const Folder folder;
  const std::string body = "weights";
  Server server([&](const std::string& request) {
    if (request.starts_with("GET /hub ")) return reply("302 Found", "Location: /real\r\nX-Linked-Etag: \"" + sha256_hex(body) + "\"\r\nContent-Length: 0\r\n", "");
    if (request.starts_with("GET /real ")) return whole(body);
    if (request.starts_with("GET /lie ")) return reply("302 Found", "Location: /real\r\nX-Linked-Etag: \"" + std::string(64, 'a') + "\"\r\nContent-Length: 0\r\n", "");
    if (request.starts_with("GET /loop ")) return reply("302 Found", "Location: /loop\r\nContent-Length: 0\r\n", "");
    if (request.starts_with("GET /file ")) return reply("302 Found", "Location: file:///etc/passwd\r\nContent-Length: 0\r\n", "");
    return reply("404 Not Found", "Content-Length: 0\r\n", "");
  });
  const Outcome done = pull({server.url("/hub"), "-o", folder / "a"});
  CHECK(done.code == 0);
  CHECK(done.json.at("checked") == true);
  CHECK(pull({server.url("/lie"), "-o", folder / "b"}).code == 1);
  CHECK(pull({server.url("/loop"), "-o", folder / "b"}).code == 1);
  CHECK(pull({server.url("/file"), "-o", folder / "b"}).code == 1);
  CHECK(pull({server.url("/nothing"), "-o", folder / "b"}).code == 1);
  CHECK(!fs::exists(folder / "b"));
}

TEST_CASE("without network nothing but this machine is contacted") {
  const Folder folder;
  Server server([&](const std::string& request) {
    if (request.starts_with("GET /away ")) return reply("302 Found", "Location: http://192.0.2.1/x\r\nContent-Length: 0\r\n", "");
    return whole("x");
  });
  CHECK(pull({"--airgap", server.url("/a"), "-o", folder / "a"}).code == 0);
  CHECK(pull({"--airgap", server.url("/away"), "-o", folder / "b"}).code == 1);
  CHECK(pull({"--airgap", "http://192.0.2.1/x", "-o", folder / "b"}).code == 1);
  CHECK(pull({"--airgap", "http://models.example/x", "-o", folder / "b"}).code == 1);
  for (const char* address : {"ftp://127.0.0.1/x", "http://", "http://a b/", "http://user@127.0.0.1/x", "http://127.0.0.1:0/x", "http://[::1/x"})
    CHECK(pull({address, "-o", folder / "b"}).code == 2);
}
