#pragma once
// Messages between Kontor and a plugin's host process, over a stream socket.
//
// A frame is, in little-endian numbers: u32 size of what follows, u8 kind, u64 call, u8 number of fields, then per
// field u32 size and its bytes. Documents inside of fields are JSON text; they are not wrapped in JSON again, so that a
// large result is copied and not escaped.

#include "base/error.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::plugins {

enum class FrameKind : std::uint8_t {
  // To the host process.
  load = 1,    ///< config, data_dir, base_dir, log_path, memory bytes, name of the library, "declare", "create" or
               ///< "probe" (what the machine offers, as SandboxOffer), rules of the sandbox (permissions.hpp).
               ///< The library is descriptor kLibraryDescriptor.
  call,        ///< tool index, arguments, run_id, call_id, idempotency_key, timeout_ms
  probe,       ///< as call
  cancel,      ///< nothing; `call` says which
  quit,        ///< nothing
  // From the host process.
  ready,       ///< declaration JSON
  refused,     ///< Errc as number, kind, message
  result,      ///< JSON text
  error,       ///< error kind, message
  probed,      ///< state as number, JSON text
  progress,    ///< fraction as text, note
  // Features kontor.talk/1 and kontor.requests/1.
  request,     ///< To the host process: method, parameters, then as call from run_id on.
  answered,    ///< To the host process: "1" and answers, or "0" and the reason; JSON text.
  message,     ///< From it: level, JSON text.
  ask,         ///< From it: JSON text. The call waits for `answered`.
  content,     ///< From it: JSON text.
  // Feature kontor.partial/1.
  partial,     ///< From it: the beginning of the result's JSON text.
};

struct Frame {
  FrameKind kind{};
  std::uint64_t call = 0;
  std::vector<std::string> fields;
};

constexpr std::size_t kFrameBytesMax = 64u << 20;
constexpr int kSocketDescriptor = 3;   ///< In the host process.
constexpr int kLibraryDescriptor = 4;

/// The bytes of a frame. Errors: limit when longer than kFrameBytesMax.
Result<std::string> encode(FrameKind kind, std::uint64_t call, std::span<const std::string_view> fields);
Result<std::string> encode(const Frame& frame);
/// Writes the bytes of an encoded frame. Returns how many: all, unless the peer is gone or, where it does not read, once
/// `over` says so, which is asked every few milliseconds (empty: never).
std::size_t send_bytes(int socket, std::string_view bytes, const std::function<bool()>& over = {});

/// Frames out of bytes as they come; the bytes may be hostile.
class FrameParser {
 public:
  void feed(std::string_view bytes);
  /// The next whole frame, or nothing when bytes are missing. Errors: malformed for what is no frame; it is of no use then.
  Result<std::optional<Frame>> next();
  bool empty() const { return at_ == buffer_.size(); }

 private:
  std::string buffer_;
  std::size_t at_ = 0;
};

/// Reads frames off one socket; a short frame costs one system call. Not thread-safe.
class FrameReader {
 public:
  explicit FrameReader(int socket) : socket_(socket), scratch_(kReadBytes, '\0') {}
  /// What has been received already; as FrameParser::next.
  Result<std::optional<Frame>> buffered() { return parser_.next(); }
  bool empty() const { return parser_.empty(); }
  /// Takes what the socket holds now, up to 64 KiB, without waiting. False when the socket is empty after it.
  /// Errors: io (kind closed) at the end of the stream.
  Result<bool> receive();
  /// Blocks. Errors: those of both.
  Result<Frame> next();

 private:
  static constexpr std::size_t kReadBytes = 64u << 10;
  int socket_;
  FrameParser parser_;
  std::string scratch_;
};

}  // namespace kontor::plugins
