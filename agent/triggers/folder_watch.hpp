#pragma once
// Files that appear or change in a folder (inotify). A file counts when its writer has closed it, or when it was moved in.

#include "base/error.hpp"

#include <string>
#include <vector>

namespace kontor::agent {

class FolderWatch {
 public:
  /// Errors: not_found, io.
  static Result<FolderWatch> open(const std::string& folder);
  FolderWatch(FolderWatch&& other) noexcept : descriptor_(other.descriptor_) { other.descriptor_ = -1; }
  FolderWatch& operator=(FolderWatch&& other) noexcept;
  ~FolderWatch();

  /// Waits at most `timeout_ms` for a change, then until nothing changed for `quiet_ms` (a copy of many files is one
  /// change). Names of the files, each once; hidden ones (".x") do not count. When the kernel lost events: "" is among
  /// them. Errors: io, not_found (the folder is gone).
  Result<std::vector<std::string>> wait(int timeout_ms, int quiet_ms);

 private:
  explicit FolderWatch(int descriptor) : descriptor_(descriptor) {}
  Result<bool> read_events(int timeout_ms, std::vector<std::string>& names);
  int descriptor_ = -1;
};

}  // namespace kontor::agent
