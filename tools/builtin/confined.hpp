#pragma once
// Files below given folders only. No path, no symbolic link and no race leads outside: files are opened with
// openat2(RESOLVE_BENEATH), and where the kernel has none, component by component without following links.

#include "base/error.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kontor::tools {

/// An open file; closed with the object.
class OpenFile {
 public:
  OpenFile() = default;
  explicit OpenFile(int fd) : fd_(fd) {}
  OpenFile(OpenFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OpenFile& operator=(OpenFile&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~OpenFile();
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

/// Opens `relative` below the open folder. Errors: not_found, denied (leads outside), io.
/// `walk` forces the way without openat2.
Result<OpenFile> open_beneath(int folder, const std::string& relative, int flags, unsigned mode = 0, bool walk = false);

/// "a//b/./c/../d" -> "a/b/d"; a leading "/" stays. Errors: denied when it climbs out of where it starts; malformed for
/// NUL bytes and paths over 4096 bytes.
Result<std::string> normal_path(std::string_view path);

/// A folder that a tool may use, or one file (an input of type file).
struct Root {
  std::string path;    ///< Absolute.
  std::string name;    ///< The same relative to the agent file's folder ("data"), or "" when it is not below it.
  bool is_file = false;
};

/// `path` may be relative to `folder`. Does not need to exist.
Root make_root(const std::string& folder, const std::string& path);

/// Where a path of a call may mean: a root and what follows below it.
struct Place {
  const Root* root = nullptr;
  std::string relative;  ///< "." for the root itself.
};

/// The places to try, in order. Absolute paths have to lie below a root. A relative path that begins with a root's name
/// means that root; every other relative path is below the first root. Errors: denied.
Result<std::vector<Place>> places_of(const std::vector<Root>& roots, std::string_view path);

/// Opens a file or folder for reading at the first place where there is one. Files in `hidden` are refused.
/// Errors: not_found, denied, io.
Result<OpenFile> open_for_reading(const std::vector<Root>& roots, const std::vector<std::string>& hidden, std::string_view path);

/// Whole content of a regular file. Errors: io; limit when longer than `most`.
Result<std::string> read_all(int fd, std::string_view name, std::size_t most);

/// Offset of the first byte that is not UTF-8 (RFC 3629), or nothing.
std::optional<std::size_t> invalid_utf8(std::string_view text);

}  // namespace kontor::tools
