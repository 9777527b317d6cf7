#include "tools/builtin/confined.hpp"

#include "tools/nearest.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

namespace kontor::tools {
namespace {

constexpr std::size_t kPathBytesMax = 4096;
constexpr std::size_t kNameBytesMax = 255;
constexpr std::size_t kSuggestedOfMax = 2000;  ///< Names of a folder that are looked through for a near one.

Error refuse(std::string_view path, const std::string& why) {
  return fail(Errc::denied, "'" + std::string(path.substr(0, 200)) + "' " + why, "path_escape");
}

Error open_error(const std::string& path) {
  if (errno == EXDEV) return refuse(path, "leads out of the folder that the tool may use");
  if (errno == ELOOP) return fail(Errc::denied, "'" + path.substr(0, 200) + "' is a symbolic link that leads in a circle or is not followed here", "link");
  if (errno == ENOTDIR) return fail(Errc::not_found, "'" + path.substr(0, 200) + "': what stands for a folder in this path is none", "no_folder");
  if (errno == ENOENT) return fail(Errc::not_found, "there is no file '" + path.substr(0, 200) + "'", "no_file");
  return fail_errno("open", path);
}

/// Component by component; a symbolic link anywhere is an error (ELOOP).
int open_walking(int folder, const std::string& relative, int flags, unsigned mode) {
  OpenFile current(dup(folder));
  if (current.fd() < 0) return -1;
  std::size_t begin = 0;
  while (true) {
    const auto end = relative.find('/', begin);
    const std::string part = relative.substr(begin, end == std::string::npos ? std::string::npos : end - begin);
    if (end == std::string::npos) return openat(current.fd(), part.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, mode);
    const int next = openat(current.fd(), part.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0) {
      if (errno == ENOTDIR) {  // A link here is reported as "not a directory"; say what it is.
        struct stat info{};
        if (fstatat(current.fd(), part.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode)) errno = ELOOP;
        else errno = ENOTDIR;
      }
      return -1;
    }
    current = OpenFile(next);
    begin = end + 1;
  }
}

int open_at(int folder, const std::string& relative, int flags, unsigned mode, bool walk) {
  if (!walk) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
    how.mode = mode;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    for (int attempt = 0; attempt < 16; ++attempt) {  // EAGAIN: something was renamed meanwhile.
      const long fd = syscall(SYS_openat2, folder, relative.c_str(), &how, sizeof how);
      if (fd >= 0) return static_cast<int>(fd);
      if (errno != EAGAIN && errno != EINTR) break;
    }
    if (errno != ENOSYS && errno != EPERM && errno != E2BIG) return -1;
  }
  return open_walking(folder, relative, flags, mode);
}

bool below(const std::string& path, const std::string& folder) {
  return path == folder || folder == "/" || (path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/');
}

std::string rest_of(const std::string& path, const std::string& folder) {
  if (path == folder) return ".";
  return path.substr(folder == "/" ? 1 : folder.size() + 1);
}

bool is_hidden(int fd, const std::vector<std::string>& hidden) {
  struct stat info{};
  if (fstat(fd, &info) != 0) return true;
  for (const auto& path : hidden) {
    struct stat secret{};
    if (stat(path.c_str(), &secret) == 0 && secret.st_dev == info.st_dev && secret.st_ino == info.st_ino) return true;
  }
  return false;
}

}  // namespace

OpenFile::~OpenFile() {
  if (fd_ >= 0) close(fd_);
}

Result<OpenFile> open_beneath(int folder, const std::string& relative, int flags, unsigned mode, bool walk) {
  const int fd = open_at(folder, relative, flags, mode, walk);
  if (fd < 0) return open_error(relative);
  return OpenFile(fd);
}

Result<std::string> normal_path(std::string_view path) {
  if (path.size() > kPathBytesMax) return fail(Errc::malformed, "a path of more than " + std::to_string(kPathBytesMax) + " bytes", "path");
  if (path.find('\0') != std::string_view::npos) return fail(Errc::malformed, "a path with a NUL byte", "path");
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  while (begin <= path.size()) {
    const auto end = std::min(path.find('/', begin), path.size());
    const auto part = path.substr(begin, end - begin);
    begin = end + 1;
    if (part.empty() || part == ".") continue;
    if (part.size() > kNameBytesMax) return fail(Errc::malformed, "a name of more than " + std::to_string(kNameBytesMax) + " bytes in the path '" + std::string(path.substr(0, 60)) + "...'", "path");
    if (part != "..") {
      parts.push_back(part);
    } else if (parts.empty()) {
      return refuse(path, "leads out of the folder that the tool may use");
    } else {
      parts.pop_back();
    }
  }
  std::string out = path.starts_with('/') ? "/" : "";
  for (std::size_t i = 0; i < parts.size(); ++i) out.append(i == 0 ? "" : "/").append(parts[i]);
  return out.empty() ? "." : out;
}

Root make_root(const std::string& folder, const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path base = fs::path(folder.empty() ? "." : folder);
  std::error_code ignored;
  Root root;
  root.path = fs::absolute(base / path, ignored).lexically_normal().string();
  while (root.path.size() > 1 && root.path.ends_with('/')) root.path.pop_back();
  std::string home = fs::absolute(base, ignored).lexically_normal().string();
  while (home.size() > 1 && home.ends_with('/')) home.pop_back();
  if (root.path != home && below(root.path, home)) root.name = rest_of(root.path, home);
  root.is_file = fs::is_regular_file(root.path, ignored);
  return root;
}

Result<std::vector<Place>> places_of(const std::vector<Root>& roots, std::string_view path) {
  const auto normal = normal_path(path);
  if (!normal) return normal.error();
  std::vector<Place> places;
  if (normal->starts_with('/')) {
    for (const auto& root : roots) {
      if (root.is_file ? *normal == root.path : below(*normal, root.path)) places.push_back({&root, rest_of(*normal, root.path)});
    }
  } else {
    for (const auto& root : roots) {
      if (root.name.empty()) continue;
      if (root.is_file ? *normal == root.name : below(*normal, root.name)) places.push_back({&root, rest_of(*normal, root.name)});
    }
    if (!roots.empty() && !roots.front().is_file) places.push_back({&roots.front(), *normal});
  }
  if (places.empty()) return refuse(path, "is outside of the folders that the tool may use");
  return places;
}

namespace {

/// The name in the folder of `relative` that was probably meant, "" where none is near. What is hidden is not told.
std::string near_file(int root, const std::string& relative, const std::vector<std::string>& hidden) {
  const auto slash = relative.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : relative.substr(0, slash), name = slash == std::string::npos ? relative : relative.substr(slash + 1);
  auto opened = open_beneath(root, folder, O_RDONLY | O_DIRECTORY);
  if (!opened) return {};
  DIR* stream = fdopendir(dup(opened->fd()));
  if (stream == nullptr) return {};
  std::vector<std::string> names;
  while (const dirent* entry = readdir(stream)) {
    const std::string other = entry->d_name;
    if (names.size() < kSuggestedOfMax && other[0] != '.' && !invalid_utf8(other)) names.push_back(other);
  }
  closedir(stream);
  const std::string near = nearest(name, names);
  // Endings are often the same, so what stands before them decides.
  const auto stem = [](const std::string& text) { return std::string_view(text).substr(0, text.rfind('.')); };
  const std::size_t most = std::max<std::size_t>(1, stem(name).size() / 3);
  if (near.empty() || edit_distance(stem(name), stem(near), most) > most) return {};
  const std::string path = slash == std::string::npos ? near : folder + "/" + near;
  const auto file = open_beneath(root, path, O_PATH);
  return file && !is_hidden(file->fd(), hidden) ? near : std::string();
}

}  // namespace

Result<OpenFile> open_for_reading(const std::vector<Root>& roots, const std::vector<std::string>& hidden, std::string_view path) {
  const auto places = places_of(roots, path);
  if (!places) return places.error();
  std::string near;
  for (const auto& place : *places) {
    const auto slash = place.root->path.rfind('/');
    const std::string folder = place.root->is_file ? place.root->path.substr(0, slash + 1) : place.root->path;
    const std::string relative = place.root->is_file ? place.root->path.substr(slash + 1) : place.relative;
    const OpenFile root(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (root.fd() < 0) {
      if (errno == ENOENT) continue;
      return fail_errno("open", folder);
    }
    // O_NONBLOCK: a pipe in the folder must not hold the tool up.
    auto file = open_beneath(root.fd(), relative, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (!file) {
      if (file.error().kind == "no_folder") return file.error();
      if (file.error().code == Errc::not_found) {
        if (near.empty()) near = near_file(root.fd(), relative, hidden);
        continue;
      }
      if (file.error().kind == "link") return refuse(path, "is a symbolic link that leads in a circle or is not followed here");
      if (file.error().code == Errc::denied) return refuse(path, "leads out of the folder that the tool may use");
      return file.error();
    }
    if (is_hidden(file->fd(), hidden)) return refuse(path, "holds a secret; tools never read it");
    return file;
  }
  return fail(Errc::not_found, "there is no file '" + std::string(path.substr(0, 200)) + "'" + (near.empty() ? "" : " (did you mean '" + near + "'?)"), "no_file");
}

Result<std::string> read_all(int fd, std::string_view name, std::size_t most) {
  struct stat info{};
  if (fstat(fd, &info) != 0) return fail_errno("read", name);
  if (S_ISDIR(info.st_mode)) return fail(Errc::usage, "'" + std::string(name) + "' is a folder", "is_folder");
  if (!S_ISREG(info.st_mode)) return fail(Errc::denied, "'" + std::string(name) + "' is not a regular file", "not_regular");
  std::string text;
  if (info.st_size > 0) text.reserve(std::min(static_cast<std::size_t>(info.st_size), most) + 1);
  char buffer[1 << 16];
  while (true) {
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read", name);
    if (got == 0) return text;
    if (text.size() + static_cast<std::size_t>(got) > most) {
      return fail(Errc::limit, "'" + std::string(name) + "' is longer than " + std::to_string(most) + " bytes", "file_size");
    }
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

std::optional<std::size_t> invalid_utf8(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const std::size_t length = lead >= 0xc2 && lead < 0xe0 ? 2 : (lead & 0xf0) == 0xe0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
    if (length == 0 || i + length > text.size()) return i;
    for (std::size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return i;
    }
    const auto second = static_cast<unsigned char>(text[i + 1]);
    // Overlong forms, surrogates, and what lies above U+10FFFF.
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return i;
    i += length;
  }
  return std::nullopt;
}

}  // namespace kontor::tools
