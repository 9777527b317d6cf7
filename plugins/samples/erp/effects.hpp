#pragma once
// The effects of the ERP: payments, holds, rejections. One line per effect, on the disk before the answer.

#include "plugins/samples/erp/json_lines.hpp"
#include "plugins/samples/erp/register.hpp"

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace erp {

/// Thread-safe, and safe between processes that share the file.
///
/// A line: {"sequence", "kind": "pay"|"hold"|"reject", "key": idempotency key, "arguments": as sent, "time": UTC,
/// and for payments "reference", "vendor_id", "invoice", "amount"}.
class Effects {
 public:
  explicit Effects(const std::string& path);

  /// Pays once per vendor and invoice number; again is the earlier reference. Throws ToolError (conflict) when the key
  /// or the invoice was used for another amount or account.
  std::string pay(const std::string& key, const Json& arguments, const Matched& matched);
  /// The reference of the payment that was made under this key.
  std::optional<std::string> find_payment(const std::string& key);

  /// "hold" or "reject"; the same file with the same reason again changes nothing. Throws ToolError (conflict) when the
  /// file was paid.
  void note(const std::string& kind, const std::string& key, const Json& arguments);

 private:
  struct Payment {
    std::string reference, file, amount, iban;
  };
  using Invoice = std::pair<std::string, std::string>;  // Vendor id, compact number.
  void take(const Json& line);
  void append(JsonLines::Turn& turn, Json line);

  std::mutex mutex_;
  std::map<Invoice, Payment> by_invoice_;
  std::map<std::string, Invoice> by_key_;
  std::map<std::string, std::string> by_file_;  // Paid files to references.
  std::map<std::string, std::string> noted_;    // kind, file, reason -> "".
  std::uint64_t last_sequence_ = 0, payments_ = 0;
  JsonLines lines_;  // Last: reading it fills the members above.
};

}  // namespace erp
