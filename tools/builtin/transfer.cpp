#include "tools/builtin/transfer.hpp"

#include "tools/builtin/transfer_api.hpp"

#include <algorithm>
#include <optional>

namespace kontor::tools {
namespace {

constexpr std::size_t kHeadBytes = 64u << 10;

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return text;
}

struct UrlHandle {
  CURLU* url = curl_api().url();
  ~UrlHandle() { curl_api().url_cleanup(url); }
};

std::optional<std::string> part(CURLU* url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_api().url_get(url, which, &text, flags) != CURLUE_OK || text == nullptr) return std::nullopt;
  std::string out(text);
  curl_api().free(text);
  return out;
}

/// What the callbacks of one transfer share.
struct Exchange {
  const WebRequest& request;
  std::stop_token stop;
  WebAnswer answer;
  std::size_t head_bytes = 0;
  std::optional<Error> error;
};

curl_socket_t open_socket(void* data, curlsocktype, curl_sockaddr* address) {
  auto& exchange = *static_cast<Exchange*>(data);
  return permitted_socket(*address, exchange.request.permit, exchange.error);
}

std::size_t take_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  std::string_view line(data, size * count);
  exchange.head_bytes += line.size();
  if (exchange.head_bytes > kHeadBytes) {
    exchange.error = fail(Errc::limit, "the head of the answer is longer than " + std::to_string(kHeadBytes) + " bytes", "limit");
    return 0;
  }
  while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) exchange.answer.headers.clear();  // an interim answer came before
  const std::size_t colon = line.find(':');
  if (colon != std::string_view::npos && colon > 0 && !line.starts_with("HTTP/")) {
    std::string_view value = line.substr(colon + 1);
    while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
    exchange.answer.headers.emplace_back(lower(std::string(line.substr(0, colon))), std::string(value));
  }
  return size * count;
}

std::size_t take_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  if (exchange.answer.body.size() + size * count > exchange.request.body_bytes) {
    exchange.error = fail(Errc::limit, "the answer is longer than " + std::to_string(exchange.request.body_bytes) + " bytes", "limit");
    return 0;
  }
  exchange.answer.body.append(data, size * count);
  return size * count;
}

int keep_going(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) { return static_cast<Exchange*>(user)->stop.stop_requested() ? 1 : 0; }

Error described(CURLcode code, const char* detail, const WebRequest& request) {
  const std::string origin = request.address.origin();
  const std::string what = detail[0] != '\0' ? detail : curl_api().easy_strerror(code);
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT: return fail(Errc::timeout, origin + " did not answer within " + std::to_string(request.timeout_ms) + " ms", "timeout");
    case CURLE_ABORTED_BY_CALLBACK: return fail(Errc::cancelled, "stopped while waiting for " + origin, "cancelled");
    case CURLE_COULDNT_RESOLVE_HOST: return fail(Errc::not_found, "no address for host " + request.address.host(), "host");
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE: return fail(Errc::io, "TLS with " + origin + ": " + what, "tls");
    case CURLE_OUT_OF_MEMORY: return fail(Errc::limit, origin + ": a line of the answer's head is too long", "limit");  // libcurl's word for it
    default: return fail(Errc::io, origin + ": " + what, "io");
  }
}

struct Handle {
  CURL* curl = curl_api().easy_init();
  curl_slist* headers = nullptr;
  ~Handle() {
    curl_api().slist_free_all(headers);
    curl_api().easy_cleanup(curl);
  }
};

}  // namespace

Result<WebAddress> WebAddress::read(void* handle) {
  auto* url = static_cast<CURLU*>(handle);
  WebAddress out;
  const auto scheme = part(url, CURLUPART_SCHEME), host = part(url, CURLUPART_HOST), port = part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT), text = part(url, CURLUPART_URL);
  if (!scheme || !host || !port || !text || host->empty()) return fail(Errc::usage, "it is not a web address such as https://host/path", "url");
  if (*scheme != "http" && *scheme != "https") return fail(Errc::usage, "only http and https are understood, not '" + scheme->substr(0, 20) + "'", "url");
  if (part(url, CURLUPART_USER) || part(url, CURLUPART_PASSWORD)) return fail(Errc::usage, "a name or password in a web address is not allowed", "url");
  out.scheme_ = *scheme;
  out.host_ = lower(*host);
  if (out.host_.starts_with('[') && out.host_.ends_with(']')) out.host_ = out.host_.substr(1, out.host_.size() - 2);
  while (out.host_.ends_with('.')) out.host_.pop_back();
  out.port_ = static_cast<std::uint16_t>(std::stoul(*port));
  out.text_ = *text;
  return out;
}

