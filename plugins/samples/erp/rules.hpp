#pragma once
// The decision about one invoice: master data in, a decision and its reason out. No state, no files.

#include "plugins/samples/erp/table.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace erp {

struct Vendor {
  std::string id, name, vat, iban, status;
};

struct Order {
  std::string number, vendor_id, status;
  std::int64_t cents = 0;
};

/// An invoice as it was sent: every field as printed.
struct Invoice {
  struct Line {
    std::string item, amount;
  };
  std::string file, vendor, vat, number, date, order, total, iban;
  std::vector<Line> lines;
};

struct Decision {
  std::string decision;  ///< approve, hold, reject, needs_approval
  std::string reason;
  std::string vendor_id; ///< "" when the vendor is not known.
  std::int64_t cents = 0;
};

/// Vendors and orders, found the way invoices name them.
class Books {
 public:
  Books() = default;
  /// Throws std::runtime_error for orders whose amount is not one, and for ids that stand twice.
  Books(const Table& vendors, const Table& orders);

  /// By VAT id (blanks and case do not count), else by the exact name; nullptr when there is none.
  const Vendor* find_vendor(const std::string& vat, const std::string& name) const;
  const Vendor* vendor(const std::string& id) const;
  const Order* find_order(const std::string& number) const;

 private:
  std::map<std::string, Vendor> vendors_;              // By id.
  std::map<std::string, std::string> by_vat_, by_name_;  // To ids.
  std::map<std::string, Order> orders_;                // By compact number.
};

/// The first rule that applies decides:
///   vendor not found                     hold    vendor_unknown
///   `duplicate_of` (an earlier file)     reject  duplicate_of:FILE
///   vendor not approved                  reject  vendor_blocked
///   IBAN is not the vendor's             hold    iban_changed
///   no order ("" or "-")                 hold    po_missing
///   order not found                      hold    po_unknown
///   order of another vendor              hold    po_vendor_mismatch
///   order not open                       hold    po_closed
///   lines do not add up                  hold    sum_mismatch:SUM!=TOTAL
///   total over the order                 hold    amount_over_order
///   total over the limit                 needs_approval  amount_over_LIMIT
///   else                                 approve three_way_match
/// Throws std::invalid_argument naming the field when an amount cannot be read.
Decision decide(const Books& books, const Invoice& invoice, const Vendor* vendor, const std::optional<std::string>& duplicate_of,
                std::int64_t limit_cents);

}  // namespace erp
