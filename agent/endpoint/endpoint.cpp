#include "agent/endpoint/endpoint.hpp"

#include <utility>

namespace kontor::agent {
namespace {

using inference::remote::AnswerHead;
using inference::remote::Exchange;

constexpr std::chrono::hours kLongest{24};
// Events with all that servers put beside a token, for the longest turns.
constexpr std::uint64_t kAnswerBytesMax = 256u << 20;

}  // namespace

inference::remote::Transport make_transport(EndpointConnection connection) {
  return [connection = std::move(connection)](const Exchange& exchange, const std::function<bool(const AnswerHead&)>& on_head,
                                              const std::function<bool(std::string_view)>& on_piece) -> Result<void> {
    tools::mcp::HttpRequest request;
    request.url = connection.url;
    std::string path = request.url.path();
    const std::string query = request.url.target.substr(path.size());
    if (path.ends_with('/')) path.pop_back();
    request.url.target = path + exchange.path + query;
    request.headers.emplace_back("Accept", exchange.body.empty() ? "application/json" : "text/event-stream, application/json");
    if (!connection.key.empty()) request.headers.emplace_back("Authorization", "Bearer " + connection.key);
    if (!exchange.body.empty()) {
      request.method = "POST";
      request.headers.emplace_back("Content-Type", "application/json");
      request.body = exchange.body;
    }
    tools::mcp::HttpLimits limits;
    limits.deadline = std::chrono::steady_clock::now() + kLongest;
    limits.stop = exchange.stop;
    limits.body_bytes = kAnswerBytesMax;
    limits.egress = connection.egress;
    limits.idle = connection.silence;
    const auto head = tools::mcp::http_stream(
        request, limits, [&](const tools::mcp::HttpHead& came) { return on_head({came.status, came.header("Content-Type")}); }, on_piece);
    if (!head) return head.error();
    return {};
  };
}

Result<std::unique_ptr<inference::TextModel>> open_endpoint_model(const ModelSpec& spec) {
  auto url = tools::mcp::parse_url(spec.endpoint);
  if (!url) return url.error();
  EndpointConnection connection;
  connection.url = *url;
  connection.key = spec.api_key;
  connection.egress = spec.egress;
  inference::remote::EndpointOptions options;
  options.address = spec.endpoint;
  while (options.address.ends_with('/')) options.address.pop_back();
  options.host = url->host;
  options.model = spec.endpoint_model;
  options.key = spec.api_key;
  options.context = spec.context;
  auto transport = make_transport(std::move(connection));
  if (spec.embeds) return inference::remote::open_endpoint_embeddings(std::move(options), std::move(transport));
  return inference::remote::open_endpoint(std::move(options), std::move(transport));
}

}  // namespace kontor::agent
