#pragma once
// Messages out of a stream of bytes, with bounds: lines of stdio, events of an SSE answer (WHATWG HTML, section 9.2).
// Both readers take bytes as they come and hold no more than one message.

#include "base/error.hpp"

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace kontor {

/// Newline-delimited messages; a carriage return before the newline belongs to it, empty lines are left out.
class LineReader {
 public:
  explicit LineReader(std::size_t bytes_max) : bytes_max_(bytes_max) {}
  /// Calls `take` for each complete line; it returns false to stop reading.
  /// Errors: limit (kind message_size) for a longer line; the reader is of no use after it.
  Result<void> feed(std::string_view bytes, const std::function<bool(std::string_view line)>& take);
  /// The bytes behind the last newline.
  std::size_t pending_bytes() const { return line_.size(); }

 private:
  std::size_t bytes_max_;
  std::string line_;
};

struct SseEvent {
  std::string type;                    ///< "message" when the stream did not say.
  std::string data;
  std::optional<std::string> id;       ///< When the event carried one.
};

class SseReader {
 public:
  explicit SseReader(std::size_t bytes_max) : bytes_max_(bytes_max) {}
  /// Calls `take` for each event that has data, or an id; it returns false to stop reading. Errors: limit.
  Result<void> feed(std::string_view bytes, const std::function<bool(SseEvent event)>& take);
  /// The last `retry:` in milliseconds.
  std::optional<std::int64_t> retry_ms() const { return retry_ms_; }

 private:
  void field(std::string_view line);
  bool flush(const std::function<bool(SseEvent event)>& take);

  std::size_t bytes_max_;
  std::string line_;
  bool after_return_ = false;          ///< The last byte was a carriage return: a newline now belongs to it.
  bool at_start_ = true;               ///< A byte order mark may come.
  SseEvent event_;
  bool has_data_ = false;
  std::optional<std::int64_t> retry_ms_;
};

}  // namespace kontor
