#include "plugins/host/library.hpp"

#include "base/hash.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>
#include <utility>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace kontor::plugins {
namespace {

constexpr std::uint64_t kLibraryBytesMax = 512ull << 20;

/// Closes a descriptor at the end of a scope.
struct Descriptor {
  int number = -1;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  int release() { return std::exchange(number, -1); }
};

/// A mapping of a descriptor for reading.
struct View {
  void* data = MAP_FAILED;
  std::size_t size = 0;
  View(int descriptor, std::size_t bytes) : data(::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, descriptor, 0)), size(bytes) {}
  ~View() {
    if (data != MAP_FAILED) ::munmap(data, size);
  }
};

int create_memory() {
  // Kernels that forbid executable memory files accept this flag, older ones do not know it. The loader maps the file,
  // which needs no execute permission on it.
  const int sealed = ::memfd_create("kontor-plugin", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (sealed >= 0 || errno != EINVAL) return sealed;
  return ::memfd_create("kontor-plugin", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/// Copies until the end of the source; false with errno set (EFBIG over the bound).
bool copy_bytes(int from, int to, std::size_t& total) {
  char buffer[1 << 16];
  total = 0;
  for (;;) {
    const ssize_t count = ::read(from, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    if (count == 0) return true;
    total += static_cast<std::size_t>(count);
    if (total > kLibraryBytesMax) return errno = EFBIG, false;
    for (ssize_t written = 0; written < count;) {
      const ssize_t step = ::write(to, buffer + written, static_cast<std::size_t>(count - written));
      if (step < 0 && errno == EINTR) continue;
      if (step <= 0) return false;
      written += step;
    }
  }
}

#if defined(__x86_64__)
constexpr std::uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr std::uint16_t kMachine = EM_AARCH64;
#else
constexpr std::uint16_t kMachine = EM_NONE;  ///< The system's loader decides.
#endif

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

}  // namespace

Result<LibraryImage> LibraryImage::read(const std::string& path, const std::string& pin) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
  if (file.number < 0) return fail_errno("open plugin", path);
  struct stat status {};
  if (::fstat(file.number, &status) != 0) return fail_errno("stat plugin", path);
  if (!S_ISREG(status.st_mode)) return fail(Errc::malformed, "plugin " + path + " is not a regular file", "not_elf");
  Descriptor memory{create_memory()};
  if (memory.number < 0) return fail_errno("make memory for plugin", path);
  std::size_t size = 0;
  if (!copy_bytes(file.number, memory.number, size)) {
    if (errno == EFBIG) return fail(Errc::limit, "plugin " + path + " is larger than 512 MiB", "size");
    return fail_errno("read plugin", path);
  }
  if (::fcntl(memory.number, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    return fail_errno("seal the copy of plugin", path);
  }
  if (size < 4) return fail(Errc::malformed, "plugin " + path + " is not a shared library (ELF)", "not_elf");
  const View view(memory.number, size);
  if (view.data == MAP_FAILED) return fail_errno("map plugin", path);
  const std::string_view bytes(static_cast<const char*>(view.data), size);
  std::string hash = sha256_hex(bytes);
  if (!pin.empty() && lower(pin) != hash) {
    return fail(Errc::denied, "plugin " + path + " is not the pinned file: sha256 is " + hash + ", pinned is " + lower(pin) +
                "; when the new file is the right one, pin its hash", "pin_mismatch");
  }
  if (bytes.substr(0, 4) != "\177ELF") return fail(Errc::malformed, "plugin " + path + " is not a shared library (ELF)", "not_elf");
  Elf64_Ehdr header{};
  std::memcpy(&header, bytes.data(), std::min(size, sizeof header));
  if (kMachine != EM_NONE && size >= sizeof header && (header.e_machine != kMachine || header.e_ident[EI_CLASS] != ELFCLASS64))
    return fail(Errc::malformed, "plugin " + path + " is built for another kind of machine (ELF machine " + std::to_string(header.e_machine) + ", this Kontor is " + std::to_string(kMachine) + "); build it for this one", "machine");
  return LibraryImage(memory.release(), std::move(hash), path);
}

LibraryImage::LibraryImage(int descriptor, std::string sha256, std::string path)
    : descriptor_(descriptor), sha256_(std::move(sha256)), path_(std::move(path)) {}

LibraryImage::LibraryImage(LibraryImage&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), sha256_(std::move(other.sha256_)), path_(std::move(other.path_)) {}

LibraryImage& LibraryImage::operator=(LibraryImage&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(sha256_, other.sha256_);
  std::swap(path_, other.path_);
  return *this;
}

LibraryImage::~LibraryImage() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<const kontor_plugin*> open_entry(int descriptor, const std::string& name) {
  const std::string place = "/proc/self/fd/" + std::to_string(descriptor);
  // A missing symbol shows now, not in the middle of a call.
  void* library = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::string reason = ::dlerror();
    for (std::size_t at = 0; (at = reason.find(place, at)) != std::string::npos; at += name.size()) reason.replace(at, place.size(), name);
    const bool missing = reason.find("undefined symbol") != std::string::npos;
    return fail(Errc::malformed, "cannot load plugin " + reason + (missing ? "; link the library that has it (target_link_libraries), C++ names are read by c++filt" : ""), "load");
  }
  const void* entry = ::dlsym(library, "kontor_plugin_entry");
  if (entry == nullptr) {
    return fail(Errc::malformed, "plugin " + name + " does not export kontor_plugin_entry; it is not a Kontor plugin, or the "
                "symbol is hidden (mark it KONTOR_PLUGIN_EXPORT)", "no_entry");
  }
  return static_cast<const kontor_plugin*>(entry);
}

Result<const kontor_plugin*> open_in_process(const LibraryImage& image) {
  // What is loaded into a process is a fact of the process, hence one list for all callers.
  static std::mutex mutex;
  static std::map<std::string, const kontor_plugin*> loaded;
  const std::lock_guard lock(mutex);
  if (const auto found = loaded.find(image.sha256()); found != loaded.end()) return found->second;
  const int kept = ::fcntl(image.descriptor(), F_DUPFD_CLOEXEC, 0);
  if (kept < 0) return fail_errno("duplicate the descriptor of", image.path());
  const auto entry = open_entry(kept, image.path());
  // `kept` stays open even after a failure: its number must not come back for another library.
  if (entry) loaded.emplace(image.sha256(), *entry);
  return entry;
}

}  // namespace kontor::plugins
