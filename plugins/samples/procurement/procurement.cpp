// Purchase orders to practise with: budgets from a CSV file, orders that happen once, a log of what was done.

#include "plugins/samples/erp/amount.hpp"
#include "plugins/samples/erp/table.hpp"
#include "plugins/samples/procurement/ledger.hpp"
#include "plugins/sdk/kontor_plugin.hpp"

#include <stdexcept>
#include <string>
#include <vector>

namespace procurement {
namespace {

using kontor::plugin::Call;
using kontor::plugin::call;
using kontor::plugin::Effect;
using kontor::plugin::probe;
using kontor::plugin::Probed;
using kontor::plugin::Setup;
using kontor::plugin::Text;
using kontor::plugin::ToolError;

std::string quoted(const std::string& text) { return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string path_of(const Setup& setup, const char* key) {
  const auto found = setup.config.find(key);
  if (found == setup.config.end() || !found->is_string() || found->get<std::string>().empty()) throw std::runtime_error(std::string("config: \"") + key + "\" is not a path");
  return setup.path(found->get<std::string>());
}

class Procurement {
 public:
  explicit Procurement(const Setup& setup) : ledger_(read_budgets(setup), path_of(setup, "log")) {}

  /// Is there money for a request? What was ordered before has its money already.
  Text check(const Json& arguments, Call&) {
    const Request request = read(arguments);
    const auto before = ledger_.outcome(request.id);
    const std::int64_t left = ledger_.remaining(request.cost_center);
    const bool fits = request.cents <= left || (before && before->status == "ordered");
    return {"{\"fits\": " + std::string(fits ? "true" : "false") + ", \"remaining\": " + quoted(erp::print_amount(left)) + ", \"reason\": " +
            quoted(fits ? "" : over_budget(request.cents, left)) + "}"};
  }

  Text order(const Json& arguments, Call& call) { return answer(ledger_.order(call.idempotency_key(), read(arguments), arguments.at("approved_by").get<std::string>())); }

  Probed probe_order(const Json&, Call& call) {
    if (call.idempotency_key().empty()) return Probed::unknown();
    const auto found = ledger_.by_key(call.idempotency_key());
    return found ? Probed::happened(answer(*found)) : Probed::not_happened();
  }

  Text reject(const Json& arguments, Call& call) {
    return answer(ledger_.reject(call.idempotency_key(), arguments.at("id").get<std::string>(), arguments.at("reason").get<std::string>()));
  }

  Text outcome(const Json& arguments, Call&) {
    const auto found = ledger_.outcome(arguments.at("id").get<std::string>());
    if (!found) throw ToolError("not_found", "nothing was decided about this request");
    return answer(*found);
  }

  Text budgets(const Json&, Call&) {
    std::string rows;
    for (const auto& [name, cents] : ledger_.budgets()) {
      rows += (rows.empty() ? "" : ", ") + std::string("{\"cost_center\": ") + quoted(name) + ", \"remaining\": " + quoted(erp::print_amount(cents)) + "}";
    }
    return {"{\"rows\": [" + rows + "]}"};
  }

 private:
  static Text answer(const Outcome& outcome) {
    return {"{\"id\": " + quoted(outcome.id) + ", \"status\": " + quoted(outcome.status) + ", \"approved_by_or_reason\": " + quoted(outcome.note) + ", \"po\": " + quoted(outcome.po) + "}"};
  }

  static std::int64_t cents_of(const std::string& printed) {
    const auto cents = erp::parse_amount(printed);
    if (!cents || *cents < 0) throw ToolError("invalid_arguments", "'" + printed.substr(0, 60) + "' is not an amount");
    return *cents;
  }

  static Request read(const Json& arguments) {
    const auto text = [&](const char* key) { return arguments.at(key).get<std::string>(); };
    const std::int64_t cents = cents_of(text("amount"));
    if (cents == 0) throw ToolError("invalid_arguments", "the amount is zero");
    return {text("id"), arguments.contains("item") ? text("item") : "", text("cost_center"), cents};
  }

  static std::map<std::string, std::int64_t> read_budgets(const Setup& setup) {
    const erp::Table table = erp::read_table(path_of(setup, "budgets"), {"cost_center", "remaining"});
    std::map<std::string, std::int64_t> budgets;
    for (const auto& row : table.rows) {
      const auto cents = erp::parse_amount(row.at("remaining"));
      if (!cents) throw std::runtime_error("budgets: '" + row.at("remaining") + "' is not an amount");
      if (!budgets.emplace(row.at("cost_center"), *cents).second) throw std::runtime_error("budgets: " + row.at("cost_center") + " stands twice");
    }
    return budgets;
  }

  Ledger ledger_;
};

}  // namespace
}  // namespace procurement

KONTOR_PLUGIN(
    procurement::Procurement, "procurement", "1.0.0", "Purchase orders to practise with: budgets, orders, rejections.",
    KONTOR_PERMISSIONS("read:config.budgets", "write:config.log"),
    {.name = "check",
     .description = "Tell whether the cost center has the money for a request.",
     .parameters = R"({"type": "object", "properties": {"id": {"type": "string"}, "amount": {"type": "string"}, "cost_center": {"type": "string"}},
       "required": ["id", "amount", "cost_center"], "additionalProperties": false})",
     .call = procurement::call<&procurement::Procurement::check>},
    {.name = "order",
     .description = "Order an approved request.",
     .parameters = R"({"type": "object", "properties": {"id": {"type": "string"}, "item": {"type": "string"}, "amount": {"type": "string"},
       "cost_center": {"type": "string"}, "approved_by": {"type": "string"}},
       "required": ["id", "item", "amount", "cost_center", "approved_by"], "additionalProperties": false})",
     .call = procurement::call<&procurement::Procurement::order>,
     .effect = procurement::Effect::once,
     .probe = procurement::probe<&procurement::Procurement::probe_order>},
    {.name = "reject",
     .description = "Reject a request.",
     .parameters = R"({"type": "object", "properties": {"id": {"type": "string"}, "reason": {"type": "string"}}, "required": ["id", "reason"],
       "additionalProperties": false})",
     .call = procurement::call<&procurement::Procurement::reject>,
     .effect = procurement::Effect::idempotent},
    {.name = "outcome",
     .description = "Tell what became of a request.",
     .parameters = R"({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": false})",
     .call = procurement::call<&procurement::Procurement::outcome>},
    {.name = "budgets",
     .description = "List what is left of the budgets.",
     .parameters = R"({"type": "object", "properties": {}, "additionalProperties": false})",
     .call = procurement::call<&procurement::Procurement::budgets>});
