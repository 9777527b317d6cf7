#pragma once
// A model behind an OpenAI-compatible HTTP API (vLLM, SGLang, llama.cpp's server). Kontor renders the prompt and parses
// the output itself, so it asks for completions of texts (/completions), not for chats. There are no token ids: nothing
// is constrained while the server decodes, and what it says is checked when it is there.

#include "inference/text_model.hpp"

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

namespace kontor::inference::remote {

/// One request below the endpoint's address.
struct Exchange {
  std::string path;          ///< "/completions"
  std::string body;          ///< JSON to POST; empty: GET.
  std::stop_token stop;
};
struct AnswerHead {
  int status = 0;
  std::string content_type;  ///< As it came.
};
/// Sends it. `on_head` sees the beginning of the answer, `on_piece` each piece of its body; both return false to end
/// there, which is no error. Called by several threads at the same time.
/// Errors: io (kind refused: nothing was sent; kind closed), timeout, denied (airgap), cancelled, and others of the network.
using Transport = std::function<Result<void>(const Exchange&, const std::function<bool(const AnswerHead&)>& on_head,
                                             const std::function<bool(std::string_view piece)>& on_piece)>;

struct EndpointOptions {
  std::string address;       ///< For messages: "http://vllm:8000/v1".
  std::string host;          ///< For ModelInfo::device.
  std::string model;         ///< What the server calls it.
  std::string key;           ///< To keep it out of messages; the transport is who sends it. "" where there is none.
  std::int64_t context = 0;  ///< Limit of the agent file; 0: what the server says.
  int tries = 4;             ///< Of a request that did not reach the server, or that it was too busy for.
  int first_wait_ms = 500;   ///< Doubled after each.
};

/// Asks the server for its models, and for one token to see that it completes texts and whether it begins them itself.
/// The prompt format follows from the name of the model, or of what it was loaded from. generate() may be called by
/// several threads at the same time. A request that does not reach the server, or that it has no time for, is sent
/// again, but not once text has come. A text that the server ends before `max_tokens` is an error (context_full).
/// Errors: those of the transport, not_found (kind endpoint: no such model, the message lists what there is; nothing at
/// this address), denied (kind endpoint: the key), unsupported (kind dialect: the name tells no known family),
/// malformed (kind endpoint), io (kind endpoint: the server's own errors).
Result<std::unique_ptr<TextModel>> open_endpoint(EndpointOptions options, Transport transport);

/// A model whose server embeds texts (/embeddings); it generates nothing. The server is asked for its models, and for
/// vectors when they are needed. Errors of opening: as open_endpoint, without dialect. Errors of embed(): those of
/// open_endpoint; limit (kind context_full) for a text that is too long, malformed (kind endpoint) for what is no vector.
Result<std::unique_ptr<TextModel>> open_endpoint_embeddings(EndpointOptions options, Transport transport);

}  // namespace kontor::inference::remote
