#include "tools/builtin/transfer_mail.hpp"

#include "tools/builtin/transfer_api.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

namespace kontor::tools {
namespace {

/// What the callbacks of one transfer share.
struct Exchange {
  const MailTransfer& mail;
  std::stop_token stop;
  std::size_t sent = 0;
  bool complete = false;           ///< libcurl took the end of the message.
  std::string last_line;           ///< Of the server.
  std::string refusal;             ///< The last line that refused something; the goodbye comes after it.
  std::optional<Error> error;
};

curl_socket_t open_socket(void* data, curlsocktype, curl_sockaddr* address) {
  auto& exchange = *static_cast<Exchange*>(data);
  return permitted_socket(*address, exchange.mail.permit, exchange.error);
}

std::size_t give(char* buffer, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::size_t wanted = std::min(size * count, exchange.mail.message.size() - exchange.sent);
  std::memcpy(buffer, exchange.mail.message.data() + exchange.sent, wanted);
  exchange.sent += wanted;
  exchange.refusal.clear();  // What comes from here on is about the message.
  exchange.complete = wanted == 0;
  return wanted;
}

std::size_t take_line(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  std::string line(data, std::min<std::size_t>(size * count, 1000));
  while (!line.empty() && static_cast<unsigned char>(line.back()) <= ' ') line.pop_back();
  std::replace_if(line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c > 0x7e; }, '?');
  if (line.starts_with('4') || line.starts_with('5')) exchange.refusal = line;
  if (!line.empty()) exchange.last_line = std::move(line);
  return size * count;
}

int keep_going(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) { return static_cast<Exchange*>(user)->stop.stop_requested() ? 1 : 0; }

struct Handle {
  CURL* curl = curl_api().easy_init();
  curl_slist* recipients = nullptr;
  ~Handle() {
    curl_api().slist_free_all(recipients);
    curl_api().easy_cleanup(curl);
  }
};

Error described(CURLcode code, const char* detail, const Exchange& exchange) {
  const std::string server = exchange.mail.host + ":" + std::to_string(exchange.mail.port);
  const std::string what = detail[0] != '\0' ? detail : curl_api().easy_strerror(code);
  if (exchange.complete && !exchange.refusal.empty()) return fail(Errc::io, server + " refused the message: " + exchange.refusal, "refused");
  if (exchange.complete) return fail(Errc::timeout, server + " has the whole message and did not say whether it took it (" + what + ")", "timeout");
  if (!exchange.refusal.empty()) return fail(Errc::io, server + ": " + exchange.refusal + " (nothing was sent)", code == CURLE_LOGIN_DENIED ? "login" : "refused");
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT: return fail(Errc::io, server + " was too slow: " + std::to_string(exchange.mail.timeout_ms) + " ms (nothing was sent)", "io");
    case CURLE_ABORTED_BY_CALLBACK: return fail(Errc::cancelled, "stopped before the message was handed over", "cancelled");
    case CURLE_COULDNT_RESOLVE_HOST: return fail(Errc::not_found, "no address for host " + exchange.mail.host, "host");
    case CURLE_LOGIN_DENIED: return fail(Errc::io, server + " refused the login", "login");
    case CURLE_USE_SSL_FAILED: return fail(Errc::io, server + " offers no TLS (STARTTLS); nothing was sent", "tls");
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE: return fail(Errc::io, "TLS with " + server + ": " + what + (what.find("wrong version number") == std::string::npos ? "" : "; the server speaks none on this port, or expects `tls: starttls`") + "; nothing was sent", "tls");
    default: return fail(Errc::io, server + ": " + what + " (nothing was sent)", "io");
  }
}

}  // namespace

Result<std::string> send_mail(const MailTransfer& mail, std::stop_token stop) {
  if (!curl_api().ready) return no_curl();
  if (auto started = start_curl(); !started) return started.error();
  Exchange exchange{mail, std::move(stop), 0, false, {}, {}, {}};
  if (exchange.stop.stop_requested()) return fail(Errc::cancelled, "stopped before the message was handed over", "cancelled");
  Handle handle;
  char detail[CURL_ERROR_SIZE] = {};
  const auto set = [&](CURLoption option, auto value) { curl_api().easy_setopt(handle.curl, option, value); };
  const bool bare = mail.host.find(':') != std::string::npos;
  const std::string url = std::string(mail.tls == MailTls::implicit ? "smtps://" : "smtp://") + (bare ? "[" + mail.host + "]" : mail.host) + ":" + std::to_string(mail.port) + "/" + mail.greeting;
  const std::string from = "<" + mail.from + ">";
  for (const auto& recipient : mail.recipients) handle.recipients = curl_api().slist_append(handle.recipients, ("<" + recipient + ">").c_str());
  set_common(handle.curl, mail.ca_file, static_cast<long>(mail.timeout_ms));
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "smtp,smtps");
  set(CURLOPT_USE_SSL, static_cast<long>(mail.tls == MailTls::none ? CURLUSESSL_NONE : CURLUSESSL_ALL));
  if (!mail.user.empty()) {
    set(CURLOPT_USERNAME, mail.user.c_str());
    set(CURLOPT_PASSWORD, mail.password.c_str());
  }
  set(CURLOPT_MAIL_FROM, from.c_str());
  set(CURLOPT_MAIL_RCPT, handle.recipients);
  set(CURLOPT_UPLOAD, 1L);
  set(CURLOPT_READFUNCTION, give);
  set(CURLOPT_READDATA, &exchange);
  set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(mail.message.size()));
  set(CURLOPT_HEADERFUNCTION, take_line);
  set(CURLOPT_HEADERDATA, &exchange);
  set(CURLOPT_WRITEFUNCTION, take_line);
  set(CURLOPT_WRITEDATA, &exchange);
  set(CURLOPT_ERRORBUFFER, detail);
  set(CURLOPT_OPENSOCKETFUNCTION, open_socket);
  set(CURLOPT_OPENSOCKETDATA, &exchange);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, keep_going);
  set(CURLOPT_XFERINFODATA, &exchange);
  const CURLcode code = curl_api().easy_perform(handle.curl);
  if (exchange.sent == mail.message.size()) exchange.complete = true;  // with a known size the end is not asked for
  long reply = 0;
  curl_api().easy_getinfo(handle.curl, CURLINFO_RESPONSE_CODE, &reply);
  if (code == CURLE_OK || (exchange.complete && reply == 250)) return exchange.last_line;
  return exchange.error ? *exchange.error : described(code, detail, exchange);
}

}  // namespace kontor::tools
