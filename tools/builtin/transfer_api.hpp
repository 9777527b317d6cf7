#pragma once
// libcurl, loaded with the first request: linking it would bring twenty other libraries into every start of the program.
// Internal to tools/builtin/transfer*.

#include "base/error.hpp"

#define CURL_DISABLE_TYPECHECK  // Its macros would stand in the way of calls through pointers.
#include <curl/curl.h>

#include <functional>
#include <optional>
#include <string>

namespace kontor::tools {

/// The functions of libcurl that are used here.
struct CurlApi {
  bool ready = false;
  decltype(&curl_global_init) global_init = nullptr;
  decltype(&curl_easy_init) easy_init = nullptr;
  decltype(&curl_easy_cleanup) easy_cleanup = nullptr;
  decltype(&curl_easy_setopt) easy_setopt = nullptr;
  decltype(&curl_easy_getinfo) easy_getinfo = nullptr;
  decltype(&curl_easy_perform) easy_perform = nullptr;
  decltype(&curl_easy_strerror) easy_strerror = nullptr;
  decltype(&curl_slist_append) slist_append = nullptr;
  decltype(&curl_slist_free_all) slist_free_all = nullptr;
  decltype(&curl_url) url = nullptr;
  decltype(&curl_url_cleanup) url_cleanup = nullptr;
  decltype(&curl_url_get) url_get = nullptr;
  decltype(&curl_url_set) url_set = nullptr;
  decltype(&curl_free) free = nullptr;

  CurlApi();
};

/// Loads the library at the first call; never unloaded.
const CurlApi& curl_api();

/// What to install when curl_api() is not ready.
Error no_curl();

/// Once in this process, before the first transfer. Errors: internal.
Result<void> start_curl();

/// Says which addresses may be connected to; an error refuses one.
using PermitAddress = std::function<Result<void>(const std::string& address)>;

/// The socket for an address that `permit` allows, else CURL_SOCKET_BAD and the reason in `error`.
curl_socket_t permitted_socket(const curl_sockaddr& address, const PermitAddress& permit, std::optional<Error>& error);

/// What every transfer sets: verified TLS 1.2 or newer, no proxy, no signals. `ca_file` "" is the system's.
void set_common(CURL* curl, const std::string& ca_file, long timeout_ms);

}  // namespace kontor::tools
