#pragma once
// A server behind an address: streamable HTTP with answers as JSON or as an event stream, sessions and resumption where
// the revision has them, OAuth where the server wants it.

#include "tools/mcp/oauth.hpp"
#include "tools/mcp/transport.hpp"

namespace kontor::tools::mcp {

struct HttpSetup {
  std::string url;
  Headers headers;                         ///< Of every request. Names that begin with "oauth_" set `oauth` instead.
  Egress egress;
  std::string token_file;
  std::function<void(const std::string& url)> open_page;  ///< As in OAuthSetup.
  std::size_t message_bytes = kMessageBytesMax;
  int authorizations_max = 3;              ///< Within one request.
  int resumptions_max = 10;                ///< Of one answer.
};

/// Errors: usage (kind url, unknown_key).
Result<std::unique_ptr<Transport>> make_http_transport(HttpSetup setup);

}  // namespace kontor::tools::mcp
