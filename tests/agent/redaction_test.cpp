// observe.redact: what is sealed in the journal, hidden from people, and there again when a run is resumed.

#include "agent/redaction.hpp"
#include "tests/agent/bank_run.hpp"

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

std::string bytes_of(const std::string& folder) {
  std::string all;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().rfind("journal.db", 0) != 0) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    all.append((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  }
  return all;
}

}  // namespace

TEST_CASE("redacted values are in no byte of the journal and on no terminal, and a resumed run has them", "[agent][redaction]") {
  Setup setup;
  setup.yaml = std::string(kHead) + "policy: {allow: [\"bank.*\"], ask: [{tool: bank.pay, when: args.amount > 250}]}\nobserve: {redact: [to, iban, card]}\n" + R"(agents:
  clerk: {model: tape, role: Clerk, instruction: Pay., tools: [bank.pay]}
workflow:
  - {id: pay, agent: clerk, with: {letter: "To DE44500105175407324931 or card 4111 1111 1111 1111"}}
)";
  const std::string account = "account-of-Mr-Smith";
  setup.tape = turn("<think>\nIt goes to " + account + "</think>\n\n" + call("bank.pay", "{\"amount\": 300, \"to\": \"" + account + "\"}")) + turn("Paid to " + account + ".");
  std::string seen;
  const auto world_sink = [&](const RunEvent& event) { seen += event.data.dump() + "\n"; };
  const Spec spec = setup.spec();
  std::string id;
  {
    auto world = setup.world();
    world.sink = world_sink;
    const auto journal = setup.journal();
    auto report = start_run(*journal, spec, Json{{"limit", 1}}, {}, world);
    REQUIRE(report.has_value());
    INFO(report->note);
    REQUIRE(report->status == "parked");
    id = report->id;
    REQUIRE(decide_approval(*journal, id, "", PersonsAnswer{true, "anna", "", ""}).has_value());
    report = resume_run(*journal, id, {}, world);
    REQUIRE(report.has_value());
    CHECK(report->status == "done");
    CHECK(report->result == Json("Paid to " + account + "."));
    CHECK(replay_run(*journal, id, world)->result == report->result);
  }
  REQUIRE(setup.bank.payments.size() == 1);
  CHECK(setup.bank.payments[0].second.at("to") == Json(account));
  CHECK(bytes_of(setup.folder.path + "/runs").find(account) == std::string::npos);
  CHECK(seen.find("[redacted]") != std::string::npos);
  CHECK(seen.find("\"to\":\"" + account) == std::string::npos);
}

TEST_CASE("what a person writes to a decision is sealed, too", "[agent][redaction]") {
  Setup setup;
  setup.yaml = std::string(kHead) + "policy: {allow: [\"bank.*\"], ask: [{tool: bank.pay}]}\nobserve: {redact: [to, iban]}\nworkflow:\n"
               "  - {id: pay, tool: bank.pay, with: {amount: 5, to: account-of-Mr-Smith}}\n";
  auto world = setup.world();
  const auto journal = setup.journal();
  auto report = start_run(*journal, setup.spec(), Json{{"limit", 1}}, {}, world);
  REQUIRE(report.has_value());
  REQUIRE(report->status == "parked");
  // One value is known by its form, the other because it stood in a redacted field.
  const std::string reason = "not account-of-Mr-Smith, take DE44500105175407324931";
  REQUIRE(decide_approval(*journal, report->id, "", PersonsAnswer{false, "anna", "", reason}).has_value());
  bool sealed = false;
  const auto events = journal->events(report->id);
  REQUIRE(events.has_value());
  for (const auto& event : *events) {
    if (event.type == "approval_decided") sealed = event.data.at("reason").contains(kSealed) && event.data.at("by") == Json("anna");
  }
  CHECK(sealed);
  report = resume_run(*journal, report->id, {}, world);
  REQUIRE(report.has_value());
  CHECK(report->status == "failed");
  CHECK(bytes_of(setup.folder.path + "/runs").find("DE44500105175407324931") == std::string::npos);
  CHECK(setup.bank.payments.empty());
}

TEST_CASE("IBANs and card numbers are found by their form", "[agent][redaction]") {
  const Folder folder;
  auto redactor = Redactor::create({"iban", "card"}, folder.path);
  REQUIRE(redactor.has_value());
  CHECK((*redactor)->mask(Json("pay DE44 5001 0517 5407 3249 31 now")) == Json("pay [redacted] now"));
  CHECK((*redactor)->mask(Json("card 4111 1111 1111 1111, invoice 4711")) == Json("card [redacted], invoice 4711"));
  const Json data{{"iban", "x"}, {"nested", Json::array({Json{{"card", 42}}, "plain", 7})}, {"text", "GB33BUKB20201555555555"}};
  const Json sealed = (*redactor)->seal(data);
  CHECK(sealed.dump().find("GB33") == std::string::npos);
  CHECK(sealed.at("nested")[1] == Json("plain"));
  CHECK(*(*redactor)->open(sealed) == data);
  CHECK(hide_sealed(sealed).at("text") == Json("[redacted]"));
  const Folder other;
  auto stranger = Redactor::create({"iban"}, other.path);
  CHECK(!(*stranger)->open(sealed));
  Json changed = sealed;
  std::string text = changed["text"]["$sealed"].get<std::string>();
  text.back() = text.back() == '0' ? '1' : '0';
  changed["text"]["$sealed"] = text;
  CHECK(!(*redactor)->open(changed));
}
