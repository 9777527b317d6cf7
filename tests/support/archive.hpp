#pragma once
// Corpora kept as .tar.xz, unpacked into a folder that goes away again.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace kontor::test {

class UnpackedArchive {
 public:
  /// Needs tar and xz; ok() is false where they are missing or the archive is damaged.
  explicit UnpackedArchive(const std::string& archive) {
    folder_ = std::filesystem::temp_directory_path() /
              ("kontor_" + std::filesystem::path(archive).stem().stem().string() + "_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    ok_ = std::system(("tar -xJf '" + archive + "' -C '" + folder_.string() + "'").c_str()) == 0;
  }
  UnpackedArchive(const UnpackedArchive&) = delete;
  UnpackedArchive& operator=(const UnpackedArchive&) = delete;
  ~UnpackedArchive() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  bool ok() const { return ok_; }
  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
  bool ok_ = false;
};

}  // namespace kontor::test
