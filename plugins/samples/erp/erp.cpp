// An ERP to practise with: vendors and orders from CSV files, a three-way match, payments that happen once.

#include "plugins/samples/erp/amount.hpp"
#include "plugins/samples/erp/effects.hpp"
#include "plugins/samples/erp/register.hpp"
#include "plugins/samples/erp/rules.hpp"
#include "plugins/samples/erp/table.hpp"
#include "plugins/sdk/kontor_plugin.hpp"

#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>

namespace erp {
namespace {

using kontor::plugin::Call;
using kontor::plugin::call;
using kontor::plugin::Effect;
using kontor::plugin::probe;
using kontor::plugin::Probed;
using kontor::plugin::Setup;
using kontor::plugin::Text;
using kontor::plugin::ToolError;

constexpr std::int64_t kLimitCents = 500'000;

std::string quoted(const std::string& text) { return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string path_of(const Setup& setup, const char* key, const std::string& otherwise = {}) {
  const auto found = setup.config.find(key);
  if (found == setup.config.end()) {
    if (otherwise.empty()) throw std::runtime_error(std::string("config: \"") + key + "\" is missing");
    return otherwise;
  }
  if (!found->is_string() || found->get<std::string>().empty()) throw std::runtime_error(std::string("config: \"") + key + "\" is not a path");
  return setup.path(found->get<std::string>());
}

/// A JSON number or a printed amount, without going through binary arithmetic: the shortest digits that a number reads
/// back from are the ones that were written.
std::optional<std::int64_t> cents_of(const Json& value) {
  if (value.is_string()) return parse_amount(value.get<std::string>());
  if (!value.is_number()) return std::nullopt;
  std::string text = value.dump();
  if (text.find_first_of("eE") != std::string::npos) return std::nullopt;
  const auto point = text.find('.');
  if (point != std::string::npos && text.size() - point - 1 > 2) return std::nullopt;
  if (point == std::string::npos) text += ".00";  // Never a group: 1234 is one thousand two hundred and thirty-four.
  return parse_amount(text);
}

Invoice read_invoice(const Json& arguments) {
  const auto text = [&](const char* key) { return arguments.at(key).get<std::string>(); };
  Invoice invoice{text("file"), text("vendor"), text("vat"), text("invoice"), text("date"), text("order"), text("total"), text("iban"), {}};
  if (invoice.file.empty()) throw ToolError("invalid_arguments", "file is empty");
  if (compact(invoice.number).empty()) throw ToolError("invalid_arguments", "invoice is empty");
  for (const auto& line : arguments.at("lines")) {
    invoice.lines.push_back({line.at("item").get<std::string>(), line.at("amount").get<std::string>()});
  }
  return invoice;
}

class Erp {
 public:
  explicit Erp(const Setup& setup)
      : vendors_(read_table(path_of(setup, "vendors"), {"vendor_id", "name", "vat", "iban", "status"})),
        orders_(read_table(path_of(setup, "orders"), {"po", "vendor_id", "amount", "status"})),
        books_(vendors_, orders_), limit_cents_(read_limit(setup.config)), effects_(path_of(setup, "log")),
        register_(path_of(setup, "state", default_state(path_of(setup, "log")))) {
    static const std::set<std::string> known = {"vendors", "orders", "log", "state", "limit"};
    for (const auto& [key, value] : setup.config.items()) {
      if (known.count(key) == 0) throw std::runtime_error("config: unknown key \"" + key + "\"; known are vendors, orders, log, state, limit");
    }
  }

  Text match(const Json& arguments, Call&) {
    const Invoice invoice = read_invoice(arguments);
    try {
      const Decision decision = register_.match(books_, invoice, limit_cents_);
      return {"{\"decision\": " + quoted(decision.decision) + ", \"reason\": " + quoted(decision.reason) + ", \"vendor_id\": " +
              quoted(decision.vendor_id) + ", \"amount\": " + print_amount(decision.cents) + "}"};
    } catch (const std::invalid_argument& error) {
      throw ToolError("invalid_arguments", error.what());
    }
  }

  Text pay(const Json& arguments, Call& call) {
    const auto matched = register_.find(arguments.at("file").get<std::string>());
    if (!matched) throw ToolError("refused", "this file was not matched; call erp.match first");
    const Decision& decision = matched->decision;
    if (decision.decision != "approve" && decision.decision != "needs_approval") {
      throw ToolError("refused", "the decision for this invoice is " + decision.decision + " (" + decision.reason + "), it cannot be paid");
    }
    if (arguments.at("vendor_id").get<std::string>() != decision.vendor_id) throw ToolError("refused", "vendor_id is not the one of the matched invoice");
    const auto cents = cents_of(arguments.at("amount"));
    if (!cents || *cents != decision.cents) {
      throw ToolError("refused", "amount is not the one of the matched invoice, which is " + print_amount(decision.cents));
    }
    const std::string iban = compact(arguments.at("iban").get<std::string>());
    const Vendor* vendor = books_.vendor(decision.vendor_id);
    if (iban != compact(matched->invoice.iban)) throw ToolError("refused", "iban is not the one of the matched invoice");
    if (vendor == nullptr || iban != compact(vendor->iban)) throw ToolError("refused", "iban is not the account of the vendor");
    return paid(effects_.pay(call.idempotency_key(), arguments, *matched));
  }

  Probed probe_pay(const Json&, Call& call) {
    if (call.idempotency_key().empty()) return Probed::unknown();
    const auto reference = effects_.find_payment(call.idempotency_key());
    return reference ? Probed::happened(paid(*reference)) : Probed::not_happened();
  }

  Text hold(const Json& arguments, Call& call) {
    effects_.note("hold", call.idempotency_key(), arguments);
    return {R"({"status": "held"})"};
  }

  Text reject(const Json& arguments, Call& call) {
    effects_.note("reject", call.idempotency_key(), arguments);
    return {R"({"status": "rejected"})"};
  }

  Json vendors(const Json&, Call&) { return rows_of(vendors_); }
  Json orders(const Json&, Call&) { return rows_of(orders_); }

  Text invoice(const Json& arguments, Call&) {
    const auto matched = register_.find(arguments.at("file").get<std::string>());
    if (!matched) throw ToolError("not_found", "this file was not matched");
    const Invoice& invoice = matched->invoice;
    const Decision& decision = matched->decision;
    return {"{\"file\": " + quoted(invoice.file) + ", \"vendor\": " + quoted(invoice.vendor) + ", \"vendor_id\": " + quoted(decision.vendor_id) +
            ", \"invoice\": " + quoted(invoice.number) + ", \"amount\": " + print_amount(decision.cents) + ", \"iban\": " + quoted(invoice.iban) +
            ", \"decision\": " + quoted(decision.decision) + ", \"reason\": " + quoted(decision.reason) + "}"};
  }

  Json list(const Json&, Call&) {
    Json rows = Json::array();
    for (const auto& matched : register_.all()) {
      const Invoice& invoice = matched.invoice;
      rows.push_back(Json{{"file", invoice.file}, {"decision", matched.decision.decision}, {"reason", matched.decision.reason},
                          {"vendor", invoice.vendor}, {"vat", invoice.vat}, {"invoice", invoice.number}, {"date", invoice.date},
                          {"order", invoice.order}, {"total", invoice.total}, {"iban", invoice.iban}, {"lines", join_lines(invoice)}});
    }
    return Json{{"rows", std::move(rows)}};
  }

 private:
  static Text paid(const std::string& reference) { return {"{\"status\": \"paid\", \"reference\": " + quoted(reference) + "}"}; }

  static Json rows_of(const Table& table) {
    Json rows = Json::array();
    for (const auto& row : table.rows) {
      Json object = Json::object();
      for (const auto& column : table.columns) object[column] = row.at(column);
      rows.push_back(std::move(object));
    }
    return Json{{"rows", std::move(rows)}};
  }

  static std::int64_t read_limit(const Json& config) {
    const auto found = config.find("limit");
    if (found == config.end()) return kLimitCents;
    const auto cents = cents_of(*found);
    if (!cents || *cents < 0) throw std::runtime_error("config: \"limit\" is not an amount");
    return *cents;
  }

  static std::string default_state(const std::string& log) {
    return (std::filesystem::path(log).parent_path() / "register.jsonl").string();
  }

  const Table vendors_, orders_;
  const Books books_;
  const std::int64_t limit_cents_;
  Effects effects_;
  Register register_;
};

}  // namespace
}  // namespace erp

/// A value that stands in the conversation: models inside Kontor cannot write anything else.
#define COPIED R"({"type": "string", "x-verbatim": true})"
#define NO_PARAMETERS R"({"type": "object", "properties": {}, "additionalProperties": false})"
#define FILE_PARAMETERS R"({"type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"], "additionalProperties": false})"
#define FILE_AND_REASON \
  R"({"type": "object", "properties": {"file": )" COPIED R"(, "reason": {"type": "string"}}, "required": ["file", "reason"], "additionalProperties": false})"

KONTOR_PLUGIN(
    erp::Erp, "erp", "1.0.0", "An ERP to practise with: three-way match, payments, holds, rejections.",
    KONTOR_PERMISSIONS("read:config.vendors", "read:config.orders", "write:config.log", "write:config.state"),
    {.name = "match",
     .description = "Match an invoice against vendors and orders. Copy every value exactly as printed.",
     .parameters = R"({"type": "object", "properties": {"file": )" COPIED R"(, "vendor": )" COPIED R"(,
       "vat": )" COPIED R"(, "invoice": )" COPIED R"(, "date": )" COPIED R"(, "order": )" COPIED R"(,
       "lines": {"type": "array", "items": {"type": "object", "properties": {"item": )" COPIED R"(,
       "amount": )" COPIED R"(}, "required": ["item", "amount"], "additionalProperties": false}},
       "total": )" COPIED R"(, "iban": )" COPIED R"(},
       "required": ["file", "vendor", "vat", "invoice", "date", "order", "lines", "total", "iban"],
       "additionalProperties": false})",
     .call = erp::call<&erp::Erp::match>,
     .effect = erp::Effect::idempotent},
    {.name = "pay",
     .description = "Pay an approved invoice.",
     .parameters = R"({"type": "object", "properties": {"file": )" COPIED R"(, "vendor_id": )" COPIED R"(,
       "amount": {"type": "number"}, "iban": )" COPIED R"(}, "required": ["file", "vendor_id", "amount", "iban"],
       "additionalProperties": false})",
     .call = erp::call<&erp::Erp::pay>,
     .effect = erp::Effect::once,
     .probe = erp::probe<&erp::Erp::probe_pay>},
    {.name = "hold",
     .description = "Put an invoice on hold.",
     .parameters = FILE_AND_REASON,
     .call = erp::call<&erp::Erp::hold>,
     .effect = erp::Effect::idempotent},
    {.name = "reject",
     .description = "Reject an invoice.",
     .parameters = FILE_AND_REASON,
     .call = erp::call<&erp::Erp::reject>,
     .effect = erp::Effect::idempotent},
    {.name = "vendors", .description = "List the vendors.", .parameters = NO_PARAMETERS, .call = erp::call<&erp::Erp::vendors>},
    {.name = "orders", .description = "List the purchase orders.", .parameters = NO_PARAMETERS, .call = erp::call<&erp::Erp::orders>},
    {.name = "invoice", .description = "Show a matched invoice.", .parameters = FILE_PARAMETERS, .call = erp::call<&erp::Erp::invoice>},
    {.name = "register", .description = "List all matched invoices.", .parameters = NO_PARAMETERS, .call = erp::call<&erp::Erp::list>});
