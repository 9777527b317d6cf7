#pragma once
// What was matched, by file, kept on disk: the memory behind duplicate detection and behind the checks of a payment.

#include "plugins/samples/erp/json_lines.hpp"
#include "plugins/samples/erp/rules.hpp"

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace erp {

struct Matched {
  std::uint64_t sequence = 0;  ///< Order of arrival of this invoice number.
  Invoice invoice;
  Decision decision;
};

/// Thread-safe, and safe between processes that share the file.
class Register {
 public:
  explicit Register(const std::string& path);

  /// Decides about the invoice and keeps it. Of several files with the same vendor and invoice number the first that
  /// arrived counts, the others are duplicates of it. The same file with the same number again is the same document:
  /// it keeps its place. Throws as `decide` does.
  Decision match(const Books& books, const Invoice& invoice, std::int64_t limit_cents);

  std::optional<Matched> find(const std::string& file);
  /// In the order of file names.
  std::vector<Matched> all();

 private:
  using Key = std::pair<std::string, std::string>;  // Vendor id, compact invoice number.
  static Key key_of(const Matched& matched);
  void take(const Json& line);

  std::mutex mutex_;
  std::map<std::string, Matched> by_file_;
  std::map<Key, std::set<std::pair<std::uint64_t, std::string>>> by_key_;
  std::uint64_t last_sequence_ = 0;
  JsonLines lines_;  // Last: reading it fills the members above.
};

/// "item=amount|item=amount"
std::string join_lines(const Invoice& invoice);

}  // namespace erp
