#pragma once
// What procurement did: orders and rejections, one line each in an append-only file, on the disk before the answer.

#include "plugins/samples/erp/json_lines.hpp"

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace procurement {

using erp::Json;

struct Request {
  std::string id, item, cost_center;
  std::int64_t cents = 0;
};

struct Outcome {
  std::string id, status, note, po;  ///< status: ordered, rejected. note: who approved, or why not.
};

/// Thread-safe, and safe between processes that share the file. Errors are ToolError and std::runtime_error.
class Ledger {
 public:
  /// `budgets`: cents by cost center.
  Ledger(std::map<std::string, std::int64_t> budgets, const std::string& path);

  /// Cents that are left of a cost center.
  std::int64_t remaining(const std::string& cost_center);
  /// Orders once per request; again is the earlier outcome. What the budget does not allow is rejected.
  Outcome order(const std::string& key, const Request& request, const std::string& approved_by);
  Outcome reject(const std::string& key, const std::string& id, const std::string& reason);
  /// The outcome of a request, or of the call that had this key.
  std::optional<Outcome> outcome(const std::string& id);
  std::optional<Outcome> by_key(const std::string& key);
  std::vector<std::pair<std::string, std::int64_t>> budgets();

 private:
  void take(const Json& line);
  std::int64_t left_of(const std::string& cost_center) const;
  Outcome append(erp::JsonLines::Turn& turn, const std::string& kind, const std::string& key, const Request& request, const std::string& note);

  std::mutex mutex_;
  const std::map<std::string, std::int64_t> budgets_;
  std::map<std::string, std::int64_t> spent_;
  std::map<std::string, Outcome> outcomes_;      // by request
  std::map<std::string, std::string> requests_;  // by key
  std::uint64_t orders_ = 0, last_sequence_ = 0;
  erp::JsonLines lines_;  // Last: reading it fills the members above.
};

/// "budget: 9900.00 > 8000.00"
std::string over_budget(std::int64_t cents, std::int64_t remaining);

}  // namespace procurement
