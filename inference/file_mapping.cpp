#include "inference/file_mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>

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

/// The mappings that exist: start address to size.
class Mappings {
 public:
  static Mappings& all() {
    static auto* const mappings = new Mappings;  // Outlives every mapping, whatever is destroyed last at exit.
    return *mappings;
  }
  void add(const void* start, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    ranges_[reinterpret_cast<std::uintptr_t>(start)] = bytes;
  }
  void remove(const void* start) {
    const std::lock_guard lock(mutex_);
    ranges_.erase(reinterpret_cast<std::uintptr_t>(start));
  }
  bool contains(std::span<const std::byte> bytes) {
    const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
    const std::lock_guard lock(mutex_);
    const auto after = ranges_.upper_bound(begin);
    if (after == ranges_.begin()) return false;
    const auto& [start, size] = *std::prev(after);
    return begin - start <= size && bytes.size() <= size - (begin - start);
  }

 private:
  std::mutex mutex_;
  std::map<std::uintptr_t, std::size_t> ranges_;
};

}  // namespace

void advise(std::span<const std::byte> bytes, PageAdvice advice) {
  if (bytes.empty() || !Mappings::all().contains(bytes)) return;
  // Whole pages: all that are touched to read them, only those that lie inside to release them.
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const bool release = advice == PageAdvice::release;
  auto begin = reinterpret_cast<std::uintptr_t>(bytes.data()), end = begin + bytes.size();
  begin = release ? (begin + page - 1) / page * page : begin / page * page;
  end = release ? end / page * page : (end + page - 1) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, release ? MADV_DONTNEED : MADV_WILLNEED);  // A refusal costs speed only.
}

FileMapping::~FileMapping() {
  if (!start_) return;
  Mappings::all().remove(start_);
  ::munmap(start_, bytes_);
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
    Mappings::all().add(start, size);
  }
  return mapping;
}

}  // namespace kontor::inference
