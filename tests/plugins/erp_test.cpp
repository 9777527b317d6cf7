#include "base/hash.hpp"
#include "base/json.hpp"
#include "plugins/host/loader.hpp"
#include "plugins/samples/erp/amount.hpp"
#include "plugins/samples/erp/table.hpp"
#include "tests/support/catch.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <vector>

using namespace kontor;
namespace fs = std::filesystem;

namespace {

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

constexpr const char* kVendors =
    "vendor_id,name,vat,iban,status,gl_account\n"
    "V-100,Nordwind Logistik GmbH,DE811907980,DE44500105175407324931,approved,6300\n"
    "V-101,Atlas Office Supplies Ltd,GB233451289,GB29NWBK60161331926819,approved,6815\n"
    "V-102,Solvera Cloud SAS,FR40303265045,FR1420041010050500013M02606,approved,6820\n"
    "V-103,Bright Paper Co,GB998877665,GB33BUKB20201555555555,blocked,6815\n";
constexpr const char* kOrders =
    "po,vendor_id,amount,status\n"
    "PO-7001,V-100,4800.00,open\n"
    "PO-7002,V-101,1250.00,open\n"
    "PO-7003,V-102,9600.00,open\n"
    "PO-7004,V-101,310.50,closed\n";

/// A folder with master data and an ERP on it; `reopen` starts the plugin anew on the same files.
class Office {
 public:
  explicit Office(const std::string& vendors = kVendors, const std::string& orders = kOrders)
      : folder_(fs::temp_directory_path() / ("kontor-erp-" + std::to_string(::getpid()) + "-" + std::to_string(counter()++))) {
    fs::create_directories(folder_);
    std::ofstream(folder_ / "vendors.csv") << vendors;
    std::ofstream(folder_ / "purchase_orders.csv") << orders;
    reopen();
  }
  ~Office() {
    registry_.reset();
    fs::remove_all(folder_);
  }

  plugins::PluginOptions options() const {
    plugins::PluginOptions options;
    options.path = std::string(KONTOR_BINARY_DIR) + "/plugins/liberp.so";
    options.group = "erp";
    options.base_dir = folder_.string();
    options.config = Json{{"vendors", "vendors.csv"}, {"orders", "purchase_orders.csv"}, {"log", "out/effects.jsonl"}, {"limit", limit}};
    return options;
  }

  void reopen() {
    registry_.reset();
    registry_ = make();
  }
  std::unique_ptr<tools::Registry> make() const {
    auto plugin = plugins::load_plugin(options());
    if (!plugin) throw std::runtime_error(plugin.error().describe());
    auto registry = std::make_unique<tools::Registry>();
    for (auto& tool : plugin->tools) registry->add(tool).value();
    return registry;
  }

  tools::ToolResult call(const std::string& name, const Json& arguments, const std::string& key = {}) const {
    tools::CallContext context;
    context.idempotency_key = key;
    return registry_->call("erp." + name, arguments, context);
  }
  tools::Probe probe(const Json& arguments, const std::string& key) const {
    tools::CallContext context;
    context.idempotency_key = key;
    return registry_->find("erp.pay")->probe(arguments, context);
  }
  std::vector<Json> effects() const {
    std::vector<Json> list;
    std::ifstream file(folder_ / "out" / "effects.jsonl");
    for (std::string line; std::getline(file, line);) list.push_back(parse_json(line).value());
    return list;
  }
  const fs::path& folder() const { return folder_; }

  Json limit = 5000;

