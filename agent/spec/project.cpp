#include "agent/spec/project.hpp"

#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <unordered_set>

namespace kontor::agent {
namespace {

namespace fs = std::filesystem;

Json number_of(std::string_view text, Yaml::Type type) {
  std::string digits(text);
  if (type == Yaml::Type::integer) {
    int base = 10;
    if (digits.substr(0, 2) == "0x" || digits.substr(0, 2) == "0o") {
      base = digits[1] == 'x' ? 16 : 8;
      digits.erase(0, 2);
    }
    errno = 0;
    const long long value = std::strtoll(digits.c_str(), nullptr, base);
    if (errno == 0) return Json(static_cast<std::int64_t>(value));
    errno = 0;
    const unsigned long long large = std::strtoull(digits.c_str(), nullptr, base);
    if (errno == 0 && digits[0] != '-') return Json(static_cast<std::uint64_t>(large));
  }
  if (digits.find("nan") != std::string::npos || digits.find("NaN") != std::string::npos || digits.find("NAN") != std::string::npos) return Json(nullptr);
  if (digits.find_first_of("iI") != std::string::npos) return Json(nullptr);  // JSON has no infinity
  return Json(std::strtod(digits.c_str(), nullptr));
}

}  // namespace

std::vector<Section> Project::sections(std::string_view key) const {
  std::vector<Section> list;
  for (const auto& file : files) {
    for (const auto& entry : root(*file).entries()) {
      if (entry.key.is_scalar() && entry.key.text() == key) {
        list.push_back({file.get(), entry.key, entry.value});
        break;
      }
    }
  }
  return list;
}

std::vector<Named> Project::named(std::string_view section) const {
  std::vector<Named> list;
  std::unordered_set<std::string_view> seen;
  for (const auto& part : sections(section)) {
    for (const auto& entry : part.value.entries()) {
      if (entry.key.is_scalar() && seen.insert(entry.key.text()).second) list.push_back({part.file, entry.key, entry.value});
    }
  }
  return list;
}

std::vector<Named> Project::servers() const {
  auto list = named("mcpServers");
  std::erase_if(list, [](const Named& entry) {
    const Yaml disabled = entry.value["disabled"];
    return disabled && to_json(disabled) == Json(true);
  });
  return list;
}

std::optional<Named> Project::find(std::string_view section, std::string_view name) const {
  if (indexed_files_ != files.size()) index_.clear();
  indexed_files_ = files.size();
  auto known = index_.find(section);
  if (known == index_.end()) {
    known = index_.emplace(std::string(section), std::unordered_map<std::string_view, Named>()).first;
    for (const auto& entry : named(section)) known->second.emplace(entry.key.text(), entry);
  }
  const auto found = known->second.find(name);
  return found == known->second.end() ? std::nullopt : std::optional<Named>(found->second);
}

std::vector<std::string> Project::names(std::string_view section) const {
  std::vector<std::string> list;
  for (const auto& entry : named(section)) list.emplace_back(entry.key.text());
  return list;
}

std::vector<Section> Project::items(std::string_view section) const {
  std::vector<Section> list;
  for (const auto& part : sections(section)) {
    for (const auto& item : part.value.items()) list.push_back({part.file, part.key, item});
  }
  return list;
}

Json to_json(const Yaml& value) {
  switch (value.type()) {
    case Yaml::Type::null: return Json(nullptr);
    case Yaml::Type::boolean: return Json(value.text()[0] == 't' || value.text()[0] == 'T');
    case Yaml::Type::integer:
    case Yaml::Type::real: return number_of(value.text(), value.type());
    case Yaml::Type::string: return Json(std::string(value.text()));
    case Yaml::Type::sequence: {
      Json list = Json::array();
      for (const auto& item : value.items()) list.push_back(to_json(item));
      return list;
    }
    case Yaml::Type::mapping: {
      // Keys were checked to differ, so the pairs go in without looking for each again.
      Json::object_t object;
      for (const auto& entry : value.entries()) object.Json::object_t::Container::emplace_back(std::string(entry.key.text()), to_json(entry.value));
      return Json(std::move(object));
    }
  }
  return Json(nullptr);
}

std::string resolved_path(const std::string& folder, std::string_view path) {
  fs::path joined = fs::path(folder) / fs::path(std::string(path));
  std::string text = joined.lexically_normal().string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

bool is_inside(const std::string& path, const std::string& folder) {
  if (path == folder || folder == "/") return true;
  return path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 && path[folder.size()] == '/';
}

bool leaves_its_folder(std::string_view path) {
  const fs::path normal = fs::path(std::string(path)).lexically_normal();
  return normal.is_absolute() || (!normal.empty() && *normal.begin() == "..");
}

std::string nearest_existing(const std::string& folder, std::string_view path) {
  constexpr std::size_t kMostNames = 2'000;
  std::string result;
  fs::path at = folder;
  std::error_code error;
  for (const auto& part : fs::path(std::string(path)).lexically_normal()) {
    if (part.empty() || part == "..") return {};
    std::string name = part.string();
    if (!fs::exists(at / part, error)) {
      std::vector<std::string> names;
      for (fs::directory_iterator entry(at, error), end; !error && entry != end && names.size() < kMostNames; entry.increment(error)) {
        names.push_back(entry->path().filename().string());
      }
      std::sort(names.begin(), names.end());
      name = nearest(name, names);
      if (name.empty()) return {};
    }
    at /= name;
    result += (result.empty() ? "" : "/") + name;
  }
  return result;
}

std::optional<std::string> read_regular_file(const std::string& path, std::size_t most, std::string& why) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) {
    why = "there is no such file";
    return std::nullopt;
  }
  if (fs::is_directory(status)) {
    why = "this is a folder, not a file";
    return std::nullopt;
  }
  if (!fs::is_regular_file(status)) {
    why = "this is not a regular file";
    return std::nullopt;
  }
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (!file) {
    why = "the file cannot be opened";
    return std::nullopt;
  }
  std::string text;
  char buffer[1 << 16];
  while (text.size() <= most) {
    const std::size_t got = std::fread(buffer, 1, std::min(sizeof buffer, most + 1 - text.size()), file.get());
    if (got == 0) break;
    text.append(buffer, got);
  }
  if (std::ferror(file.get())) {
    why = "the file cannot be read";
    return std::nullopt;
  }
  return text;
}

}  // namespace kontor::agent
