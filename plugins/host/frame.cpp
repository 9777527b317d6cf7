#include "plugins/host/frame.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace kontor::plugins {
namespace {

constexpr std::size_t kHeadBytes = 4;          // The size in front.
constexpr std::size_t kFixedBytes = 1 + 8 + 1;  // Kind, call, number of fields.
constexpr std::size_t kFieldsMax = 16;
constexpr std::size_t kReadBytes = 16u << 10;   // Enough for most messages in one system call.
constexpr std::size_t kReadBytesMax = 1u << 20;

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

Result<std::string> encode(const Frame& frame) {
  std::size_t size = kFixedBytes;
  for (const auto& field : frame.fields) size += 4 + field.size();
  if (size > kFrameBytesMax || frame.fields.size() > kFieldsMax) {
    return fail(Errc::limit, "a message to or from a plugin is longer than 64 MiB", "frame_size");
  }
  std::string out;
  out.reserve(kHeadBytes + size);
  put_number(out, size, 4);
  put_number(out, static_cast<std::uint8_t>(frame.kind), 1);
  put_number(out, frame.call, 8);
  put_number(out, frame.fields.size(), 1);
  for (const auto& field : frame.fields) {
    put_number(out, field.size(), 4);
    out += field;
  }
  return out;
}

bool send_bytes(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

Result<void> FrameReader::fill(std::size_t bytes) {
  if (at_ > 0 && (at_ == buffer_.size() || at_ > kReadBytes)) {
    buffer_.erase(0, at_);
    at_ = 0;
  }
  while (buffer_.size() - at_ < bytes) {
    const std::size_t old = buffer_.size();
    // Memory grows with what has arrived, not with what a length field claims.
    const std::size_t room = std::clamp(bytes - (old - at_), kReadBytes, kReadBytesMax);
    buffer_.resize(old + room);
    const ssize_t count = ::recv(socket_, buffer_.data() + old, room, 0);
    buffer_.resize(old + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return fail(Errc::io, "the other side closed the connection", "closed");
  }
  return {};
}

Result<Frame> FrameReader::next() {
  if (auto filled = fill(kHeadBytes); !filled) return filled.error();
  const std::size_t size = get_number(std::string_view(buffer_).substr(at_), 4);
  if (size < kFixedBytes || size > kFrameBytesMax) return garbled();
  at_ += kHeadBytes;
  if (auto filled = fill(size); !filled) return filled.error();
  std::string_view rest = std::string_view(buffer_).substr(at_, size);
  at_ += size;
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
  return frame;
}

}  // namespace kontor::plugins
