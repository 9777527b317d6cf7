#pragma once
// The checked file with everything it includes, as one agent: sections and named entries across files.

#include "agent/spec/report.hpp"
#include "base/json.hpp"
#include "tools/tool.hpp"

#include <nlohmann/json.hpp>

#include <map>
#include <unordered_map>

namespace kontor::agent {

/// A root key of one file.
struct Section {
  const SourceFile* file = nullptr;
  Yaml key;
  Yaml value;
};

/// An entry of a section that is a mapping of names (models, tools, ...).
using Named = Section;

/// A JSON file that the check reads: an output schema or a pin.
struct JsonFile {
  bool is_schema = false;  ///< an output schema that can be honoured
  bool is_pin = false;     ///< the tools of an MCP server; a file may be used as both
  Json value;
};

struct Project {
  std::string path;                                  ///< As given.
  std::string folder;                                ///< Absolute; paths stay inside it.
  std::vector<std::unique_ptr<SourceFile>> files;    ///< [0] is the checked file
  std::map<std::string, JsonFile> json_files;        ///< by absolute path
  /// The operations of OpenAPI documents, by file and place of the group's name; without the group in their names.
  std::map<std::pair<const SourceFile*, std::size_t>, std::vector<tools::ToolSpec>> operations;
  bool includes_complete = true;                     ///< Every included file was read.
  Report report;

  const SourceFile& main() const { return *files.front(); }
  Yaml root(const SourceFile& file) const { return Yaml(*file.document, file.document->root); }

  std::vector<Section> sections(std::string_view key) const;
  /// In the order of the files; of two entries with one name the first. Not the ones whose name is not a scalar.
  std::vector<Named> named(std::string_view section) const;
  /// Entries of `mcpServers` that are not disabled: each is a group of tools, as one of `tools` with `use: mcp`.
  std::vector<Named> servers() const;
  std::optional<Named> find(std::string_view section, std::string_view name) const;
  std::vector<std::string> names(std::string_view section) const;
  /// Entries of a section that is a list.
  std::vector<Section> items(std::string_view section) const;

 private:
  /// Entries of the sections that find() was asked about, of the files read so far.
  mutable std::map<std::string, std::unordered_map<std::string_view, Named>, std::less<>> index_;
  mutable std::size_t indexed_files_ = 0;
};

/// Reads the checked file and what it includes, and reports everything up to duplicate keys, and includes.
/// false: there is no tree to go on with.
bool load_project(Project& project, std::string text);

/// Whole content of a regular file of at most `most` bytes (more: the first `most` + 1). nullopt: `why` says why not.
std::optional<std::string> read_regular_file(const std::string& path, std::size_t most, std::string& why);

/// A value as JSON, by the core schema of YAML 1.2.
Json to_json(const Yaml& value);

// ---- paths, without touching the disk ---------------------------------------------------------------------------
/// Absolute form of a path that is relative to `folder`, without "." and "..".
std::string resolved_path(const std::string& folder, std::string_view path);
/// `path` is `folder` or below it; both resolved.
bool is_inside(const std::string& path, const std::string& folder);
/// An absolute path, or one whose ".." lead out of the folder that it is relative to.
bool leaves_its_folder(std::string_view path);
/// A relative path with each part that does not exist replaced by the nearest one that does, or "".
std::string nearest_existing(const std::string& folder, std::string_view path);

}  // namespace kontor::agent
