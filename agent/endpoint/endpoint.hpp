#pragma once
// The connection between an entry of `models:` with an `endpoint` and the server there.

#include "agent/spec/spec.hpp"
#include "base/error.hpp"
#include "inference/remote/endpoint_model.hpp"
#include "inference/text_model.hpp"
#include "tools/mcp/http_client.hpp"

#include <chrono>
#include <memory>
#include <string>

namespace kontor::agent {

struct EndpointConnection {
  tools::mcp::Url url;                     ///< The address below which the API is; a query is kept.
  std::string key;                         ///< Sent as bearer token; "" sends none.
  tools::Egress egress;                    ///< What may be reached.
  /// Longest silence of a server: a long prompt is computed before the first token comes.
  std::chrono::milliseconds silence = std::chrono::minutes(10);
};

/// HTTP or TLS; each exchange has a connection of its own. Redirections are not followed, so the key goes nowhere else.
inference::remote::Transport make_transport(EndpointConnection connection);

/// `spec.api_key` is the key itself, `spec.egress` what may be reached, `spec.embeds` what the
/// model is for. Errors: usage (kind url), those of open_endpoint and of the connection.
Result<std::unique_ptr<inference::TextModel>> open_endpoint_model(const ModelSpec& spec);

}  // namespace kontor::agent