Result<WebAddress> WebAddress::parse(const std::string& text) {
  if (!curl_api().ready) return no_curl();
  UrlHandle handle;
  if (text.find('\0') != std::string::npos || text.find("://") == std::string::npos || curl_api().url_set(handle.url, CURLUPART_URL, text.c_str(), 0) != CURLUE_OK)
    return fail(Errc::usage, std::string("it is not a web address such as https://host/path") + (text.find(' ') == std::string::npos ? "" : "; a blank in it is written %20"), "url");
  curl_api().url_set(handle.url, CURLUPART_FRAGMENT, nullptr, 0);
  return read(handle.url);
}

Result<WebAddress> WebAddress::resolved(const std::string& location) const {
  if (!curl_api().ready) return no_curl();
  UrlHandle handle;
  if (location.find('\0') != std::string::npos || curl_api().url_set(handle.url, CURLUPART_URL, text_.c_str(), 0) != CURLUE_OK || curl_api().url_set(handle.url, CURLUPART_URL, location.c_str(), 0) != CURLUE_OK)
    return fail(Errc::usage, "it is not a web address", "url");
  curl_api().url_set(handle.url, CURLUPART_FRAGMENT, nullptr, 0);
  return read(handle.url);
}

std::string WebAddress::origin() const {
  const std::string shown = host_.find(':') == std::string::npos ? host_ : "[" + host_ + "]";
  return scheme_ + "://" + shown + (port_ == (secure() ? 443 : 80) ? "" : ":" + std::to_string(port_));
}

std::string WebAnswer::header(std::string_view name) const {
  const auto found = std::find_if(headers.begin(), headers.end(), [&](const auto& header) { return header.first == name; });
  return found == headers.end() ? std::string() : found->second;
}

bool is_header(std::string_view name, std::string_view value) {
  const auto odd = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  return !name.empty() && name.find_first_of(": ;") == std::string_view::npos && std::none_of(name.begin(), name.end(), odd) && std::none_of(value.begin(), value.end(), odd);
}

Result<WebAnswer> transfer(const WebRequest& request, std::stop_token stop) {
  if (!curl_api().ready) return no_curl();
  if (auto started = start_curl(); !started) return started.error();
  Handle handle;
  Exchange exchange{request, std::move(stop), {}, 0, {}};
  if (exchange.stop.stop_requested()) return fail(Errc::cancelled, "stopped before the request", "cancelled");
  char detail[CURL_ERROR_SIZE] = {};
  for (const auto& [name, value] : request.headers) {
    if (!is_header(name, value)) return fail(Errc::usage, "header '" + name.substr(0, 40) + "' has a line break or a strange name", "header");
    handle.headers = curl_api().slist_append(handle.headers, (value.empty() ? name + ";" : name + ": " + value).c_str());
  }
  handle.headers = curl_api().slist_append(handle.headers, "Expect:");
  const auto set = [&](CURLoption option, auto value) { curl_api().easy_setopt(handle.curl, option, value); };
  set_common(handle.curl, request.ca_file, static_cast<long>(request.timeout_ms));
  set(CURLOPT_URL, request.address.text().c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_USERAGENT, "kontor");
  set(CURLOPT_HTTPHEADER, handle.headers);
  set(CURLOPT_ERRORBUFFER, detail);
  set(CURLOPT_OPENSOCKETFUNCTION, open_socket);
  set(CURLOPT_OPENSOCKETDATA, &exchange);
  set(CURLOPT_HEADERFUNCTION, take_header);
  set(CURLOPT_HEADERDATA, &exchange);
  set(CURLOPT_WRITEFUNCTION, take_body);
  set(CURLOPT_WRITEDATA, &exchange);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, keep_going);
  set(CURLOPT_XFERINFODATA, &exchange);
  if (request.method != "GET") {
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDS, request.body.data());
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    if (request.method != "POST") set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
  const CURLcode code = curl_api().easy_perform(handle.curl);
  if (code != CURLE_OK) return exchange.error ? *exchange.error : described(code, detail, request);
  long status = 0;
  curl_api().easy_getinfo(handle.curl, CURLINFO_RESPONSE_CODE, &status);
  exchange.answer.status = static_cast<int>(status);
  return std::move(exchange.answer);
}

}  // namespace kontor::tools
