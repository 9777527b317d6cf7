#include "tools/builtin/transfer_api.hpp"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <signal.h>
#include <sys/socket.h>

#include <type_traits>

namespace kontor::tools {

CurlApi::CurlApi() {
  void* library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
  if (!library) return;
  ready = true;
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
    ready = ready && function != nullptr;
  };
  find(global_init, "curl_global_init");
  find(easy_init, "curl_easy_init");
  find(easy_cleanup, "curl_easy_cleanup");
  find(easy_setopt, "curl_easy_setopt");
  find(easy_getinfo, "curl_easy_getinfo");
  find(easy_perform, "curl_easy_perform");
  find(easy_strerror, "curl_easy_strerror");
  find(slist_append, "curl_slist_append");
  find(slist_free_all, "curl_slist_free_all");
  find(url, "curl_url");
  find(url_cleanup, "curl_url_cleanup");
  find(url_get, "curl_url_get");
  find(url_set, "curl_url_set");
  find(free, "curl_free");
}

const CurlApi& curl_api() {
  static const CurlApi loaded;
  return loaded;
}

Error no_curl() {
  return fail(Errc::unsupported, "builtin.http, builtin.mail and tools of OpenAPI documents need libcurl (libcurl.so.4), which is not installed: apt-get install libcurl4", "missing_library");
}

Result<void> start_curl() {
  static const bool ready = [] {
    // Writing to a server that no longer reads must not end this process; with CURLOPT_NOSIGNAL that is for us to see to.
    struct sigaction now{};
    if (sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);
    return curl_api().global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  }();
  if (!ready) return fail(Errc::internal, "libcurl did not start", "io");
  return {};
}

curl_socket_t permitted_socket(const curl_sockaddr& address, const PermitAddress& permit, std::optional<Error>& error) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.family == AF_INET) inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&address.addr)->sin_addr, text, sizeof text);
  else if (address.family == AF_INET6) inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&address.addr)->sin6_addr, text, sizeof text);
  Result<void> allowed = text[0] == '\0' ? Result<void>(fail(Errc::denied, "an address that is not of the internet", "denied")) : Result<void>();
  if (allowed && permit) allowed = permit(text);
  if (!allowed) {
    error = allowed.error();
    return CURL_SOCKET_BAD;
  }
  return socket(address.family, address.socktype | SOCK_CLOEXEC, address.protocol);
}

void set_common(CURL* curl, const std::string& ca_file, long timeout_ms) {
  const auto set = [&](CURLoption option, auto value) { curl_api().easy_setopt(curl, option, value); };
  set(CURLOPT_PROXY, "");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_TIMEOUT_MS, timeout_ms);
  set(CURLOPT_SSL_VERIFYPEER, 1L);
  set(CURLOPT_SSL_VERIFYHOST, 2L);
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (ca_file.empty()) return;
  set(CURLOPT_CAINFO, ca_file.c_str());
  set(CURLOPT_CAPATH, static_cast<const char*>(nullptr));
}

}  // namespace kontor::tools
