// builtin.mail: drafts as message files, and messages handed to the mail server that the agent file names.

#include "base/hash.hpp"
#include "tools/base64.hpp"
#include "tools/builtin/confined.hpp"
#include "tools/builtin/file_writer.hpp"
#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"
#include "tools/builtin/mail_message.hpp"
#include "tools/builtin/private_address.hpp"
#include "tools/builtin/transfer_mail.hpp"

#include <algorithm>
#include <memory>

namespace kontor::tools {
namespace {

struct Post {
  std::string group;
  Mailbox from;
  std::vector<std::string> recipients;  ///< Lower case: domains, "*.domain", whole addresses.
  std::vector<Root> roots;
  std::vector<std::string> hidden;
  std::unique_ptr<FileWriter> drafts;   ///< Null: no folder is set.
  Root draft_folder;
  MailTransfer server;                  ///< Host "": none is set.
  std::size_t max_bytes = 0;
  Egress egress;
  const Clock* clock = nullptr;
};

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return text;
}

Error wrong(const std::string& group, const std::string& what) { return fail(Errc::usage, "tools." + group + "." + what, "tool_settings"); }

Result<std::vector<Mailbox>> boxes(const Json& arguments, const char* key) {
  std::vector<Mailbox> out;
  if (!arguments.contains(key)) return out;
  for (std::size_t i = 0; i < arguments[key].size(); ++i) {
    auto box = Mailbox::parse(arguments[key][i].get<std::string>());
    if (!box) return fail(Errc::usage, "argument '" + std::string(key) + "[" + std::to_string(i) + "]': " + box.error().message, "mail_address");
    out.push_back(std::move(*box));
  }
  return out;
}

/// The message that the arguments describe. Errors: usage, and those of reading attachments.
Result<MailMessage> message_of(const Post& post, const Json& arguments, const CallContext& context) {
  MailMessage message;
  message.from = post.from;
  auto to = boxes(arguments, "to");
  if (!to) return to.error();
  auto cc = boxes(arguments, "cc");
  if (!cc) return cc.error();
  message.to = std::move(*to);
  message.cc = std::move(*cc);
  if (arguments.contains("reply_to")) {
    auto box = Mailbox::parse(arguments["reply_to"].get<std::string>());
    if (!box) return fail(Errc::usage, "argument 'reply_to': " + box.error().message, "mail_address");
    message.reply_to.push_back(std::move(*box));
  }
  message.subject = arguments["subject"].get<std::string>();
  message.text = arguments["text"].get<std::string>();
  if (arguments.contains("html")) message.html = arguments["html"].get<std::string>();
  std::size_t bytes = message.text.size() + message.html.size();
  if (arguments.contains("attachments")) {
    for (const auto& item : arguments["attachments"]) {
      const std::string path = item.get<std::string>();
      auto file = open_for_reading(post.roots, post.hidden, path);
      if (!file) return file.error();
      auto content = read_all(file->fd(), path, post.max_bytes);
      if (!content) return content.error();
      bytes += content->size();
      if (bytes > post.max_bytes) break;
      message.attachments.push_back({path.substr(path.rfind('/') + 1), std::move(*content)});
    }
  }
  if (bytes > post.max_bytes) return fail(Errc::limit, "the message is longer than " + std::to_string(post.max_bytes) + " bytes (setting max_bytes)", "limit");
  // The key is the same when the call is repeated, so servers and readers can tell a copy.
  message.message_id = (context.idempotency_key.empty() ? random_text(16) : sha256_hex(context.idempotency_key).substr(0, 32)) + "@" + post.from.domain();
  message.unix_ms = post.clock->unix_ms();
  return message;
}

/// The earlier draft when it differs by nothing but its first line, the date: then the call was made before.
std::string as_before(const Post& post, const std::string& path, std::string text) {
  auto file = open_for_reading({post.draft_folder}, {}, path);
  if (!file) return text;
  auto before = read_all(file->fd(), path, text.size() + 100);
  if (!before || before->find('\n') == std::string::npos) return text;
  return before->substr(before->find('\n')) == text.substr(text.find('\n')) ? *before : text;
}

ToolResult draft(const Post& post, const Json& arguments, const CallContext& context) {
  if (!post.drafts) return ToolResult::error("denied", "no folder for drafts is set; add `write: ./drafts` to tools." + post.group + " in the agent file");
  const std::string path = arguments["path"].get<std::string>();
  if (!path.ends_with(".eml")) return ToolResult::error("invalid_arguments", "argument 'path': a draft is a .eml file");
  const auto message = message_of(post, arguments, context);
  if (!message) return error_result(message.error());
  auto text = message->encoded();
  if (!text) return error_result(text.error());
  *text = as_before(post, path, std::move(*text));
  ToolResult written = post.drafts->write(Json{{"path", path}, {"text", *text}}, context);
  if (written.is_error) return written;
  return ToolResult::ok(Json{{"path", path}, {"bytes", written.value["bytes"]}, {"sha256", written.value["sha256"]}, {"message_id", message->message_id}});
}

bool allows(const Post& post, const Mailbox& box) {
  const std::string domain = box.domain(), address = lower(box.address);
  return std::any_of(post.recipients.begin(), post.recipients.end(), [&](const std::string& pattern) {
    if (pattern.starts_with("*.")) return domain.size() > pattern.size() - 1 && domain.ends_with(pattern.substr(1));
    return pattern == (pattern.find('@') == std::string::npos ? domain : address);
  });
}

ToolResult send(const Post& post, const Json& arguments, const CallContext& context) {
  if (post.server.host.empty()) return ToolResult::error("denied", "no mail server is set; add `server: mail.example.com` to tools." + post.group + " in the agent file");
  const auto message = message_of(post, arguments, context);
  if (!message) return error_result(message.error());
  MailTransfer mail = post.server;
  for (const auto* list : {&message->to, &message->cc}) {
    for (const auto& box : *list) {
      if (!allows(post, box)) return ToolResult::error("denied", box.address + " is not among the allowed recipients (setting `recipients` of tools." + post.group + "); nothing was sent");
      if (std::find(mail.recipients.begin(), mail.recipients.end(), box.address) == mail.recipients.end()) mail.recipients.push_back(box.address);
    }
  }
  // Answers quote what was sent, so they may go where the message itself may, or to the sender's own house.
  for (const auto& box : message->reply_to) {
    if (!allows(post, box) && box.domain() != post.from.domain())
      return ToolResult::error("denied", "argument 'reply_to': " + box.address + " is neither of the sender's domain nor among the allowed recipients (setting `recipients` of tools." + post.group + "); nothing was sent");
  }
  auto text = message->encoded();
  if (!text) return error_result(text.error());
  mail.message = std::move(*text);
  mail.from = post.from.address;
  mail.greeting = post.from.domain();
  if (auto permitted = post.egress.permit_name(mail.host, mail.host, mail.port); !permitted) return error_result(permitted.error());
  mail.permit = [&](const std::string& address) -> Result<void> {
    if (auto permitted = post.egress.permit_address(mail.host, mail.host, address, mail.port); !permitted) return permitted.error();
    if (mail.tls == MailTls::none && !is_loopback_address(address)) return fail(Errc::denied, address + " is not on this machine: `tls: none` is for servers that are", "denied");
    return {};
  };
  auto sent = send_mail(mail, context.stop);
  if (!sent) return error_result(sent.error());
  return ToolResult::ok(Json{{"message_id", message->message_id}, {"recipients", mail.recipients}, {"bytes", mail.message.size()}, {"answer", *sent}});
}

ToolSpec mail_spec(const std::string& group, bool sends) {
  ToolSpec spec;
  spec.name = group + (sends ? ".send" : ".draft");
  spec.description = sends ? "Sends a mail message." : "Writes a mail message as a draft file (.eml) that a person can open and send.";
  const std::string path = sends ? "" : R"("path":{"type":"string","description":"File of the draft, ending in .eml"},)";
  const std::string list = R"({"type":"array","items":{"type":"string","maxLength":500},"maxItems":100,)";
  spec.parameters = schema((R"({"type":"object","properties":{)" + path + R"("to":)" + list + R"("minItems":1,"description":"person@example.com, or Name <person@example.com>"},
    "cc":)" + list + R"("description":"As in to"},
    "reply_to":{"type":"string","maxLength":500},
    "subject":{"type":"string","maxLength":500},
    "text":{"type":"string","description":"The message as plain text"},
    "html":{"type":"string","description":"The same as HTML, beside the text"},
    "attachments":{"type":"array","items":{"type":"string"},"maxItems":20,"description":"Files below the root of the mail tool"}},
    "required":[)" + (sends ? "" : R"("path",)") + R"("to","subject","text"],"additionalProperties":false})").c_str());
  spec.result = schema(sends ? R"({"type":"object","properties":{"message_id":{"type":"string"},"recipients":{"type":"array","items":{"type":"string"}},"bytes":{"type":"integer"},"answer":{"type":"string"}},
    "required":["message_id","recipients","bytes","answer"]})"
                             : R"({"type":"object","properties":{"path":{"type":"string"},"bytes":{"type":"integer"},"sha256":{"type":"string"},"message_id":{"type":"string"}},
    "required":["path","bytes","sha256","message_id"]})");
  spec.effect = sends ? Effect::once : Effect::idempotent;
  spec.untrusted_output = sends;  // the server's words
  spec.timeout_ms = sends ? 660'000 : 30'000;
  return spec;
}

