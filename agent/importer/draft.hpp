#pragma once
// The agent file under construction, and what could not be carried over.

#include "agent/importer/foreign_file.hpp"
#include "agent/importer/importer.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kontor::agent {

/// Letters, digits, '.', '_', '-'; everything else becomes '-'. `fallback` when nothing is left.
std::string proper_name(std::string_view text, std::string_view fallback);
/// Letters, digits, '_', not beginning with a digit.
std::string proper_id(std::string_view text, std::string_view fallback);

/// A text that stands for itself: "${" is written "$${".
std::string literal_text(std::string_view text);

class Draft {
 public:
  std::string name, description;
  Json inputs = Json::object(), agents = Json::object(), workflow = Json::array();
  std::vector<ImportedFile> files;
  /// Reads a file that the imported one names, below the folder of that one. Null when there is no folder.
  std::function<Result<std::shared_ptr<const ForeignFile>>(const std::string& path)> neighbour;

  // ---- findings -----------------------------------------------------------------------------------------------------
  /// `offset`: a byte of the file.
  void left_out(const ForeignFile& file, std::size_t offset, std::string message) { find(file, offset, false, std::move(message)); }
  void unsupported(const ForeignFile& file, std::size_t offset, std::string message) { find(file, offset, true, std::move(message)); }
  /// "models.x.path", and what has to stand there.
  void to_set(const std::string& place, const std::string& what);

  // ---- parts --------------------------------------------------------------------------------------------------------
  /// A model to be set by a person in place of `was`; asked for again in the same way, the same one. The name under which
  /// it now is.
  std::string model(std::string_view name, const std::string& was, Json more = Json::object());
  /// A model behind an address. `key_variable`: environment variable with the key, or "".
  std::string endpoint(std::string_view name, const std::string& url, const std::string& model, const std::string& key_variable, Json more);
  /// A group of tools; equal entries become one group. Its name.
  std::string group(std::string_view name, Json entry);
  /// The handle of a secret that comes from an environment variable.
  std::string secret(const std::string& variable);
  /// The tools of `group` may receive it.
  void allow(const std::string& variable, const std::string& group);
  /// The tool does not ask any more. What the file says is a stranger's word, so a person is told to read it.
  void approve(const std::string& tool);
  /// Declares an input unless there is one; its name.
  std::string input(std::string_view name, Json entry);

  /// The file with a header of comments. `from`: what it was made of, in words.
  Imported finish(const std::string& from);

 private:
  void find(const ForeignFile& file, std::size_t offset, bool is_unsupported, std::string message);
  std::string secret_name(const std::string& variable);

  Json approved_ = Json::array(), secrets_ = Json::object(), models_ = Json::object(), tools_ = Json::object();
  std::map<std::string, std::string> variables_;    // of environment to secret
  std::map<std::string, std::string> models_made_;  // from what was asked for
  std::vector<std::pair<std::pair<std::string, std::size_t>, ImportFinding>> findings_;
  std::vector<std::string> to_set_;
};

/// Reads a mapping key by key and reports what nobody asked for.
class Fields {
 public:
  /// `place` names the mapping in messages: "agent 'root'".
  Fields(Draft& draft, const ForeignFile& file, const Yaml& mapping, std::string place);
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;

  bool has(std::string_view key) const { return static_cast<bool>(mapping_[key]); }
  /// Empty when it is absent or null.
  Yaml take(std::string_view key);
  /// A text, number or boolean as written; anything else is reported. nullopt when it is absent.
  std::optional<std::string> text(std::string_view key);
  std::optional<bool> flag(std::string_view key);
  std::optional<double> number(std::string_view key);
  std::optional<std::int64_t> whole(std::string_view key);
  /// The texts of a list with where they stand.
  std::vector<Yaml> texts(std::string_view key);
  /// The entries of a mapping; none when it is absent.
  std::vector<Yaml::Entry> entries(std::string_view key);

  /// When the key is there: a note, or a report that it cannot be carried over.
  void leave_out(std::string_view key, const std::string& why);
  void refuse(std::string_view key, const std::string& why);
  /// Reports every key that was not asked for.
  void finish();

  std::size_t offset_of(std::string_view key) const;
  const ForeignFile& file() const { return file_; }
  const std::string& place() const { return place_; }

 private:
  Draft& draft_;
  const ForeignFile& file_;
  Yaml mapping_;
  std::string place_;
  std::set<std::string, std::less<>> taken_;
};

}  // namespace kontor::agent
