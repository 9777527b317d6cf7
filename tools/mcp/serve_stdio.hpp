#pragma once
// A server on its standard streams.

#include "tools/mcp/dispatcher.hpp"

namespace kontor::tools::mcp {

/// Serves until the input ends, the output breaks or it is asked to stop; requests that are at work are then cancelled.
/// Nobody else may write to `output`.
Result<void> serve_stdio(Dispatcher& dispatcher, int input, int output, const std::stop_token& stop);

}  // namespace kontor::tools::mcp