/// "host", "host:port", "[::1]:port".
Result<void> read_server(Post& post, const std::string& text) {
  const std::string_view form = "server is a host, with :PORT where it is not the usual one";
  std::string host = text, port;
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string::npos || (close + 1 < text.size() && text[close + 1] != ':')) return wrong(post.group, std::string(form));
    host = text.substr(1, close - 1);
    port = close + 1 < text.size() ? text.substr(close + 2) : "";
    if (close + 1 < text.size() && port.empty()) return wrong(post.group, std::string(form));
  } else if (const auto colon = text.find(':'); colon != std::string::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (port.empty()) return wrong(post.group, std::string(form));
  }
  const bool clean = !host.empty() && std::all_of(host.begin(), host.end(), [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '-' || c == ':'; });
  const bool digits = std::all_of(port.begin(), port.end(), [](unsigned char c) { return std::isdigit(c); });
  if (!clean || !digits || port.size() > 5) return wrong(post.group, std::string(form));
  const int number = port.empty() ? (post.server.tls == MailTls::implicit ? 465 : post.server.tls == MailTls::none ? 25 : 587) : std::stoi(port);
  if (number < 1 || number > 65535) return wrong(post.group, std::string(form));
  post.server.host = lower(host);
  post.server.port = static_cast<std::uint16_t>(number);
  return {};
}