 private:
  static int& counter() {
    static int count = 0;
    return count;
  }
  fs::path folder_;
  std::unique_ptr<tools::Registry> registry_;
};

Json invoice(const std::string& file, const std::string& vendor, const std::string& vat, const std::string& number, const std::string& order,
             const std::vector<std::pair<std::string, std::string>>& lines, const std::string& total, const std::string& iban) {
  Json list = Json::array();
  for (const auto& [item, amount] : lines) list.push_back(Json{{"item", item}, {"amount", amount}});
  return Json{{"file", file}, {"vendor", vendor}, {"vat", vat}, {"invoice", number}, {"date", "2026-10-03"}, {"order", order},
              {"lines", std::move(list)}, {"total", total}, {"iban", iban}};
}

Json nordwind(const std::string& file = "inv-001.txt") {
  return invoice(file, "Nordwind Logistik GmbH", "DE811907980", "NW-2291", "PO-7001", {{"Palettentransport KW39", "4800.00"}}, "4800.00",
                 "DE44500105175407324931");
}

Json payment(const std::string& file = "inv-001.txt") {
  return parse_json(R"({"file": ")" + file + R"(", "vendor_id": "V-100", "amount": 4800.00, "iban": "DE44500105175407324931"})").value();
}

/// The invoices of the example's inbox, read by hand.
std::vector<Json> example_inbox() {
  return {
      nordwind(),
      invoice("inv-002.txt", "Atlas Office Supplies Ltd", "GB233451289", "A-5510", "PO-7002", {{"Desk chairs", "1250.00"}}, "1250.00", "GB29NWBK60161331926819"),
      invoice("inv-003.txt", "Solvera Cloud SAS", "FR40303265045", "SC-88123", "PO-7003", {{"Compute Q3", "9600.00"}}, "9600.00", "FR1420041010050500013M02606"),
      nordwind("inv-004.txt"),
      invoice("inv-005.txt", "Atlas Office Supplies Ltd", "GB233451289", "A-5533", "PO-7002", {{"Whiteboards", "280.00"}}, "280.00", "GB82WEST12345698765432"),
      invoice("inv-006.txt", "Bright Paper Co", "GB998877665", "BP-017", "-", {{"A4 paper", "196.00"}}, "196.00", "GB33BUKB20201555555555"),
      invoice("inv-007.txt", "Atlas Office Supplies Ltd", "GB233451289", "A-5540", "PO-7004", {{"Toner", "310.50"}}, "310.50", "GB29NWBK60161331926819"),
      invoice("inv-008.txt", "Solvera Cloud SAS", "FR40303265045", "SC-88190", "PO-7003", {{"Storage", "120.00"}, {"Egress", "55.00"}}, "185.00",
              "FR1420041010050500013M02606")};
}

constexpr const char* kExpected =
    "file,decision,reason\n"
    "inv-001.txt,approve,three_way_match\n"
    "inv-002.txt,approve,three_way_match\n"
    "inv-003.txt,needs_approval,amount_over_5000\n"
    "inv-004.txt,reject,duplicate_of:inv-001.txt\n"
    "inv-005.txt,hold,iban_changed\n"
    "inv-006.txt,reject,vendor_blocked\n"
    "inv-007.txt,hold,po_closed\n"
    "inv-008.txt,hold,sum_mismatch:175.00!=185.00\n";

std::string decisions(const Office& office) {
  std::string table = "file,decision,reason\n";
  const auto result = office.call("register", Json::object());
  for (const auto& row : result.value.at("rows")) {
    table += row.at("file").get<std::string>() + "," + row.at("decision").get<std::string>() + "," + row.at("reason").get<std::string>() + "\n";
  }
  return table;
}

std::string word(const tools::ToolResult& result) { return result.value.value("reason", result.error_kind + ": " + result.value.value("error", "")); }

}  // namespace

