#pragma once
// The write function of builtin.files: whole files, put in place at once, below one folder.

#include "tools/builtin/confined.hpp"
#include "tools/tool.hpp"

#include <mutex>
#include <string>

namespace kontor::tools {

/// A row as one line of a table, in the order of `columns`: texts as they are, numbers in plain decimal notation,
/// null and missing members empty, lists and objects as JSON.
std::vector<std::string> row_cells(const Json& row, const std::vector<std::string>& columns);

/// Thread-safe. A reader sees the old file or the new one, never a part; after write() returns it survives a crash of
/// the machine. `append` with an idempotency key happens once for that key: NAME's keys are kept beside it in
/// .NAME.kontor-appends.
class FileWriter {
 public:
  explicit FileWriter(Root root) : root_(std::move(root)) {}

  /// Arguments as in the schema of files.write.
  ToolResult write(const Json& arguments, const CallContext& context);

 private:
  Result<OpenFile> open_folder(const std::string& relative) const;
  ToolResult append(int folder, const std::string& path, const std::string& name, const Json& arguments, const CallContext& context);

  Root root_;
  std::mutex mutex_;
};

}  // namespace kontor::tools
