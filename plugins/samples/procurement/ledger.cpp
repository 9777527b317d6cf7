#include "plugins/samples/procurement/ledger.hpp"

#include "plugins/samples/erp/amount.hpp"

#include <algorithm>

namespace procurement {
namespace {

using kontor::plugin::ToolError;

std::string order_number(std::uint64_t number) {
  std::string digits = std::to_string(number);
  if (digits.size() < 4) digits.insert(0, 4 - digits.size(), '0');
  return "PO-" + digits;
}

}  // namespace

std::string over_budget(std::int64_t cents, std::int64_t remaining) { return "budget: " + erp::print_amount(cents) + " > " + erp::print_amount(remaining); }

Ledger::Ledger(std::map<std::string, std::int64_t> budgets, const std::string& path)
    : budgets_(std::move(budgets)), lines_(path, [this](const Json& line) { take(line); }) {}

void Ledger::take(const Json& line) {
  const auto text = [&](const char* key) { return line.at(key).get<std::string>(); };
  last_sequence_ = std::max(last_sequence_, line.at("sequence").get<std::uint64_t>());
  const Outcome outcome{text("id"), text("kind") == "order" ? "ordered" : "rejected", text("note"), text("po")};
  if (outcome.status == "ordered") {
    ++orders_;
    spent_[text("cost_center")] += line.at("cents").get<std::int64_t>();
  }
  if (const auto key = text("key"); !key.empty()) requests_.emplace(key, outcome.id);
  outcomes_.emplace(outcome.id, outcome);
}

std::int64_t Ledger::left_of(const std::string& cost_center) const {
  const auto budget = budgets_.find(cost_center);
  if (budget == budgets_.end()) throw ToolError("not_found", "there is no cost center " + cost_center);
  const auto spent = spent_.find(cost_center);
  return budget->second - (spent == spent_.end() ? 0 : spent->second);
}

std::int64_t Ledger::remaining(const std::string& cost_center) {
  const std::lock_guard lock(mutex_);
  const erp::JsonLines::Turn turn(lines_);
  return left_of(cost_center);
}

Outcome Ledger::append(erp::JsonLines::Turn& turn, const std::string& kind, const std::string& key, const Request& request, const std::string& note) {
  turn.append(Json{{"sequence", last_sequence_ + 1}, {"kind", kind}, {"key", key}, {"id", request.id}, {"item", request.item}, {"cost_center", request.cost_center},
                   {"cents", request.cents}, {"note", note}, {"po", kind == "order" ? order_number(orders_ + 1) : ""}});
  return outcomes_.at(request.id);
}

Outcome Ledger::order(const std::string& key, const Request& request, const std::string& approved_by) {
  const std::lock_guard lock(mutex_);
  erp::JsonLines::Turn turn(lines_);
  if (const auto same = requests_.find(key); !key.empty() && same != requests_.end() && same->second != request.id) {
    throw ToolError("conflict", "the idempotency key was used for another request");
  }
  if (const auto known = outcomes_.find(request.id); known != outcomes_.end()) return known->second;
  const std::int64_t left = left_of(request.cost_center);
  if (request.cents > left) return append(turn, "reject", key, request, over_budget(request.cents, left));
  return append(turn, "order", key, request, approved_by);
}

Outcome Ledger::reject(const std::string& key, const std::string& id, const std::string& reason) {
  const std::lock_guard lock(mutex_);
  erp::JsonLines::Turn turn(lines_);
  if (const auto known = outcomes_.find(id); known != outcomes_.end()) return known->second;
  return append(turn, "reject", key, Request{id, "", "", 0}, reason);
}

std::optional<Outcome> Ledger::outcome(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const erp::JsonLines::Turn turn(lines_);
  const auto found = outcomes_.find(id);
  return found == outcomes_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<Outcome> Ledger::by_key(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const erp::JsonLines::Turn turn(lines_);
  const auto found = requests_.find(key);
  return found == requests_.end() ? std::nullopt : std::optional(outcomes_.at(found->second));
}

std::vector<std::pair<std::string, std::int64_t>> Ledger::budgets() {
  const std::lock_guard lock(mutex_);
  const erp::JsonLines::Turn turn(lines_);
  std::vector<std::pair<std::string, std::int64_t>> list;
  for (const auto& [name, cents] : budgets_) list.emplace_back(name, left_of(name));
  return list;
}

}  // namespace procurement
