#include "tools/builtin/public_places.hpp"

#include <sys/stat.h>

#include <filesystem>

namespace kontor::tools {
namespace {

namespace fs = std::filesystem;

constexpr int kLevelsMax = 4;
constexpr std::size_t kPlacesMax = 4000;

class Survey {
 public:
  std::vector<std::string> places;

  /// Puts `path` into `places` when all of it may be read by others, else the parts that may. Was it all?
  bool look(const fs::path& path, int level) {
    struct stat info{};
    if (lstat(path.c_str(), &info) != 0) return true;  // it went away meanwhile
    if (S_ISLNK(info.st_mode)) return true;            // a right to the folder gives none to what a link leads to
    const bool folder = S_ISDIR(info.st_mode);
    if ((info.st_mode & S_IROTH) == 0 || (folder && (info.st_mode & S_IXOTH) == 0)) return false;
    const std::size_t before = places.size();
    bool all = true;
    if (folder) {
      if (level >= kLevelsMax) return false;
      std::error_code failed;
      for (const auto& entry : fs::directory_iterator(path, failed)) {
        if (places.size() >= kPlacesMax) return false;
        all = look(entry.path(), level + 1) && all;
      }
      if (failed) return false;
    }
    if (!all) return false;
    places.resize(before);  // the folder stands for its parts
    places.push_back(path.string());
    return true;
  }
};

}  // namespace

std::vector<std::string> public_places(const std::string& folder) {
  Survey survey;
  survey.look(folder, 0);
  return std::move(survey.places);
}

}  // namespace kontor::tools
