#include "plugins/host/frame.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace kontor::plugins {
namespace {

constexpr std::size_t kHeadBytes = 4;          // The size in front.
constexpr std::size_t kFixedBytes = 1 + 8 + 1;  // Kind, call, number of fields.
constexpr std::size_t kFieldsMax = 16;
constexpr int kSendPollMs = 20;
constexpr std::size_t kKeptBytesMax = 64u << 10;  // Of frames that were taken already.

void put_number(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

std::uint64_t get_number(std::string_view text, int bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= std::uint64_t{static_cast<unsigned char>(text[static_cast<std::size_t>(i)])} << (8 * i);
  return value;
}

Error garbled() { return fail(Errc::malformed, "the plugin's host process sent something that is not a message", "frame"); }

}  // namespace

Result<std::string> encode(FrameKind kind, std::uint64_t call, std::span<const std::string_view> fields) {
  std::size_t size = kFixedBytes;
  for (const auto& field : fields) size += 4 + field.size();
  if (size > kFrameBytesMax || fields.size() > kFieldsMax) {
    return fail(Errc::limit, "a message to or from a plugin is longer than 64 MiB", "frame_size");
  }
  std::string out;
  out.reserve(kHeadBytes + size);
  put_number(out, size, 4);
  put_number(out, static_cast<std::uint8_t>(kind), 1);
  put_number(out, call, 8);
  put_number(out, fields.size(), 1);
  for (const auto& field : fields) {
    put_number(out, field.size(), 4);
    out += field;
  }
  return out;
}

Result<std::string> encode(const Frame& frame) {
  const std::vector<std::string_view> fields(frame.fields.begin(), frame.fields.end());
  return encode(frame.kind, frame.call, fields);
}

std::size_t send_bytes(int socket, std::string_view bytes, const std::function<bool()>& over) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t sent = ::send(socket, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      done += static_cast<std::size_t>(sent);
    } else if (sent < 0 && errno == EAGAIN) {
      if (over && over()) break;
      pollfd writable{socket, POLLOUT, 0};
      ::poll(&writable, 1, kSendPollMs);
    } else if (sent == 0 || errno != EINTR) {
      break;
    }
  }
  return done;
}

void FrameParser::feed(std::string_view bytes) {
  if (empty()) {
    buffer_.clear();
    at_ = 0;
  } else if (at_ > kKeptBytesMax) {
    buffer_.erase(0, at_);
    at_ = 0;
  }
  buffer_ += bytes;  // Memory grows with what has arrived, not with what a length field claims.
}

Result<std::optional<Frame>> FrameParser::next() {
  std::string_view rest = std::string_view(buffer_).substr(at_);
  if (rest.size() < kHeadBytes) return std::optional<Frame>();
  const std::size_t size = get_number(rest, kHeadBytes);
  if (size < kFixedBytes || size > kFrameBytesMax) return garbled();
  if (rest.size() - kHeadBytes < size) return std::optional<Frame>();
  at_ += kHeadBytes + size;
  rest = rest.substr(kHeadBytes, size);
  Frame frame;
  frame.kind = static_cast<FrameKind>(get_number(rest, 1));
  frame.call = get_number(rest.substr(1), 8);
  const std::size_t fields = get_number(rest.substr(9), 1);
  rest.remove_prefix(kFixedBytes);
  if (fields > kFieldsMax) return garbled();
  for (std::size_t i = 0; i < fields; ++i) {
    if (rest.size() < 4) return garbled();
    const std::size_t length = get_number(rest, 4);
    rest.remove_prefix(4);
    if (length > rest.size()) return garbled();
    frame.fields.emplace_back(rest.substr(0, length));
    rest.remove_prefix(length);
  }
  if (!rest.empty()) return garbled();
  return std::optional<Frame>(std::move(frame));
}

Result<bool> FrameReader::receive() {
  for (;;) {
    const ssize_t count = ::recv(socket_, scratch_.data(), scratch_.size(), MSG_DONTWAIT);
    if (count > 0) {
      parser_.feed(std::string_view(scratch_.data(), static_cast<std::size_t>(count)));
      return static_cast<std::size_t>(count) == scratch_.size();
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return false;
    return fail(Errc::io, "the other side closed the connection", "closed");
  }
}

Result<Frame> FrameReader::next() {
  for (;;) {
    auto frame = parser_.next();
    if (!frame) return frame.error();
    if (*frame) return std::move(**frame);
    pollfd readable{socket_, POLLIN, 0};
    if (::poll(&readable, 1, -1) < 0 && errno != EINTR) return fail_errno("wait for", "the other side");
    if (auto received = receive(); !received) return received.error();
  }
}

}  // namespace kontor::plugins