TEST_CASE("printed amounts are read as exact cents") {
  const struct {
    const char* text;
    std::optional<std::int64_t> cents;
  } cases[] = {
      {"4800.00", 480000},      {"4,800.00", 480000},     {"4.800,00", 480000},      {"4 800,00", 480000},      {"4'800.00", 480000},
      {"4800,00", 480000},      {"4800", 480000},         {"4800.5", 480050},        {"4\u00a0800,00", 480000}, {"4\u202f800,00", 480000},
      {"4\u2019800.00", 480000}, {"EUR 4800.00", 480000}, {"4.800,00 \u20ac", 480000}, {"\u20ac4,800.00", 480000}, {"CHF 4'800.-", 480000},
      {"4800,-- EUR", 480000},  {"Fr. 12.50", 1250},      {"12.50 Fr.", 1250},       {"$1,234,567.89", 123456789}, {"1.234.567,89", 123456789},
      {"1.234.567", 123456700}, {"1,234,567", 123456700}, {"1.234", 123400},         {"1,234", 123400},         {"0.125", std::nullopt},
      {"0.120", 12},            {"4800.000", 480000},     {"4 800,000", 480000},     {"1 234 567", 123456700},  {"-12.50", -1250},
      {"12.50-", -1250},        {"(12.50)", -1250},       {"EUR -12.50", -1250},     {"\u221212.50", -1250},    {"+3.00", 300},
      {"0.01", 1},              {"0,00", 0},              {"99999999999999.99", 9999999999999999}, {"", std::nullopt}, {"EUR", std::nullopt},
      {"12.345.67", std::nullopt}, {"1,23,456", std::nullopt}, {"1.234,567.89", std::nullopt}, {"1 23", std::nullopt}, {"12..5", std::nullopt},
      {".5", std::nullopt},     {"5.", std::nullopt},     {"1e3", std::nullopt},     {"--5", std::nullopt},     {"12.3a", std::nullopt},  {"a12.3", std::nullopt},
      {"EUROS 5", std::nullopt}, {"- EUR -5", std::nullopt}, {"12,50 z\u0142", 1250}, {"12,50 K\u010d", 1250},
      {"999999999999999.00", std::nullopt}, {"1'234,567", std::nullopt}, {"4.800.00", std::nullopt},
  };
  int passed = 0, failed = 0;
  for (const auto& wanted : cases) {
    const bool right = erp::parse_amount(wanted.text) == wanted.cents;
    if (!right) {
      const auto got = erp::parse_amount(wanted.text);
      std::printf("amount \"%s\": got %s\n", wanted.text, got ? std::to_string(*got).c_str() : "nothing");
    }
    ++(right ? passed : failed);
  }
  kontor::test::count_cases("amounts", passed, failed);
  REQUIRE(failed == 0);
  CHECK(erp::print_amount(480000) == "4800.00");
  CHECK(erp::print_amount(-5) == "-0.05");
}

