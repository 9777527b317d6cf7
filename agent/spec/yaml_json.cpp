#include "agent/spec/yaml_json.hpp"

#include "agent/spec/project.hpp"

#include <optional>

namespace kontor::agent {

Result<Json> yaml_as_json(const std::string& text, const YamlLimits& limits) {
  std::optional<YamlProblem> problem;
  const auto document = read_yaml(text, limits, problem);
  if (!problem && !document->features.empty()) problem = document->features.front();
  if (problem) {
    const Place place = document->source->place(problem->offset);
    return fail(Errc::malformed, problem->message, problem->kind, std::to_string(place.line) + ":" + std::to_string(place.column));
  }
  if (document->root == 0) return Json(nullptr);
  return to_json(Yaml(*document, document->root));
}

}  // namespace kontor::agent
