#pragma once
// An append-only file of JSON lines that several processes may share.

#include "plugins/sdk/kontor_plugin.hpp"

#include <cstdint>
#include <functional>
#include <string>

namespace erp {

using kontor::plugin::Json;

/// Every access happens inside of `Turn`, which holds the file's lock: what others appended is read first, so that the
/// decision that follows sees everything. Not thread-safe by itself. Errors are std::runtime_error.
class JsonLines {
 public:
  /// Opens or creates the file. `take` is called for each line, in order, also for lines appended by others later.
  JsonLines(std::string path, std::function<void(const Json&)> take);
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  class Turn {
   public:
    /// Waits for the lock, then reads the new lines. A last line without line break was never acknowledged (its writer
    /// died while writing) and is cut off.
    explicit Turn(JsonLines& file);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    /// Writes one line and waits until it is on the disk; then `take` is called for it.
    void append(const Json& line);

   private:
    JsonLines& file_;
  };

 private:
  void read_new();

  std::string path_;
  std::function<void(const Json&)> take_;
  int descriptor_ = -1;
  std::int64_t offset_ = 0;  ///< End of the last line taken.
  std::size_t lines_ = 0;
};

}  // namespace erp
