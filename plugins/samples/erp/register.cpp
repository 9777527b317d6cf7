#include "plugins/samples/erp/register.hpp"

#include "plugins/samples/erp/amount.hpp"

namespace erp {
namespace {

Json write(const Matched& matched) {
  const Invoice& invoice = matched.invoice;
  Json lines = Json::array();
  for (const auto& line : invoice.lines) lines.push_back(Json{{"item", line.item}, {"amount", line.amount}});
  return Json{{"sequence", matched.sequence}, {"file", invoice.file}, {"vendor", invoice.vendor}, {"vat", invoice.vat},
              {"invoice", invoice.number}, {"date", invoice.date}, {"order", invoice.order}, {"lines", std::move(lines)},
              {"total", invoice.total}, {"iban", invoice.iban}, {"decision", matched.decision.decision},
              {"reason", matched.decision.reason}, {"vendor_id", matched.decision.vendor_id}, {"cents", matched.decision.cents}};
}

Matched read(const Json& json) {
  const auto text = [&](const char* key) { return json.at(key).get<std::string>(); };
  Matched matched;
  matched.sequence = json.at("sequence").get<std::uint64_t>();
  matched.invoice = {text("file"), text("vendor"), text("vat"), text("invoice"), text("date"), text("order"), text("total"), text("iban"), {}};
  for (const auto& line : json.at("lines")) {
    matched.invoice.lines.push_back({line.at("item").get<std::string>(), line.at("amount").get<std::string>()});
  }
  matched.decision = {text("decision"), text("reason"), text("vendor_id"), json.at("cents").get<std::int64_t>()};
  return matched;
}

}  // namespace

Register::Register(const std::string& path) : lines_(path, [this](const Json& line) { take(line); }) {}

Register::Key Register::key_of(const Matched& matched) { return {matched.decision.vendor_id, compact(matched.invoice.number)}; }

void Register::take(const Json& line) {
  Matched matched = read(line);
  last_sequence_ = std::max(last_sequence_, matched.sequence);
  const std::string file = matched.invoice.file;
  if (const auto old = by_file_.find(file); old != by_file_.end()) by_key_[key_of(old->second)].erase({old->second.sequence, file});
  if (!matched.decision.vendor_id.empty()) by_key_[key_of(matched)].emplace(matched.sequence, file);
  by_file_.insert_or_assign(file, std::move(matched));
}

Decision Register::match(const Books& books, const Invoice& invoice, std::int64_t limit_cents) {
  const std::lock_guard lock(mutex_);
  JsonLines::Turn turn(lines_);
  const Vendor* vendor = books.find_vendor(invoice.vat, invoice.vendor);
  Matched matched{last_sequence_ + 1, invoice, {}};
  matched.decision.vendor_id = vendor != nullptr ? vendor->id : "";
  const auto old = by_file_.find(invoice.file);
  if (old != by_file_.end() && key_of(old->second) == key_of(matched)) matched.sequence = old->second.sequence;
  std::optional<std::string> duplicate_of;
  if (const auto same = by_key_.find(key_of(matched)); vendor != nullptr && same != by_key_.end() && !same->second.empty()) {
    const auto& [sequence, file] = *same->second.begin();
    if (sequence < matched.sequence && file != invoice.file) duplicate_of = file;
  }
  matched.decision = decide(books, invoice, vendor, duplicate_of, limit_cents);
  const Json line = write(matched);
  if (old == by_file_.end() || write(old->second) != line) turn.append(line);
  return matched.decision;
}

std::optional<Matched> Register::find(const std::string& file) {
  const std::lock_guard lock(mutex_);
  const JsonLines::Turn turn(lines_);
  const auto found = by_file_.find(file);
  return found == by_file_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<Matched> Register::all() {
  const std::lock_guard lock(mutex_);
  const JsonLines::Turn turn(lines_);
  std::vector<Matched> list;
  for (const auto& [file, matched] : by_file_) list.push_back(matched);
  return list;
}

std::string join_lines(const Invoice& invoice) {
  std::string text;
  for (const auto& line : invoice.lines) text += (text.empty() ? "" : "|") + line.item + "=" + line.amount;
  return text;
}

}  // namespace erp
