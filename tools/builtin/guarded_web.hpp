#pragma once
// Requests to hosts that the agent file names. The very address that a connection goes to is judged, so a name that
// changes its meaning between look-up and use (DNS rebinding) gains nothing. Each redirect is judged like a first request.

#include "tools/builtin/builtin.hpp"
#include "tools/builtin/transfer.hpp"

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kontor::tools {

/// What a group of tools may reach, from its settings.
struct Web {
  std::vector<std::string> hosts;    ///< "api.example.com", "*.example.com", either with ":8443"
  std::vector<std::pair<std::string, std::string>> headers;
  std::string ca_file;
  bool allow_private = false, plain = false;
  Egress egress;
  std::int64_t timeout_ms = 30'000;
  std::size_t body_bytes = 4u << 20;
  std::int64_t redirects = 5;
};

/// Keys of the settings that read_web takes.
inline constexpr const char* kWebSettings[] = {"hosts", "config", "private", "plain", "ca_file", "timeout_ms", "max_body", "redirects"};

/// Errors: usage, naming the setting.
Result<std::shared_ptr<Web>> read_web(const std::string& group, const Json& settings, const BuiltinContext& context);

struct GuardedAnswer {
  WebAddress address;  ///< Where redirects led to.
  WebAnswer answer;
};

/// Limits and certificates come from `web`; method, address, headers and body from `wanted`. Follows redirects. Errors:
/// those of transfer, denied, limit, malformed.
Result<GuardedAnswer> guarded_transfer(const Web& web, WebRequest wanted, std::stop_token stop);

/// Header names do not differ by case.
bool same_header(std::string_view a, std::string_view b);

/// {status, url, headers, text, json}, or the error that it is not text.
ToolResult web_result(const WebAddress& url, WebAnswer answer);

}  // namespace kontor::tools
