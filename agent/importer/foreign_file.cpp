#include "agent/importer/foreign_file.hpp"

#include "agent/spec/project.hpp"

#include <optional>

namespace kontor::agent {
namespace {

Error at(const ForeignFile& file, std::size_t offset, std::string message) {
  const Place place = file.document->source->place(offset);
  return fail(Errc::malformed, std::move(message), "foreign_syntax", file.name + ":" + std::to_string(place.line) + ":" + std::to_string(place.column));
}

}  // namespace

Result<std::shared_ptr<const ForeignFile>> read_foreign(const std::string& path) {
  std::string why;
  auto text = read_regular_file(path, YamlLimits{}.bytes, why);
  if (!text) return fail(Errc::not_found, path + ": " + why, "foreign_file");
  return parse_foreign(std::move(*text), path);
}

Result<std::shared_ptr<const ForeignFile>> parse_foreign(std::string text, const std::string& name) {
  auto file = std::make_shared<ForeignFile>();
  file->name = name;
  std::optional<YamlProblem> problem;
  file->document = read_yaml(std::move(text), YamlLimits{}, problem);
  if (!problem && !file->document->features.empty()) problem = file->document->features.front();
  if (problem) return at(*file, problem->offset, problem->message);
  if (file->document->root == 0 || !file->root().is_mapping()) return at(*file, 0, "the file is not a mapping");
  return std::shared_ptr<const ForeignFile>(std::move(file));
}

}  // namespace kontor::agent