Result<void> read_recipients(Post& post, const Json& list) {
  const std::string form = "recipients is a list of domains (example.com, *.example.com) and addresses that may be written to";
  if (!list.is_array() || list.empty()) return wrong(post.group, form);
  for (const auto& item : list) {
    if (!item.is_string()) return wrong(post.group, form);
    const std::string text = lower(item.get<std::string>());
    const std::string address = text.find('@') != std::string::npos ? text : "x@" + (text.starts_with("*.") ? text.substr(2) : text);
    if (auto parsed = Mailbox::parse(address); !parsed || parsed->address != address) return wrong(post.group, form);
    post.recipients.push_back(text);
  }
  return {};
}

Result<void> read_login(Post& post, const Json& settings) {
  const auto config = settings.find("config");
  if (config == settings.end()) return {};
  if (!config->is_object()) return wrong(post.group, "config is a mapping with user and password");
  for (const auto& [key, value] : config->items()) {
    if ((key != "user" && key != "password") || !value.is_string()) return wrong(post.group, "config is a mapping with the texts user and password");
    (key == "user" ? post.server.user : post.server.password) = value.get<std::string>();
  }
  if (post.server.user.empty() || post.server.password.empty()) return wrong(post.group, "config has to have both user and password");
  if (post.server.tls == MailTls::none) return wrong(post.group, "tls is none, and a password is not sent without TLS");
  return {};
}

}  // namespace

std::vector<ToolSpec> describe_mail(const std::string& group) { return {mail_spec(group, false), mail_spec(group, true)}; }

Result<Tools> make_mail(const std::string& group, const Json& settings, const BuiltinContext& context) {
  if (auto checked = check_settings(settings, group, {"from", "recipients", "server", "tls", "config", "root", "write", "ca_file", "timeout_ms", "max_bytes"}); !checked) return checked.error();
  auto post = std::make_shared<Post>();
  post->group = group;
  std::string texts[6];
  constexpr const char* kTexts[] = {"from", "server", "tls", "root", "write", "ca_file"};
  for (std::size_t i = 0; i < 6; ++i) {
    auto text = text_setting(settings, group, kTexts[i], i == 2 ? "starttls" : i == 3 ? "." : "");
    if (!text) return text.error();
    texts[i] = std::move(*text);
  }
  const auto& [from, server, tls, root, write, ca_file] = texts;
  if (from.empty()) return wrong(group, "from has to name the sender, for example Accounts <accounts@example.com>");
  auto sender = Mailbox::parse(from);
  if (!sender) return wrong(group, "from: " + sender.error().message);
  post->from = std::move(*sender);
  if (tls != "starttls" && tls != "implicit" && tls != "none") return wrong(group, "tls is starttls, implicit or none");
  post->server.tls = tls == "starttls" ? MailTls::starttls : tls == "implicit" ? MailTls::implicit : MailTls::none;
  if (!server.empty()) {
    if (auto read = read_server(*post, server); !read) return read.error();
    const auto recipients = settings.find("recipients");
    if (recipients == settings.end()) return wrong(group, "recipients has to name the domains or addresses that may be written to");
    if (auto read = read_recipients(*post, *recipients); !read) return read.error();
  }
  if (auto read = read_login(*post, settings); !read) return read.error();
  if (!ca_file.empty()) post->server.ca_file = make_root(context.folder, ca_file).path;
  const auto timeout = number_setting(settings, group, "timeout_ms", 60'000, 600'000), bytes = number_setting(settings, group, "max_bytes", 20 << 20, 64 << 20);
  if (!timeout) return timeout.error();
  if (!bytes) return bytes.error();
  post->server.timeout_ms = *timeout;
  post->max_bytes = static_cast<std::size_t>(*bytes);
  post->roots.push_back(make_root(context.folder, root));
  for (const auto& extra : context.read_roots) post->roots.push_back(make_root(context.folder, extra));
  if (!write.empty()) {
    post->draft_folder = make_root(context.folder, write);
    post->drafts = std::make_unique<FileWriter>(post->draft_folder);
    post->roots.push_back(post->draft_folder);
  }
  post->hidden = context.hidden;
  post->egress = context.egress;
  post->clock = context.clock != nullptr ? context.clock : &system_clock();
  Tools tools;
  for (const bool sends : {false, true})
    tools.push_back(std::make_shared<FunctionTool>(mail_spec(group, sends), [post, sends](const Json& arguments, const CallContext& call) { return sends ? send(*post, arguments, call) : draft(*post, arguments, call); }));
  return tools;
}

}  // namespace kontor::tools
