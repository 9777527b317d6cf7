#include "plugins/samples/erp/rules.hpp"

#include "plugins/samples/erp/amount.hpp"

#include <stdexcept>

namespace erp {
namespace {

constexpr std::int64_t kSumCentsMax = 1'000'000'000'000'000'00;

std::int64_t amount_of(const std::string& text, const std::string& field) {
  if (const auto cents = parse_amount(text)) return *cents;
  throw std::invalid_argument(field + " \"" + text.substr(0, 80) + "\" is not an amount");
}

std::int64_t sum_of(const Invoice& invoice) {
  std::int64_t sum = 0;
  for (const auto& line : invoice.lines) {
    sum += amount_of(line.amount, "the amount of line \"" + line.item.substr(0, 80) + "\":");
    if (sum > kSumCentsMax || sum < -kSumCentsMax) throw std::invalid_argument("the lines add up to more than can be booked");
  }
  return sum;
}

/// "5000", or "5000.50" when the limit is not whole.
std::string print_limit(std::int64_t cents) { return cents % 100 == 0 ? std::to_string(cents / 100) : print_amount(cents); }

}  // namespace

Books::Books(const Table& vendors, const Table& orders) {
  for (const auto& row : vendors.rows) {
    Vendor vendor{trimmed(row.at("vendor_id")), trimmed(row.at("name")), row.at("vat"), row.at("iban"), compact(row.at("status"))};
    const std::string id = vendor.id;
    if (!vendors_.emplace(id, vendor).second) throw std::runtime_error("the vendor " + id + " stands twice in the vendor list");
    if (const auto vat = compact(vendor.vat); !vat.empty()) by_vat_.emplace(vat, id);
    if (!vendor.name.empty()) by_name_.emplace(vendor.name, id);
  }
  for (const auto& row : orders.rows) {
    const std::string number = trimmed(row.at("po"));
    const auto cents = parse_amount(row.at("amount"));
    if (!cents) throw std::runtime_error("the amount of order " + number + " cannot be read: \"" + row.at("amount") + "\"");
    if (!orders_.emplace(compact(number), Order{number, trimmed(row.at("vendor_id")), compact(row.at("status")), *cents}).second) {
      throw std::runtime_error("the order " + number + " stands twice in the order list");
    }
  }
}

const Vendor* Books::find_vendor(const std::string& vat, const std::string& name) const {
  if (const auto found = by_vat_.find(compact(vat)); found != by_vat_.end()) return vendor(found->second);
  if (const auto found = by_name_.find(trimmed(name)); found != by_name_.end()) return vendor(found->second);
  return nullptr;
}

const Vendor* Books::vendor(const std::string& id) const {
  const auto found = vendors_.find(id);
  return found == vendors_.end() ? nullptr : &found->second;
}

const Order* Books::find_order(const std::string& number) const {
  const auto found = orders_.find(compact(number));
  return found == orders_.end() ? nullptr : &found->second;
}

Decision decide(const Books& books, const Invoice& invoice, const Vendor* vendor, const std::optional<std::string>& duplicate_of,
                std::int64_t limit_cents) {
  const std::int64_t total = amount_of(invoice.total, "the total");
  const std::int64_t sum = sum_of(invoice);
  Decision result{"hold", "", vendor != nullptr ? vendor->id : "", total};
  const auto answer = [&](const char* decision, std::string reason) {
    result.decision = decision;
    result.reason = std::move(reason);
    return result;
  };
  if (vendor == nullptr) return answer("hold", "vendor_unknown");
  if (duplicate_of) return answer("reject", "duplicate_of:" + *duplicate_of);
  if (vendor->status != "APPROVED") return answer("reject", "vendor_blocked");
  if (compact(invoice.iban) != compact(vendor->iban)) return answer("hold", "iban_changed");
  const std::string number = compact(invoice.order);
  if (number.empty() || number == "-") return answer("hold", "po_missing");
  const Order* order = books.find_order(number);
  if (order == nullptr) return answer("hold", "po_unknown");
  if (order->vendor_id != vendor->id) return answer("hold", "po_vendor_mismatch");
  if (order->status != "OPEN") return answer("hold", "po_closed");
  if (sum != total) return answer("hold", "sum_mismatch:" + print_amount(sum) + "!=" + print_amount(total));
  if (total > order->cents) return answer("hold", "amount_over_order");
  if (total > limit_cents) return answer("needs_approval", "amount_over_" + print_limit(limit_cents));
  return answer("approve", "three_way_match");
}

}  // namespace erp
