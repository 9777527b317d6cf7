#include "inference/file_mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace kontor::inference {
namespace {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

FileMapping::~FileMapping() {
  if (start_) ::munmap(start_, bytes_);
}

Result<FileMapping> FileMapping::open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (fd.get() < 0) {
    const int code = errno;
    Error error = fail_errno("open", path);
    if (code == ENOENT) error.kind = "not_found";
    if (code == EACCES || code == EPERM) {
      error.code = Errc::denied;
      error.kind = "permission_denied";
    }
    return error;
  }
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return fail_errno("stat", path);
  if (!S_ISREG(status.st_mode)) return fail(Errc::malformed, "not a regular file", "not_regular_file", path);
  FileMapping mapping;
  if (const auto size = static_cast<std::size_t>(status.st_size); size > 0) {
    void* start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (start == MAP_FAILED) {
      // Short enough for the small-string buffers, so reporting exhausted memory needs none.
      if (errno == ENOMEM) return fail(Errc::memory, "out of memory", "out_of_memory");
      return fail_errno("map", path);
    }
    mapping.start_ = start;
    mapping.bytes_ = size;
  }
  return mapping;
}

}  // namespace kontor::inference
