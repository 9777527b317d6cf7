#include "tools/mcp/event_log.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

namespace kontor::tools::mcp {
namespace {

constexpr std::size_t kMessagesMax = 2'000;          // Of one stream.
constexpr std::size_t kBytesMax = 32u << 20;
constexpr std::size_t kStreamsMax = 32;              // Of one session; the oldest that ended makes room, else the oldest.

std::optional<std::size_t> number_in(std::string_view text) {
  std::size_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::size_t EventLog::append(const std::string& message) {
  const std::lock_guard lock(mutex_);
  bytes_ += message.size();
  if (messages_.size() >= kMessagesMax || bytes_ > kBytesMax) whole_ = false;
  messages_.push_back(whole_ ? message : std::string());
  if (!whole_) {
    for (auto& kept : messages_) std::string().swap(kept);
  }
  changed_.notify_all();
  return messages_.size();
}

void EventLog::end() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

EventLog::Piece EventLog::after(std::size_t number, int wait_ms) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(wait_ms), [&] { return messages_.size() > number || ended_ || !whole_; });
  Piece piece;
  piece.whole = whole_;
  piece.ended = ended_;
  if (whole_ && number < messages_.size()) piece.messages.assign(messages_.begin() + static_cast<std::ptrdiff_t>(number), messages_.end());
  return piece;
}

EventLog::Reader::Reader(EventLog& log) : log_(log) {
  const std::lock_guard lock(log_.mutex_);
  ++log_.readers_;
}

EventLog::Reader::~Reader() {
  const std::lock_guard lock(log_.mutex_);
  --log_.readers_;
  log_.left_ = std::chrono::steady_clock::now();
}

std::chrono::milliseconds EventLog::unread(std::chrono::steady_clock::time_point since) const {
  const std::lock_guard lock(mutex_);
  if (readers_ > 0) return std::chrono::milliseconds(0);
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - std::max(since, left_));
}

bool EventLog::whole() const {
  const std::lock_guard lock(mutex_);
  return whole_;
}

bool EventLog::ended() const {
  const std::lock_guard lock(mutex_);
  return ended_;
}

std::shared_ptr<EventLog> StreamShelf::open() {
  const std::lock_guard lock(mutex_);
  if (logs_.size() >= kStreamsMax) {
    const auto ended = std::find_if(logs_.begin(), logs_.end(), [](const auto& entry) { return entry.second->ended(); });
    logs_.erase(ended == logs_.end() ? logs_.begin() : ended);
  }
  const std::size_t number = next_++;
  logs_.emplace_back(number, std::make_shared<EventLog>(number));
  return logs_.back().second;
}

StreamShelf::Place StreamShelf::find(std::string_view event_id) {
  const auto dash = event_id.find('-');
  if (dash == std::string_view::npos) return {};
  const auto stream = number_in(event_id.substr(0, dash)), number = number_in(event_id.substr(dash + 1));
  if (!stream || !number) return {};
  const std::lock_guard lock(mutex_);
  for (const auto& [key, log] : logs_) {
    if (key == *stream) return {log, *number};
  }
  return {};
}

}  // namespace kontor::tools::mcp
