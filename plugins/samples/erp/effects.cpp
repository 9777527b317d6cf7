#include "plugins/samples/erp/effects.hpp"

#include "plugins/samples/erp/amount.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

namespace erp {
namespace {

using kontor::plugin::ToolError;

std::string now_text() {
  const auto now = std::chrono::system_clock::now();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count();
  const std::time_t seconds = ms / 1000;
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[64];
  const std::size_t used = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + used, sizeof text - used, ".%03dZ", static_cast<int>(ms % 1000));
  return text;
}

std::string reference_text(std::uint64_t number) {
  std::string digits = std::to_string(number);
  if (digits.size() < 6) digits.insert(0, 6 - digits.size(), '0');
  return "PAY-" + digits;
}

std::string note_key(const std::string& kind, const Json& arguments) {
  return Json::array({kind, arguments.at("file"), arguments.at("reason")}).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Effects::Effects(const std::string& path) : lines_(path, [this](const Json& line) { take(line); }) {}

void Effects::take(const Json& line) {
  const auto text = [&](const char* key) { return line.at(key).get<std::string>(); };
  last_sequence_ = std::max(last_sequence_, line.at("sequence").get<std::uint64_t>());
  const Json& arguments = line.at("arguments");
  if (text("kind") != "pay") {
    noted_.emplace(note_key(text("kind"), arguments), "");
    return;
  }
  ++payments_;
  const Invoice invoice{text("vendor_id"), compact(text("invoice"))};
  const std::string file = arguments.at("file").get<std::string>();
  by_invoice_.emplace(invoice, Payment{text("reference"), file, text("amount"), compact(arguments.at("iban").get<std::string>())});
  by_file_.emplace(file, text("reference"));
  if (const auto key = text("key"); !key.empty()) by_key_.emplace(key, invoice);
}

void Effects::append(JsonLines::Turn& turn, Json line) {
  Json numbered{{"sequence", last_sequence_ + 1}};
  for (auto& [key, value] : line.items()) numbered[key] = std::move(value);
  numbered["time"] = now_text();
  turn.append(numbered);
}

std::string Effects::pay(const std::string& key, const Json& arguments, const Matched& matched) {
  const std::lock_guard lock(mutex_);
  JsonLines::Turn turn(lines_);
  const Invoice invoice{matched.decision.vendor_id, compact(matched.invoice.number)};
  const std::string amount = print_amount(matched.decision.cents);
  if (const auto same = by_key_.find(key); same != by_key_.end() && same->second != invoice) {
    throw ToolError("conflict", "the idempotency key was used for another invoice");
  }
  if (const auto paid = by_invoice_.find(invoice); paid != by_invoice_.end()) {
    if (paid->second.amount != amount || paid->second.iban != compact(matched.invoice.iban)) {
      throw ToolError("conflict", "invoice " + matched.invoice.number + " was paid as " + paid->second.reference + " with another amount or IBAN");
    }
    return paid->second.reference;
  }
  const std::string reference = reference_text(payments_ + 1);
  append(turn, Json{{"kind", "pay"}, {"key", key}, {"arguments", arguments}, {"reference", reference},
                    {"vendor_id", matched.decision.vendor_id}, {"invoice", matched.invoice.number}, {"amount", amount}});
  return reference;
}

std::optional<std::string> Effects::find_payment(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const JsonLines::Turn turn(lines_);
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? std::nullopt : std::optional(by_invoice_.at(found->second).reference);
}

void Effects::note(const std::string& kind, const std::string& key, const Json& arguments) {
  const std::lock_guard lock(mutex_);
  JsonLines::Turn turn(lines_);
  if (const auto paid = by_file_.find(arguments.at("file").get<std::string>()); paid != by_file_.end()) {
    throw ToolError("conflict", paid->first + " was already paid as " + paid->second);
  }
  if (noted_.count(note_key(kind, arguments)) > 0) return;
  append(turn, Json{{"kind", kind}, {"key", key}, {"arguments", arguments}});
}

}  // namespace erp