TEST_CASE("CSV with quotes, line breaks and a byte order mark is read; broken CSV names its line") {
  const auto table = erp::parse_table("\xEF\xBB\xBF" "a,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n\r\n2,\n", "t.csv", {"a"});
  REQUIRE(table.rows.size() == 2);
  CHECK(table.rows[0].at("b") == "x, \"y\"\nz");
  CHECK(table.rows[1].at("b").empty());
  const auto refused = [](const char* text, const std::vector<std::string>& required) -> std::string {
    try {
      erp::parse_table(text, "t.csv", required);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "accepted";
  };
  CHECK(refused("a,b\n1\n", {}).find("t.csv:2") == 0);
  CHECK(refused("a,b\n", {"c"}).find("\"c\"") != std::string::npos);
  CHECK(refused("a\n\"1\n", {}).find("t.csv:2") == 0);
  CHECK(refused("", {}).find("t.csv:1") == 0);
}

namespace {

/// A schema as a model is shown it: the mark of copied values is for decoding alone.
Json shown(Json schema) {
  if (schema.is_object()) schema.erase("x-verbatim");
  if (schema.is_structured()) {
    for (Json& part : schema) part = shown(part);
  }
  return schema;
}

}  // namespace

TEST_CASE("the tools that the pocket model was trained with are declared letter for letter") {
  const Office office;
  const auto prompt = parse_json(read_file(std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket_prompt.json")).value();
  const auto plugin = plugins::load_plugin(office.options()).value();
  REQUIRE(prompt.at("tools").size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& spec = plugin.tools[i]->spec();
    const Json declared{{"name", spec.name}, {"description", spec.description}, {"parameters", shown(spec.parameters)}};
    CHECK(spaced_json(declared) == spaced_json(prompt.at("tools")[i]));
  }
  CHECK(plugin.tools[1]->spec().effect == tools::Effect::once);
  CHECK(plugin.tools[1]->spec().has_probe);
}

TEST_CASE("the example's inbox gets the expected decisions, a second time too") {
  Office office;
  for (int run = 0; run < 2; ++run) {
    for (const auto& document : example_inbox()) REQUIRE_FALSE(office.call("match", document).is_error);
    CHECK(decisions(office) == kExpected);
    office.reopen();
  }
  const auto shared = kontor::test::shared_dir();
  const auto path = fs::path(shared) / "cases/workflows/1-invoice-triage/expected.csv";
  if (!shared.empty() && fs::exists(path)) CHECK(decisions(office) == read_file(path));
}

TEST_CASE("results are spelled as the pocket model saw them") {
  const Office office;
  const auto inbox = example_inbox();
  const auto prompt = parse_json(read_file(std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket_prompt.json")).value().at("tool_results");
  CHECK(office.call("match", inbox[0]).text == prompt.at("erp.match approve").get<std::string>());
  CHECK(office.call("match", inbox[4]).text == prompt.at("erp.match other").get<std::string>());
  auto stranger = inbox[4];
  stranger["vendor"] = "Nobody Ltd", stranger["vat"] = "XX1", stranger["file"] = "inv-099.txt";
  CHECK(office.call("match", stranger).text == prompt.at("erp.match vendor not found").get<std::string>());
  CHECK(office.call("pay", payment()).text == prompt.at("erp.pay").get<std::string>());
  CHECK(office.call("hold", Json{{"file", "inv-005.txt"}, {"reason", "iban_changed"}}).text == prompt.at("erp.hold").get<std::string>());
  CHECK(office.call("reject", Json{{"file", "inv-004.txt"}, {"reason", "duplicate_of:inv-001.txt"}}).text == prompt.at("erp.reject").get<std::string>());
}

TEST_CASE("generated sets get the decisions their generator planned") {
  int passed = 0, failed = 0;
  for (const auto* name : {"trained", "other"}) {
    const auto folder = fs::path(kontor::test::corpus_path("erp")) / name;
    const Office office(read_file(folder / "vendors.csv"), read_file(folder / "purchase_orders.csv"));
    const auto fields = erp::read_table((folder / "fields.csv").string(), {"file", "lines"});
    const auto expected = erp::read_table((folder / "expected.csv").string(), {"decision"});
    for (std::size_t i = 0; i < fields.rows.size(); ++i) {
      const auto& row = fields.rows[i];
      std::vector<std::pair<std::string, std::string>> lines;
      std::string rest = row.at("lines");
      while (!rest.empty()) {
        const auto bar = std::min(rest.find('|'), rest.size());
        const std::string line = rest.substr(0, bar);
        lines.emplace_back(line.substr(0, line.rfind('=')), line.substr(line.rfind('=') + 1));
        rest.erase(0, bar + 1);
      }
      auto document = invoice(row.at("file"), row.at("vendor"), row.at("vat"), row.at("invoice"), row.at("order"), lines, row.at("total"), row.at("iban"));
      const auto result = office.call("match", document);
      const bool right = !result.is_error && result.value.at("decision") == expected.rows[i].at("decision") &&
                         result.value.at("reason") == expected.rows[i].at("reason");
      if (!right) std::printf("%s %s: %s instead of %s\n", name, row.at("file").c_str(), word(result).c_str(), expected.rows[i].at("reason").c_str());
      ++(right ? passed : failed);
    }
    const auto rows = office.call("register", Json::object()).value.at("rows");
    REQUIRE(rows.size() == fields.rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (const auto* column : {"file", "vendor", "vat", "invoice", "order", "total", "iban", "lines"}) {
        CHECK(rows[i].at(column).get<std::string>() == fields.rows[i].at(column));
      }
    }
  }
  kontor::test::count_cases("erp", passed, failed);
  REQUIRE(failed == 0);
}

TEST_CASE("a payment is made once, whatever is repeated") {
  Office office;
  office.call("match", nordwind());
  CHECK(office.probe(payment(), "run/pay/1").state == tools::Probe::State::not_happened);
  CHECK(office.probe(payment(), "").state == tools::Probe::State::unknown);
  const auto first = office.call("pay", payment(), "run/pay/1");
  CHECK(first.value.at("reference") == "PAY-000001");
  CHECK(office.call("pay", payment(), "run/pay/1").text == first.text);
  CHECK(office.call("pay", payment(), "run/pay/2").text == first.text);
  office.reopen();
  CHECK(office.call("pay", payment(), "run/pay/3").text == first.text);
  const auto probe = office.probe(payment(), "run/pay/1");
  CHECK(probe.state == tools::Probe::State::happened);
  CHECK(probe.value == first.value);
  const auto effects = office.effects();
  REQUIRE(effects.size() == 1);
  CHECK(effects[0].at("sequence") == 1);
  CHECK(effects[0].at("kind") == "pay");
  CHECK(effects[0].at("key") == "run/pay/1");
  CHECK(effects[0].at("arguments") == payment());
  CHECK(effects[0].at("time").get<std::string>().size() == 24);
}

TEST_CASE("a payment that does not fit the matched invoice is refused") {
  const Office office;
  CHECK(office.call("pay", payment()).error_kind == "refused");
  for (const auto& document : example_inbox()) office.call("match", document);
  const auto change = [](const char* key, const Json& value) {
    auto arguments = payment();
    arguments[key] = value;
    return arguments;
  };
  for (const auto& wrong : {change("vendor_id", "V-101"), change("amount", 4800.01), change("amount", 480), change("amount", 4800.001),
                            change("iban", "GB82WEST12345698765432"), change("file", "inv-004.txt"), change("file", "inv-009.txt")}) {
    const auto result = office.call("pay", wrong);
    CHECK(result.is_error);
    CHECK(result.error_kind == "refused");
  }
  CHECK(office.effects().empty());
  CHECK_FALSE(office.call("pay", change("iban", "de44 5001 0517 5407 3249 31")).is_error);
  CHECK(office.call("hold", Json{{"file", "inv-001.txt"}, {"reason", "late"}}).error_kind == "conflict");
  const Json approved{{"file", "inv-003.txt"}, {"vendor_id", "V-102"}, {"amount", 9600}, {"iban", "FR1420041010050500013M02606"}};
  CHECK(office.call("pay", approved).value.at("reference") == "PAY-000002");
}

TEST_CASE("holds and rejections are written once each") {
  const Office office;
  for (int i = 0; i < 2; ++i) {
    CHECK_FALSE(office.call("hold", Json{{"file", "a.txt"}, {"reason", "iban_changed"}}, "key" + std::to_string(i)).is_error);
    CHECK_FALSE(office.call("reject", Json{{"file", "a.txt"}, {"reason", "iban_changed"}}).is_error);
  }
  CHECK(office.effects().size() == 2);
}

TEST_CASE("values are compared without blanks and case, and the register keeps them as sent") {
  const Office office;
  auto document = nordwind();
  document["vat"] = "de 811 907 980";
  document["iban"] = "DE44 5001 0517 5407 3249 31";
  document["total"] = "4.800,00 \u20ac";
  document["lines"][0]["amount"] = "4'800.00";
  CHECK(office.call("match", document).value.at("reason") == "three_way_match");
  const auto row = office.call("register", Json::object()).value.at("rows").at(0);
  CHECK(row.at("iban") == document["iban"]);
  CHECK(row.at("total") == document["total"]);
  CHECK(row.at("lines") == "Palettentransport KW39=4'800.00");
  CHECK(office.call("invoice", Json{{"file", "inv-001.txt"}}).text.find("\"amount\": 4800.00") != std::string::npos);
  CHECK(office.call("invoice", Json{{"file", "none"}}).error_kind == "not_found");
  document["total"] = "much";
  const auto wrong = office.call("match", document);
  CHECK(wrong.error_kind == "invalid_arguments");
  CHECK(word(wrong).find("much") != std::string::npos);
}

TEST_CASE("every rule decides, in its order") {
  const Office office;
  int number = 0;
  const auto reason = [&](const char* key, const Json& value) {
    auto document = nordwind("f" + std::to_string(++number));
    document["invoice"] = "N-" + std::to_string(number);
    if (key != nullptr) document[key] = value;
    return word(office.call("match", document));
  };
  CHECK(reason(nullptr, nullptr) == "three_way_match");
  CHECK(reason("vat", "unknown") == "three_way_match");  // Found by its name.
  CHECK(reason("order", "") == "po_missing");
  CHECK(reason("order", " - ") == "po_missing");
  CHECK(reason("order", "PO-9") == "po_unknown");
  CHECK(reason("order", "PO-7002") == "po_vendor_mismatch");
  CHECK(reason("total", "4799.99") == "sum_mismatch:4800.00!=4799.99");
  auto over = nordwind("over");
  over["invoice"] = "N-over", over["total"] = "4800.01", over["lines"][0]["amount"] = "4800.01";
  CHECK(word(office.call("match", over)) == "amount_over_order");
}

TEST_CASE("a document that changes its number gives the old one free") {
  const Office office;
  office.call("match", nordwind("a.txt"));
  CHECK(word(office.call("match", nordwind("b.txt"))) == "duplicate_of:a.txt");
  auto changed = nordwind("a.txt");
  changed["invoice"] = "NW-9999";
  CHECK(word(office.call("match", changed)) == "three_way_match");
  CHECK(word(office.call("match", nordwind("b.txt"))) == "three_way_match");
  CHECK(word(office.call("match", nordwind("a.txt"))) == "duplicate_of:b.txt");
}

TEST_CASE("two processes on the same files agree, also in parallel") {
  const Office office;
  const auto second = office.make();
  std::vector<std::thread> threads;
  std::vector<std::string> references(8);
  office.call("match", nordwind());
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      tools::CallContext context;
      context.idempotency_key = "key" + std::to_string(i);
      const auto result = i % 2 == 0 ? office.call("pay", payment(), context.idempotency_key) : second->call("erp.pay", payment(), context);
      references[static_cast<std::size_t>(i)] = result.value.value("reference", word(result));
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& reference : references) CHECK(reference == "PAY-000001");
  CHECK(office.effects().size() == 1);
}

TEST_CASE("a half-written last line is cut off, a damaged line is an error") {
  Office office;
  office.call("match", nordwind());
  office.call("pay", payment(), "k1");
  std::ofstream(office.folder() / "out" / "effects.jsonl", std::ios::app) << "{\"sequence\": 2, \"kind\": \"pa";
  office.reopen();
  CHECK(office.call("pay", payment(), "k2").value.at("reference") == "PAY-000001");
  CHECK(office.effects().size() == 1);
  std::ofstream(office.folder() / "out" / "effects.jsonl", std::ios::app) << "nonsense\n";
  const auto broken = plugins::load_plugin(office.options());
  REQUIRE(broken.has_error());
  CHECK(broken.error().message.find("effects.jsonl:2") != std::string::npos);
}

TEST_CASE("wrong configurations are refused with the key at fault") {
  const Office office;
  const auto refused = [&](const char* key, const Json& value) {
    auto options = office.options();
    if (value.is_null()) options.config.erase(key);
    else options.config[key] = value;
    const auto plugin = plugins::load_plugin(options);
    return plugin ? std::string("accepted") : plugin.error().message;
  };
  CHECK(refused("vendors", nullptr).find("\"vendors\"") != std::string::npos);
  CHECK(refused("vendors", "none.csv").find("none.csv") != std::string::npos);
  CHECK(refused("orders", "vendors.csv").find("\"po\"") != std::string::npos);
  CHECK(refused("limit", "plenty").find("\"limit\"") != std::string::npos);
  CHECK(refused("limits", 1).find("\"limits\"") != std::string::npos);
  CHECK(refused("limit", "1000") == "accepted");
}
