#pragma once
// Streams of a server that a client may take up again where they broke off (Last-Event-ID): the messages of one request,
// numbered and kept for a while. Part of the revisions with sessions, up to 2025-11-25.

#include <condition_variable>
#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools::mcp {

/// The messages of one stream. Thread-safe.
class EventLog {
 public:
  explicit EventLog(std::size_t stream) : stream_(stream) {}

  /// "STREAM-NUMBER"; event 0 is the empty one that opens the stream.
  std::string id_of(std::size_t number) const { return std::to_string(stream_) + "-" + std::to_string(number); }

  /// Returns the number of the event.
  std::size_t append(const std::string& message);
  void end();

  struct Piece {
    std::vector<std::string> messages;   ///< From number `after` + 1 on.
    bool ended = false;                  ///< There will be no others.
    bool whole = true;                   ///< False when some were too many to keep: the stream cannot be taken up any more.
  };
  /// What came after an event; waits for it at most `wait_ms`.
  Piece after(std::size_t number, int wait_ms);

  /// Somebody reads it again, until the reader is destroyed.
  class Reader {
   public:
    explicit Reader(EventLog& log);
    ~Reader();
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

   private:
    EventLog& log_;
  };
  /// For so long nobody has read it, counted from `since` on; 0 while somebody does.
  std::chrono::milliseconds unread(std::chrono::steady_clock::time_point since) const;
  bool whole() const;
  bool ended() const;

 private:
  const std::size_t stream_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> messages_;
  std::size_t bytes_ = 0;
  bool ended_ = false, whole_ = true;
  int readers_ = 0;
  std::chrono::steady_clock::time_point left_{};
};

/// The streams of one session. Thread-safe.
class StreamShelf {
 public:
  std::shared_ptr<EventLog> open();

  struct Place {
    std::shared_ptr<EventLog> log;       ///< Null for what is no event of this session, or was forgotten.
    std::size_t number = 0;
  };
  Place find(std::string_view event_id);

 private:
  std::mutex mutex_;
  std::size_t next_ = 1;
  std::deque<std::pair<std::size_t, std::shared_ptr<EventLog>>> logs_;
};

}  // namespace kontor::tools::mcp
