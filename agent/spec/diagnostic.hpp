#pragma once
// One finding of `kontor check`: where, which kind, and what to do.

#include <string>
#include <vector>

namespace kontor::agent {

struct Diagnostic {
  std::string file;       ///< Empty: the checked file itself; otherwise the included file.
  int line = 1;           ///< From 1.
  int column = 1;         ///< From 1, in Unicode code points.
  std::string kind;       ///< yaml-syntax, unknown-key, ... (closed list in docs/agent-files.md)
  std::string message;    ///< A sentence; may end with (did you mean 'x'?).
};

}  // namespace kontor::agent
