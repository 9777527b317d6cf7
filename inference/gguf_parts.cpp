// Split GGUF models: NAME-00001-of-00003.gguf and so on, as gguf-split writes them. The first part has the metadata.

#include "inference/model_source.hpp"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>

namespace kontor::inference {
namespace {

constexpr std::int64_t kMaxParts = 1024;

std::optional<std::int64_t> integer_of(const GgufDirectory& directory, std::string_view key) {
  const MetadataEntry* entry = directory.find(key);
  std::int64_t value = 0;
  if (!entry || !read_integer(*entry, value)) return std::nullopt;
  return value;
}

/// Paths of all parts, from the path of one; empty where its name does not say which part of how many it is.
std::vector<std::string> part_paths(const std::string& path, std::int64_t count) {
  std::vector<std::string> paths;
  char suffix[64];
  for (std::int64_t i = 0; i < count; ++i) {
    std::snprintf(suffix, sizeof suffix, "-%05d-of-%05d.gguf", static_cast<int>(i + 1), static_cast<int>(count));
    paths.emplace_back(suffix);
  }
  const std::size_t length = paths.front().size();
  if (path.size() <= length) return {};
  const std::string prefix = path.substr(0, path.size() - length), own = path.substr(path.size() - length);
  bool found = false;
  for (std::string& part : paths) {
    found = found || part == own;
    part.insert(0, prefix);
  }
  return found ? paths : std::vector<std::string>();
}

Error bad_split(std::string message) { return fail(Errc::malformed, std::move(message), "bad_split"); }
Error missing_split(std::string message) { return fail(Errc::unsupported, std::move(message), "missing_split"); }

/// The directory of one part, checked against what the first one says.
Result<GgufDirectory> read_part(const std::string& path, std::int64_t index, std::int64_t count, std::vector<FileMapping>& mappings) {
  auto mapping = FileMapping::open(path);
  if (!mapping) {
    if (mapping.error().code == Errc::not_found)
      return missing_split("part " + std::to_string(index + 1) + " of " + std::to_string(count) + " is missing: " + printable(path, 300));
    return mapping.error();
  }
  auto directory = read_gguf(mapping->bytes(), path);
  if (!directory) return directory.error();
  if (integer_of(*directory, "split.no") != index || integer_of(*directory, "split.count") != count)
    return bad_split(printable(path, 300) + " does not say that it is part " + std::to_string(index + 1) + " of " + std::to_string(count));
  mappings.push_back(std::move(*mapping));
  return directory;
}

/// All parts as one model.
Result<ModelSource> join(const std::string& path, std::int64_t count) {
  if (count > kMaxParts) return missing_split("the model claims " + std::to_string(count) + " parts; at most " + std::to_string(kMaxParts) + " are read");
  const std::vector<std::string> paths = part_paths(path, count);
  if (paths.empty()) return missing_split("the file is one of " + std::to_string(count) + " parts, but its name does not end in \"-00001-of-0000N.gguf\"");
  ModelSource source;
  for (std::int64_t i = 0; i < count; ++i) {
    auto part = read_part(paths[static_cast<std::size_t>(i)], i, count, source.mappings);
    if (!part) return part.error();
    if (i == 0) source.directory = std::move(*part);
    else source.directory.tensors.insert(source.directory.tensors.end(), part->tensors.begin(), part->tensors.end());
  }
  GgufDirectory& all = source.directory;
  if (all.tensors.size() > kMaxTensors) return bad_split("the parts have " + std::to_string(all.tensors.size()) + " tensors together");
  all.sort();
  for (std::size_t i = 1; i < all.by_name.size(); ++i)
    if (all.tensors[all.by_name[i]].name == all.tensors[all.by_name[i - 1]].name)
      return bad_split("tensor '" + printable(all.tensors[all.by_name[i]].name) + "' occurs in two parts");
  const auto total = integer_of(all, "split.tensors.count");
  if (total && *total != static_cast<std::int64_t>(all.tensors.size()))
    return bad_split("the parts have " + std::to_string(all.tensors.size()) + " tensors; the first one promises " + std::to_string(*total));
  return source;
}

}  // namespace

Result<ModelSource> open_gguf(const std::string& path) {
  auto mapping = FileMapping::open(path);
  if (!mapping) return mapping.error();
  auto directory = read_gguf(mapping->bytes(), path);
  if (!directory) return directory.error();
  ModelSource source;
  source.mappings.push_back(std::move(*mapping));
  source.directory = std::move(*directory);
  const std::int64_t count = integer_of(source.directory, "split.count").value_or(1);
  const std::int64_t number = integer_of(source.directory, "split.no").value_or(0);
  if (count <= 1 && number == 0) return source;
  if (number < 0 || number >= count) {
    source.incomplete = bad_split("the file says that it is part " + std::to_string(number) + " (counted from 0) of " + std::to_string(count));
    return source;
  }
  auto joined = join(path, count);
  if (joined) return joined;
  source.incomplete = joined.error();
  return source;
}

}  // namespace kontor::inference
