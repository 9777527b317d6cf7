#pragma once
// Agent files of other programs as agent files of Kontor. What a foreign file says is carried over, named as left out
// (it does not change what the agent does), or named as unsupported (it does); nothing is dropped without a word.

#include "base/error.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

enum class ForeignFormat { cagent, goose, crewai, mcp };

/// One thing that the foreign file says and the result does not.
struct ImportFinding {
  std::string file;          ///< As the user named it.
  int line = 1, column = 1;  ///< From 1, columns in code points.
  bool unsupported = false;  ///< The agent would work differently without it; else a note.
  std::string message;
};

/// A file that the agent file refers to, such as an output schema.
struct ImportedFile {
  std::string path;          ///< Relative to the folder of the agent file.
  std::string text;
};

struct Imported {
  std::string text;                     ///< The agent file; it passes the checker.
  std::vector<ImportedFile> files;
  std::vector<std::string> to_set;      ///< What a person has to set before the first run: "models.x.path: ..."
  std::vector<ImportFinding> findings;  ///< In the order of the file.

  bool complete() const;                ///< Nothing is unsupported.
};

/// Reads `path` (for crewai also a folder with agents.yaml and tasks.yaml). A result that is not complete() is still an
/// agent file that passes the checker, with the unsupported parts named in comments.
/// Errors: not_found, io; malformed with FILE:LINE:COLUMN in `where`; usage when nothing in the file is an agent.
Result<Imported> import_file(ForeignFormat format, const std::string& path);
/// The same for bytes at hand. `tasks`: the tasks.yaml that belongs to the agents of crewai, or null.
Result<Imported> import_text(ForeignFormat format, const std::string& text, const std::string& name, const std::string* tasks = nullptr);

}  // namespace kontor::agent
