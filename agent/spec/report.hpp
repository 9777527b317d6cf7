#pragma once
// Findings while a file is checked: collected from all phases, then put into the order in which people read them.

#include "agent/spec/diagnostic.hpp"
#include "agent/spec/yaml_document.hpp"

#include <set>
#include <tuple>

namespace kontor::agent {

/// The first phase with an error is reported first, inside a phase by position.
enum class Phase { text, syntax, features, schema, names, expressions };

/// One YAML file of a check: the checked file itself or an included one.
struct SourceFile {
  std::string name;                 ///< "" for the checked file; else the path as reached from it ("inc/models.yaml").
  std::string noun = "included file";  ///< What messages call it.
  std::string folder;               ///< Absolute folder that its paths are relative to.
  std::unique_ptr<YamlDocument> document;
  std::size_t included_at = 0;      ///< Byte of the `include:` entry in the checked file; orders its findings.
};

class Report {
 public:
  /// Findings beyond this many are dropped.
  static constexpr std::size_t kKept = 500;
  static constexpr std::size_t kShown = 100;

  /// `offset` is a byte of the file. `order` replaces it when findings are sorted.
  void add(Phase phase, const SourceFile& file, std::size_t offset, std::string kind, std::string message,
           std::optional<std::size_t> order = std::nullopt);
  bool full() const { return findings_.size() >= kKept; }
  bool empty() const { return findings_.empty(); }
  bool has(Phase phase) const { return phases_.count(phase) != 0; }
  std::vector<Diagnostic> sorted() const;

 private:
  struct Finding {
    Phase phase;
    std::size_t order, inner;       // place in the checked file, then in the included one
    Diagnostic diagnostic;
  };
  std::vector<Finding> findings_;
  std::set<Phase> phases_;
  std::set<std::tuple<std::string, std::size_t, std::string>> seen_;
};

}  // namespace kontor::agent
