// OpenAPI documents that a check reads: what is wrong with them is told with its line and column there.

#include "agent/spec/formats.hpp"
#include "agent/spec/shape.hpp"
#include "agent/spec/text_tools.hpp"
#include "agent/spec/yaml_json.hpp"
#include "tools/builtin/openapi_document.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>

namespace kontor::agent {
namespace {

/// The value that a JSON pointer leads to, or the last one on the way that there is.
std::size_t offset_of_pointer(const Yaml& root, std::string_view pointer) {
  Yaml at = root;
  std::size_t offset = root.offset();
  while (pointer.starts_with('/')) {
    pointer.remove_prefix(1);
    const auto end = std::min(pointer.find('/'), pointer.size());
    std::string part;
    for (std::size_t i = 0; i < end; ++i) {
      if (pointer[i] == '~' && i + 1 < end) part += pointer[++i] == '1' ? '/' : '~';
      else part += pointer[i];
    }
    pointer.remove_prefix(end);
    Yaml next;
    if (at.is_mapping()) {
      for (const auto& entry : at.entries()) {
        if (!entry.key.is_scalar() || entry.key.text() != part) continue;
        next = entry.value;
        offset = entry.key.offset();
      }
    } else if (at.is_sequence()) {
      std::size_t index = 0;
      const auto items = at.items();
      const auto [last, error] = std::from_chars(part.data(), part.data() + part.size(), index);
      if (error == std::errc{} && last == part.data() + part.size() && index < items.size()) {
        next = items[index];
        offset = next.offset();
      }
    }
    if (!next) break;
    at = next;
  }
  return offset;
}

/// Byte of "LINE:COLUMN" in a text; columns are bytes there.
std::size_t offset_of_place(std::string_view text, std::string_view place) {
  std::size_t line = 1, column = 1, at = 0;
  const auto read = std::from_chars(place.data(), place.data() + place.size(), line);
  if (read.ec == std::errc{} && read.ptr != place.data() + place.size()) std::from_chars(read.ptr + 1, place.data() + place.size(), column);
  for (; line > 1 && at < text.size(); --line) at = std::min(text.find('\n', at), text.size() - 1) + 1;
  return std::min(at + column - 1, text.size());
}

/// Reads the text; nullopt when something was reported.
class Document {
 public:
  Document(Project& project, const SourceFile& file, const Yaml& value, const std::string& path, std::string text)
      : project_(project), is_json_(!path.ends_with(".yaml") && !path.ends_with(".yml")), text_(std::move(text)) {
    source_.name = std::filesystem::path(path).lexically_relative(project.folder).string();
    source_.noun = "OpenAPI document";
    source_.folder = file.folder;
    source_.included_at = file.name.empty() ? value.offset() : file.included_at;
  }

  std::optional<Json> read() {
    if (is_json_) {
      JsonLimits limits;
      limits.bytes = kDataLimits.bytes;
      auto parsed = parse_json(text_, limits);
      if (parsed) return std::move(*parsed);
      find_places();
      report(offset_of_place(source_.document->source->text(), parsed.error().where), parsed.error().message);
      return std::nullopt;
    }
    find_places();
    if (!problem_) return source_.document->root == 0 ? Json(nullptr) : to_json(root());
    report(problem_->offset, problem_->message);
    return std::nullopt;
  }

  void report(const Error& error) {
    find_places();
    // A JSON text that is no YAML to us has no tree to point into.
    const bool has_tree = !problem_ && source_.document->root != 0;
    report(has_tree ? offset_of_pointer(root(), error.where) : 0, (error.where.empty() ? "" : shown_text(error.where, 200) + ": ") + error.message);
  }

 private:
  /// Reads the text as YAML, which knows where everything stands; for JSON that is needed only when something is wrong.
  void find_places() {
    if (source_.document) return;
    source_.document = read_yaml(std::move(text_), kDataLimits, problem_);
    if (!problem_ && !source_.document->features.empty()) problem_ = source_.document->features.front();
  }
  Yaml root() const { return Yaml(*source_.document, source_.document->root); }
  void report(std::size_t offset, const std::string& message) { project_.report.add(Phase::schema, source_, offset, "bad-schema", shown_text(message, 500)); }

  Project& project_;
  const bool is_json_;
  std::string text_;
  SourceFile source_;
  std::optional<YamlProblem> problem_;
};

}  // namespace

void check_api_file(Project& project, const SourceFile& file, const Yaml& entry, std::size_t owner) {
  const Yaml value = entry["document"];
  if (!value || value.type() != Yaml::Type::string) return;  // reported
  const auto text = read_beside(project, file, value, kDataLimits.bytes);
  if (!text) return;
  const std::string path = resolved_path(file.folder, value.text());
  Document document(project, file, value, path, std::move(*text));
  const auto json = document.read();
  if (!json) return;
  std::vector<std::string> only;
  if (const Yaml globs = entry["only"]; globs && globs.is_sequence()) {
    for (const auto& glob : globs.items()) only.emplace_back(glob.text());
  }
  auto read = tools::read_api_document(*json, only);
  if (!read) return document.report(read.error());
  const auto report = [&](std::size_t offset, const char* kind, const std::string& message) { project.report.add(Phase::schema, file, offset, kind, message); };
  if (read->operations.empty()) {
    if (only.empty()) report(value.offset(), "bad-schema", "'" + shown_text(value.text()) + "' has no operation");
    else report(entry["only"].offset(), "glob-no-match", "'only' names no operation of '" + shown_text(value.text()) + "'");
    return;
  }
  if (read->server.empty() && !entry["server"]) report(owner, "missing-key", "'server' is missing: '" + shown_text(value.text()) + "' names no server whose address is complete");
  auto& known = project.operations[{&file, owner}];
  for (auto& operation : read->operations) known.push_back(std::move(operation.spec));
}

}  // namespace kontor::agent
