#include "plugins/samples/erp/json_lines.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace erp {
namespace {

constexpr std::size_t kLineBytesMax = 1u << 20;
constexpr std::size_t kReadBytes = 1u << 16;

[[noreturn]] void refuse(const std::string& action, const std::string& path) {
  throw std::runtime_error(action + " " + path + ": " + std::strerror(errno));
}

}  // namespace

JsonLines::JsonLines(std::string path, std::function<void(const Json&)> take) : path_(std::move(path)), take_(std::move(take)) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), ignored);
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor_ < 0) refuse("open", path_);
  try {
    const Turn turn(*this);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

JsonLines::~JsonLines() { ::close(descriptor_); }

void JsonLines::read_new() {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) refuse("stat", path_);
  if (status.st_size < offset_) throw std::runtime_error(path_ + " became shorter while it was in use");
  std::string text;
  char buffer[kReadBytes];
  for (std::int64_t at = offset_; at < status.st_size;) {
    const ssize_t count = ::pread(descriptor_, buffer, sizeof buffer, at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse("read", path_);
    if (count == 0) break;
    at += count;
    text.append(buffer, static_cast<std::size_t>(count));
    std::size_t start = 0;
    for (std::size_t end = 0; (end = text.find('\n', start)) != std::string::npos; start = end + 1) {
      const Json line = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(start), text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
      if (!line.is_object()) throw std::runtime_error(path_ + ":" + std::to_string(lines_ + 1) + ": the line is damaged");
      take_(line);
      ++lines_;
      offset_ += static_cast<std::int64_t>(end - start + 1);
    }
    text.erase(0, start);
    if (text.size() > kLineBytesMax) throw std::runtime_error(path_ + ":" + std::to_string(lines_ + 1) + ": the line is longer than 1 MiB");
  }
  if (!text.empty() && ::ftruncate(descriptor_, offset_) != 0) refuse("repair", path_);
}

JsonLines::Turn::Turn(JsonLines& file) : file_(file) {
  while (::flock(file_.descriptor_, LOCK_EX) != 0) {
    if (errno != EINTR) refuse("lock", file_.path_);
  }
  try {
    file_.read_new();
  } catch (...) {
    ::flock(file_.descriptor_, LOCK_UN);
    throw;
  }
}

JsonLines::Turn::~Turn() { ::flock(file_.descriptor_, LOCK_UN); }

void JsonLines::Turn::append(const Json& line) {
  const std::string text = line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (text.size() > kLineBytesMax) throw std::runtime_error("a record is longer than 1 MiB");
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::pwrite(file_.descriptor_, text.data() + written, text.size() - written, file_.offset_ + static_cast<std::int64_t>(written));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) refuse("write", file_.path_);
    written += static_cast<std::size_t>(count);
  }
  if (::fdatasync(file_.descriptor_) != 0) refuse("sync", file_.path_);
  file_.offset_ += static_cast<std::int64_t>(text.size());
  ++file_.lines_;
  file_.take_(line);
}

}  // namespace erp
