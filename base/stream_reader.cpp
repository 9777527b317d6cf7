#include "base/stream_reader.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

namespace kontor {
namespace {

Error too_long(std::size_t bytes_max) {
  return fail(Errc::limit, "a message is longer than " + std::to_string(bytes_max) + " bytes", "message_size");
}

}  // namespace

Result<void> LineReader::feed(std::string_view bytes, const std::function<bool(std::string_view)>& take) {
  while (!bytes.empty()) {
    const auto end = bytes.find('\n');
    const std::string_view part = bytes.substr(0, end);
    if (line_.size() + part.size() > bytes_max_) return too_long(bytes_max_);
    if (end == std::string_view::npos) {
      line_ += part;
      return {};
    }
    bytes.remove_prefix(end + 1);
    // Most messages arrive in one piece and are not copied.
    std::string_view line = part;
    if (!line_.empty()) {
      line_ += part;
      line = line_;
    }
    if (line.ends_with('\r')) line.remove_suffix(1);
    const bool go_on = line.empty() || take(line);
    line_.clear();
    if (!go_on) return {};
  }
  return {};
}

Result<void> SseReader::feed(std::string_view bytes, const std::function<bool(SseEvent)>& take) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  for (const char c : bytes) {
    if (std::exchange(after_return_, false) && c == '\n') continue;
    if (c != '\n' && c != '\r') {
      if (line_.size() + event_.data.size() >= bytes_max_) return too_long(bytes_max_);
      line_ += c;
      continue;
    }
    after_return_ = c == '\r';
    std::string_view line = line_;
    if (std::exchange(at_start_, false) && line.starts_with(kMark)) line.remove_prefix(kMark.size());
    const bool ends_event = line.empty();
    if (!ends_event) field(line);
    line_.clear();
    if (ends_event && !flush(take)) return {};
  }
  return {};
}

void SseReader::field(std::string_view line) {
  const auto colon = line.find(':');
  if (colon == 0) return;  // A comment keeps the connection open.
  const std::string_view name = line.substr(0, colon);
  std::string_view value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (name == "data") {
    if (has_data_) event_.data += '\n';
    event_.data += value;
    has_data_ = true;
  } else if (name == "event") {
    event_.type = value;
  } else if (name == "id" && value.find('\0') == std::string_view::npos) {
    event_.id = std::string(value);
  } else if (name == "retry") {
    std::int64_t wait = 0;
    const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), wait);
    if (code == std::errc() && end == value.data() + value.size() && wait >= 0) retry_ms_ = wait;
  }
}

bool SseReader::flush(const std::function<bool(SseEvent)>& take) {
  SseEvent event = std::exchange(event_, {});
  const bool worth = std::exchange(has_data_, false) || event.id;
  if (event.type.empty()) event.type = "message";
  return !worth || take(std::move(event));
}

}  // namespace kontor
