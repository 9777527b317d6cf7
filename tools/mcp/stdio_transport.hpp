#pragma once
// A server as a child process that reads and writes one message a line.

#include "tools/mcp/child.hpp"
#include "tools/mcp/transport.hpp"

namespace kontor::tools::mcp {

/// What a server may do before it is cut off.
struct StdioLimits {
  std::size_t message_bytes = kMessageBytesMax;
  int noise_lines = 200;              ///< Lines that are no messages, and answers to nothing.
  int unasked_messages = 100'000;     ///< Between two answers.
  std::size_t queued_requests = 64;   ///< Requests of the server that wait for us.
  std::int64_t leave_ms = 1'000;      ///< From closing its input to SIGTERM, and from there to SIGKILL.
};

/// The process starts in `start` and ends with the transport. One that breaks a limit is killed: requests then fail
/// with a message that says which. Sets SIGPIPE to be ignored when nothing else was set.
std::unique_ptr<Transport> make_stdio_transport(ChildSetup setup, const StdioLimits& limits = {});

}  // namespace kontor::tools::mcp
