#include "tests/support/catch.hpp"
#include "tests/tools/local_server.hpp"
#include "tools/builtin/builtin.hpp"
#include "tools/builtin/mail_message.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace kontor::tools {
namespace {

namespace fs = std::filesystem;

/// What the server does at a point of the exchange, to be told apart from a server that works.
struct Habits {
  bool starttls = true;
  bool silent_after_message = false;
  std::string refuse_recipient, after_message = "250 2.0.0 queued as 7";
};

/// A mail server on 127.0.0.1: SMTP with STARTTLS and AUTH PLAIN or LOGIN.
class MailServer {
 public:
  MailServer(const std::string& certificate, Habits habits) : habits_(std::move(habits)), tls_(make_tls(certificate, "IP:127.0.0.1")) {
    socket_ = listen_here(port);
    thread_ = std::jthread([this] {
      for (int client = 0; (client = accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0; close(client)) serve(client);
    });
  }
  ~MailServer() {
    shutdown(socket_, SHUT_RDWR);
    thread_.join();
    close(socket_);
    SSL_CTX_free(tls_);
  }
  std::vector<std::string> lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }
  /// Lines that begin so, beginning cut off; "TLS " before what came over TLS.
  std::vector<std::string> seen(const std::string& begin) const {
    std::vector<std::string> out;
    for (const auto& line : lines())
      if (line.starts_with(begin)) out.push_back(line.substr(begin.size()));
    return out;
  }
  std::string message() const {
    const std::lock_guard lock(mutex_);
    return message_;
  }
  int port = 0;

 private:
  bool read_line(int client, SSL* ssl, std::string& buffer, std::string& line) {
    for (;;) {
      const auto end = buffer.find("\r\n");
      if (end != std::string::npos) {
        line = buffer.substr(0, end);
        buffer.erase(0, end + 2);
        return true;
      }
      char data[4096];
      const ssize_t count = ssl ? SSL_read(ssl, data, sizeof data) : recv(client, data, sizeof data, 0);
      if (count <= 0) return false;
      buffer.append(data, static_cast<std::size_t>(count));
    }
  }
  void serve(int client) {
    const timeval patience{5, 0};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    SSL* ssl = nullptr;
    std::string buffer, line;
    const auto say = [&](const std::string& text) {
      const std::string out = text + "\r\n";
      if (ssl) SSL_write(ssl, out.data(), static_cast<int>(out.size()));
      else (void)!send(client, out.data(), out.size(), MSG_NOSIGNAL);
    };
    say("220 mail.test ESMTP");
    while (read_line(client, ssl, buffer, line)) {
      {
        const std::lock_guard lock(mutex_);
        lines_.push_back((ssl ? "TLS " : "") + line);
      }
      if (line.starts_with("EHLO")) say(ssl ? "250-mail.test\r\n250 AUTH PLAIN" : habits_.starttls ? "250-mail.test\r\n250 STARTTLS" : "250 mail.test");
      else if (line == "STARTTLS") {
        say("220 go ahead");
        ssl = SSL_new(tls_);
        SSL_set_fd(ssl, client);
        if (SSL_accept(ssl) != 1) break;
      } else if (line.starts_with("AUTH PLAIN")) {
        if (line == "AUTH PLAIN") {
          say("334 ");
          if (!read_line(client, ssl, buffer, line)) break;
          const std::lock_guard lock(mutex_);
          lines_.push_back("LOGIN " + line);
          line = "AUTH PLAIN " + line;
        }
        say(line.ends_with(" AGNsZXJrAHMzY3JldA==") ? "235 ok" : "535 5.7.8 wrong password");  // \0clerk\0s3cret
      } else if (line.starts_with("RCPT TO:") && !habits_.refuse_recipient.empty() && line.find(habits_.refuse_recipient) != std::string::npos) say("550 5.1.1 no such person");
      else if (line == "DATA") {
        say("354 end with a dot");
        std::string message;
        while (read_line(client, ssl, buffer, line) && line != ".") message += (line.starts_with("..") ? line.substr(1) : line) + "\r\n";
        {
          const std::lock_guard lock(mutex_);
          message_ = message;
        }
        if (habits_.silent_after_message) {
          (void)!read_line(client, ssl, buffer, line);
          break;
        }
        say(habits_.after_message);
      } else if (line == "QUIT") {
        say("221 bye");
        break;
      } else say(line.starts_with("MAIL") || line.starts_with("RCPT") || line.starts_with("RSET") || line.starts_with("HELO") ? "250 ok" : "502 what?");
    }
    if (ssl) SSL_free(ssl);
  }

