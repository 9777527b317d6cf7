// Reading the checked file and its includes: bytes, syntax, features, duplicate keys, includes.

#include "agent/spec/formats.hpp"
#include "agent/spec/project.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <filesystem>
#include <unordered_map>
#include <unordered_set>

namespace kontor::agent {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFiles = 64;

Phase phase_of(std::string_view kind) { return kind == "yaml-encoding" || kind == "yaml-limit" ? Phase::text : Phase::syntax; }

class Loader {
 public:
  explicit Loader(Project& project) : project_(project) {}

  /// Reads one file's tree. `bad_phase`: phase of its errors when it is an included file.
  bool read(SourceFile& file, std::string text, std::optional<Phase> included) {
    std::optional<YamlProblem> problem;
    file.document = read_yaml(std::move(text), {}, problem);
    if (problem) {
      project_.report.add(included.value_or(phase_of(problem->kind)), file, problem->offset, problem->kind, problem->message);
      return false;
    }
    for (const auto& feature : file.document->features) {
      project_.report.add(included.value_or(Phase::features), file, feature.offset, feature.kind, feature.message);
    }
    duplicates(file, included.value_or(Phase::features));
    return true;
  }

  void include(SourceFile& file, std::vector<std::string>& chain) {
    const Yaml value = project_.root(file)["include"];
    if (!value) return;
    if (value.type() == Yaml::Type::string) return include_one(file, value, chain);
    if (!value.is_sequence()) return;  // reported with the other types
    for (const auto& item : value.items()) {
      if (item.type() == Yaml::Type::string) include_one(file, item, chain);
    }
  }

  void merge() {
    for (const char* section : {"inputs", "secrets", "models", "tools", "mcpServers", "agents"}) same_names(section);
    for (const auto& server : project_.named("mcpServers")) {  // both are groups of tools
      const auto group = project_.find("tools", server.key.text());
      if (group) project_.report.add(Phase::schema, *server.file, server.key.offset(), "duplicate-key", "'" + shown_text(server.key.text()) + "' is also defined in tools");
    }
    for (const char* section : {"name", "description", "workflow", "budgets", "durability", "observe"}) {
      const auto parts = project_.sections(section);
      for (std::size_t i = 1; i < parts.size(); ++i) twice(parts[0], parts[i], std::string("'") + section + "'");
    }
  }

 private:
  void duplicates(const SourceFile& file, Phase phase) {
    // Every mapping of the file once, whether or not an alias uses it.
    const YamlDocument& document = *file.document;
    for (std::uint32_t id = 1; id < document.nodes.size(); ++id) {
      const YamlNode& node = document.nodes[id];
      if (node.kind != YamlNode::Kind::mapping || node.count < 4) continue;
      std::unordered_set<std::string_view> seen;
      for (const auto& entry : Yaml(document, id).entries()) {
        if (!entry.key.is_scalar() || entry.key.is_alias()) continue;
        if (!seen.insert(entry.key.text()).second) {
          project_.report.add(phase, file, entry.key.offset(), "duplicate-key", "the key '" + shown_text(entry.key.text()) + "' stands twice in one mapping");
        }
      }
    }
  }

  void include_one(SourceFile& file, const Yaml& entry, std::vector<std::string>& chain) {
    const std::string text(entry.text());
    const auto report = [&](std::string kind, std::string message) {
      project_.includes_complete = false;
      project_.report.add(Phase::schema, file, entry.offset(), std::move(kind), std::move(message));
    };
    if (text.find("://") != std::string::npos) return report("bad-format", "an include is a file; nothing is fetched from the network");
    if (const auto problem = check_path_text(text)) return report(problem.kind, problem.message);
    const std::string path = resolved_path(file.folder, text);
    if (text[0] == '/' || !is_inside(path, project_.folder)) return report("path-escape", "the included file '" + shown_text(text) + "' is outside of the folder of the checked file");
    if (std::find(chain.begin(), chain.end(), path) != chain.end()) return report("include-cycle", "'" + shown_text(text) + "' is already being included; files include each other in a circle");
    if (project_.files.size() >= kMaxFiles) return report("yaml-limit", "more than " + std::to_string(kMaxFiles) + " files are included");
    std::string why;
    auto bytes = read_regular_file(path, YamlLimits{}.bytes, why);
    if (!bytes) return report("missing-file", "the included file '" + shown_text(text) + "' cannot be read: " + why + did_you_mean(suggestion(file, text)));
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    const fs::path home = fs::canonical(project_.folder, error);
    if (!error && !is_inside(real.string(), home.string())) return report("path-escape", "the included file '" + shown_text(text) + "' is a link to outside of the folder of the checked file");

    auto included = std::make_unique<SourceFile>();
    included->name = fs::path(path).lexically_relative(project_.folder).string();
    included->folder = fs::path(path).parent_path().string();
    included->included_at = file.name.empty() ? entry.offset() : file.included_at;
    if (!read(*included, std::move(*bytes), Phase::schema)) {
      project_.includes_complete = false;
      project_.files.push_back(std::move(included));  // keeps the document that places point into
      project_.files.back()->document = read_yaml("{}", {}, unused_);
      return;
    }
    SourceFile& kept = *project_.files.emplace_back(std::move(included));
    chain.push_back(path);
    include(kept, chain);
    chain.pop_back();
  }
  static std::string suggestion(const SourceFile& file, const std::string& text) {
    const std::string near = nearest_existing(file.folder, text);
    return near == text ? std::string() : near;
  }

  void same_names(const char* section) {
    std::unordered_map<std::string_view, Section> seen;
    for (const auto& part : project_.sections(section)) {
      for (const auto& entry : part.value.entries()) {
        if (!entry.key.is_scalar()) continue;
        const Section here{part.file, entry.key, entry.value};
        const auto [found, fresh] = seen.emplace(entry.key.text(), here);
        if (!fresh && found->second.file != part.file) twice(found->second, here, "'" + shown_text(entry.key.text()) + "' in " + section);
      }
    }
  }
  /// The checked file's own entry is the one to look at; of two included files the later.
  void twice(const Section& first, const Section& second, const std::string& what) {
    const Section& at = first.file->name.empty() ? first : second;
    const std::string other = first.file->name.empty() ? second.file->name : first.file->name;
    project_.report.add(Phase::schema, *at.file, at.key.offset(), "duplicate-key", what + " is also defined in " + other);
  }

  Project& project_;
  std::optional<YamlProblem> unused_;
};

}  // namespace

bool load_project(Project& project, std::string text) {
  Loader loader(project);
  auto main = std::make_unique<SourceFile>();
  main->folder = project.folder;
  SourceFile& file = *project.files.emplace_back(std::move(main));
  if (!loader.read(file, std::move(text), std::nullopt)) return false;
  std::vector<std::string> chain{resolved_path(project.folder, fs::path(project.path).filename().string())};
  loader.include(file, chain);
  loader.merge();
  return true;
}

}  // namespace kontor::agent