  Habits habits_;
  SSL_CTX* tls_;
  int socket_ = -1;
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
  std::string message_;
  std::jthread thread_;
};

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct World {
  World() {
    folder = fs::temp_directory_path() / ("kontor-mail-" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder / "data");
    context.folder = folder.string();
  }
  ~World() { fs::remove_all(folder); }
  std::string certificate() const { return (folder / "ca.pem").string(); }
  Json settings(const MailServer& server) const {
    return {{"from", "Accounts <accounts@shop.example>"}, {"recipients", {"partner.example", "*.sub.example", "one@other.example"}}, {"server", "127.0.0.1:" + std::to_string(server.port)},
            {"ca_file", "ca.pem"}, {"config", {{"user", "clerk"}, {"password", "s3cret"}}}, {"root", "data"}, {"timeout_ms", 3000}};
  }
  void use(const std::string& group, const Json& settings) {
    const auto made = make_builtin("builtin.mail", group, settings, context);
    if (!made) FAIL(made.error().describe());
    for (const auto& tool : *made) REQUIRE(registry.add(tool).has_value());
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

Json letter(const std::string& to = "person@partner.example") { return {{"to", {to}}, {"subject", "Hello"}, {"text", "First line\n.\nlast line"}}; }

}  // namespace

TEST_CASE("mail.send logs in over STARTTLS and hands the message over", "[builtin]") {
  World world;
  MailServer server(world.certificate(), {});
  world.use("mail", world.settings(server));
  std::ofstream(world.folder / "data" / "bill.csv") << "a,b\n1,2\n";
  Json arguments = letter();
  arguments["cc"] = {"Zoë <zoe@x.sub.example>", "ONE@other.example"};
  arguments["attachments"] = {"bill.csv"};
  arguments["html"] = "<p>Hello</p>";
  const auto sent = world.call("mail.send", arguments);
  INFO(sent.value.dump());
  REQUIRE(!sent.is_error);
  CHECK(sent.value["answer"] == "250 2.0.0 queued as 7");
  CHECK(sent.value["recipients"] == Json({"person@partner.example", "zoe@x.sub.example", "ONE@other.example"}));
  CHECK(server.lines()[0] == "EHLO shop.example");
  CHECK(server.lines()[1] == "STARTTLS");  // nothing but the greeting goes in the clear
  CHECK(server.seen("TLS AUTH PLAIN").size() == 1);
  CHECK(server.seen("TLS MAIL FROM:")[0].starts_with("<accounts@shop.example>"));
  CHECK(server.seen("TLS RCPT TO:").size() == 3);
  const std::string text = server.message();
  INFO(text);
  for (const char* part : {"From: Accounts <accounts@shop.example>\r\n", "To: person@partner.example\r\n", "Subject: Hello\r\n", "Content-Type: multipart/mixed;", "multipart/alternative",
                           "filename*=UTF-8''bill.csv", "YSxiCjEsMgo=", "First line\r\n=2E\r\nlast line\r\n", "=?UTF-8?B?Wm/Dqw==?= <zoe@x.sub.example>"})
    CHECK(text.find(part) != std::string::npos);
  CHECK(text.find("Message-ID: <" + sent.value["message_id"].get<std::string>() + ">\r\n") != std::string::npos);
  const auto again = world.call("mail.send", arguments);
  REQUIRE(!again.is_error);
  CHECK(again.value["message_id"] == sent.value["message_id"]);  // of the call's key
  CHECK(world.registry.find("mail.send")->spec().effect == Effect::once);
}

TEST_CASE("nothing in an argument of mail becomes a header, a recipient or a command", "[builtin]") {
  World world;
  MailServer server(world.certificate(), {});
  world.use("mail", world.settings(server));
  for (const char* bad : {"a@partner.example\r\nBcc: b@evil.example", "a@partner.example>, <b@evil.example", "a@partner.example,b@evil.example", "\"a b\"@partner.example", "a@[127.0.0.1]", "a@partner.example ", "no",
                          "x <a@partner.example> <b@evil.example>", "a@b@partner.example", "a\u00e9@partner.example", "a@partner..example", "<>", "a@partner.example\n"}) {
    if (std::string(bad) == "a@partner.example ") continue;  // blanks around are cut off
    INFO(bad);
    CHECK(world.call("mail.send", letter(bad)).is_error);
  }
  for (const char* bad : {"Hello\r\nBcc: b@evil.example", "Hello\nX: y", "a\x01"}) {
    Json arguments = letter();
    arguments["subject"] = bad;
    CHECK(world.call("mail.send", arguments).is_error);
  }
  for (const char* denied : {"a@evil.example", "a@sub.example", "a@xpartner.example", "a@partner.example.evil.example", "two@other.example"}) {
    INFO(denied);
    CHECK(world.call("mail.send", letter(denied)).error_kind == "denied");
  }
  Json outside = letter();
  outside["attachments"] = {"../ca.pem"};
  CHECK(world.call("mail.send", outside).error_kind == "denied");
  for (const char* elsewhere : {"a@evil.example", "x <two@other.example>"}) {
    Json answers = letter();
    answers["reply_to"] = elsewhere;
    CHECK(world.call("mail.send", answers).error_kind == "denied");  // answers quote what was sent
    CHECK(world.call("mail.send", answers).value["error"].get<std::string>().starts_with("argument 'reply_to': "));
  }
  CHECK(server.lines().empty());  // not even a connection
  Json odd = letter();
  odd["subject"] = "=?UTF-8?Q?x?= \u00fc " + std::string(200, 'y');
  odd["text"] = std::string(3000, '.') + "\r\n.\r\nQUIT\r\n\rbare" + std::string(1, '\0');
  odd["to"] = {"\"Q\\ Public, (x)\" <person@partner.example>"};
  REQUIRE(!world.call("mail.send", odd).is_error);
  const std::string text = server.message();
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = text.find("\r\n", begin);
    REQUIRE(end - begin <= 78);
    begin = end + 2;
  }
  CHECK(std::all_of(text.begin(), text.end(), [](unsigned char c) { return (c >= 0x20 && c < 0x7f) || c == '\r' || c == '\n' || c == '\t'; }));
  CHECK(server.seen("TLS QUIT").size() == 1);
}

TEST_CASE("a server that does not do its part is an error that says whether something was sent", "[builtin]") {
  World world;
  {
    MailServer server(world.certificate(), {.starttls = false});
    world.use("clear", world.settings(server));
    const auto refused = world.call("clear.send", letter());
    INFO(refused.value.dump());
    CHECK(refused.is_error);
    CHECK(server.seen("AUTH").empty());
    CHECK(server.seen("MAIL").empty());
  }
  {
    MailServer server(world.certificate(), {.refuse_recipient = "gone@"});
    world.use("picky", world.settings(server));
    Json two = letter();
    two["cc"] = {"gone@partner.example"};
    const auto refused = world.call("picky.send", two);
    CHECK(refused.value["error"].get<std::string>().find("550 5.1.1 no such person") != std::string::npos);
    CHECK(server.message().empty());
    Json wrong = world.settings(server);
    wrong["config"]["password"] = "other";
    world.use("login", wrong);
    const auto login = world.call("login.send", letter());
    INFO(login.value.dump());
    CHECK(login.value["error"].get<std::string>().find("wrong password") != std::string::npos);
    Json strange = world.settings(server);
    strange.erase("ca_file");
    world.use("strange", strange);
    CHECK(world.call("strange.send", letter()).value["error"].get<std::string>().find("TLS with") != std::string::npos);
  }
  {
    MailServer server(world.certificate(), {.after_message = "554 5.7.1 spam"});
    world.use("spam", world.settings(server));
    const auto refused = world.call("spam.send", letter());
    CHECK(refused.error_kind == "io");
    CHECK(refused.value["error"].get<std::string>().find("refused the message: 554 5.7.1 spam") != std::string::npos);
  }
  {
    MailServer server(world.certificate(), {.silent_after_message = true});
    Json settings = world.settings(server);
    settings["timeout_ms"] = 1000;
    world.use("silent", settings);
    const auto open = world.call("silent.send", letter());
    CHECK(open.error_kind == "timeout");  // the run parks: nobody knows
    CHECK(open.value["error"].get<std::string>().find("did not say whether it took it") != std::string::npos);
    CHECK(!server.message().empty());
  }
}

TEST_CASE("mail.draft writes a message file below its folder, the same one for the same call", "[builtin]") {
  World world;
  world.use("mail", {{"from", "accounts@shop.example"}, {"write", "drafts"}, {"root", "data"}});
  Json arguments = letter("anybody@anywhere.example");
  arguments["path"] = "a/offer.eml";
  const auto written = world.call("mail.draft", arguments);
  INFO(written.value.dump());
  REQUIRE(!written.is_error);
  const std::string text = read_file(world.folder / "drafts/a/offer.eml");
  CHECK(text.size() == written.value["bytes"]);
  CHECK(text.find("\r\n\r\nFirst line\r\n") != std::string::npos);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // another date
  CHECK(world.call("mail.draft", arguments).value == written.value);
  CHECK(read_file(world.folder / "drafts/a/offer.eml") == text);
  arguments["text"] = "changed";
  CHECK(world.call("mail.draft", arguments).value["sha256"] != written.value["sha256"]);
  arguments["path"] = "../out.eml";
  CHECK(world.call("mail.draft", arguments).error_kind == "denied");
  arguments["path"] = "offer.exe";
  CHECK(world.call("mail.draft", arguments).error_kind == "invalid_arguments");
  CHECK(world.call("mail.send", letter()).error_kind == "denied");  // no server
}

TEST_CASE("the settings of mail are checked", "[builtin]") {
  BuiltinContext context;
  const auto refused = [&](Json settings) {
    settings.emplace("from", "a@b.example");
    return !make_builtin("builtin.mail", "mail", settings, context).has_value();
  };
  CHECK(!refused(Json::object()));
  CHECK(refused({{"from", "nobody"}}));
  CHECK(refused({{"server", "mail.example"}}));
  CHECK(refused({{"server", "mail.example"}, {"recipients", Json::array()}}));
  CHECK(refused({{"server", "mail.example"}, {"recipients", {"*"}}}));
  CHECK(refused({{"server", "mail.example"}, {"recipients", {"a.*.example"}}}));
  CHECK(!refused({{"server", "mail.example"}, {"recipients", {"*.b.example", "c@d.example", "e.example"}}}));
  for (const char* server : {"mail.example:", "mail.example:0", "mail.example:99999", "smtp://mail.example", "a b", "[::1", "mail.example/x", "u@h"}) CHECK(refused({{"server", server}, {"recipients", {"b.example"}}}));
  CHECK(refused({{"tls", "maybe"}}));
  CHECK(refused({{"config", {{"user", "x"}}}}));
  CHECK(refused({{"config", {{"user", "x"}, {"password", "y"}}}, {"tls", "none"}}));
  context.egress = Egress::airgap();
  const auto made = make_builtin("builtin.mail", "mail", {{"from", "a@b.example"}, {"server", "mail.example"}, {"recipients", {"b.example"}}}, context);
  REQUIRE(made.has_value());
  const auto denied = (*made)[1]->call(letter("a@b.example"), {});
  CHECK(denied.error_kind == "denied");
}

}  // namespace kontor::tools
