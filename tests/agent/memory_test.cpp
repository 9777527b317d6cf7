// Memory that compares by meaning, with real embedding models of a few hundred kilobytes: the reference models.

#include "agent/memory_bridge.hpp"
#include "agent/model_embedder.hpp"
#include "inference/local_model.hpp"
#include "tests/agent/bank_run.hpp"
#include "tools/builtin/builtin.hpp"

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

/// "" when the reference models are not at hand.
std::string reference_model(const std::string& name) {
  const std::string shared = kontor::test::shared_dir();
  const std::string path = shared + "/golden/models/" + name + ".f32.gguf";
  if (!shared.empty() && std::filesystem::exists(path)) return path;
  WARN("the reference models are not at hand");
  return {};
}

Result<std::unique_ptr<ModelEmbedder>> opened(const std::string& path, const ModelSpec& spec = {}, Budget* budget = nullptr) {
  auto model = inference::open_local_model(path, {"cpu", 1, 0, {}});
  if (!model) return model.error();
  return ModelEmbedder::create(std::move(*model), spec, budget);
}

/// A run whose clerk remembers, with an embedder of the file.
struct Remembering : Setup {
  explicit Remembering(const std::string& path, const std::string& more = "") {
    yaml = "kontor: 1\nname: notes\nmodels: {tape: {replay: tape.jsonl}, near: {path: " + path + "}}\n" + more +
           "agents:\n  clerk: {model: tape, instruction: Note it., memory: {recall: 1, store: facts, namespace: n, embedder: near}}\n"
           "workflow: [{id: note, agent: clerk, with: {text: Zahlungsbedingungen}}]\n";
  }
  RunWorld world_with_models() {
    RunWorld world = this->world();
    world.open_model = [tape = world.open_model](const ModelSpec& spec, const RunOptions& options, const std::vector<std::string>& played) {
      return spec.path.empty() ? tape(spec, options, played) : inference::open_local_model(spec.path, {"cpu", 1, 0, {}});
    };
    return world;
  }
  RunReport run() {
    const Spec checked = spec();
    auto kept = journal();
    auto report = start_run(*kept, checked, Json::object(), {}, world_with_models());
    if (!report) FAIL(report.error().describe());
    return *report;
  }
  void know(const std::string& text, bool trusted = true, bool secret = false) {
    auto store = memory::Store::open(folder.path + "/runs/memory.db");
    REQUIRE(store.has_value());
    memory::Record record;
    record.space = "n", record.text = text, record.trusted = trusted, record.secret = secret;
    REQUIRE((*store)->add(record, nullptr).has_value());
  }
  Json recalled(const RunReport& report) {
    for (const auto& event : *journal()->events(report.id))
      if (event.type == "memory_recalled") return event.data.at("facts");
    return nullptr;
  }
};

}  // namespace

TEST_CASE("a model makes memory's vectors, questions and texts apart", "[agent][memory]") {
  const std::string path = reference_model("nomic-mean");
  if (path.empty()) return;
  auto plain = opened(path);
  REQUIRE(plain.has_value());
  CHECK((*plain)->width() == 128);
  CHECK((*plain)->name() == "nomic-mean nomic-bert F32 128");
  const auto vector = (*plain)->embed("The invoice is due.");
  REQUIRE(vector.has_value());
  CHECK(*vector == *(*plain)->embed_query("The invoice is due."));  // Not the real nomic-embed: no words in front.
  // Longer than the model's context: its beginning.
  CHECK((*plain)->embed(std::string(20'000, 'a') + " b").has_value());

  ModelSpec spec;
  spec.query_prefix = "search_query: ", spec.document_prefix = "search_document: ";
  auto told = opened(path, spec);
  REQUIRE(told.has_value());
  CHECK((*told)->name() != (*plain)->name());  // Their vectors are never compared.
  CHECK(*(*told)->embed("x y") == *(*plain)->embed("search_document: x y"));
  CHECK(*(*told)->embed_query("x y") == *(*plain)->embed("search_query: x y"));

  auto tape = TapeModel::parse(turn("x"), "tape");
  REQUIRE(tape.has_value());
  const auto none = ModelEmbedder::create(std::move(*tape), {});
  REQUIRE(!none.has_value());
  CHECK(none.error().kind == "no_embeddings");
}

TEST_CASE("what memory embeds is reserved before and counts against the budget of tokens", "[agent][memory][budget]") {
  const std::string path = reference_model("nomic-mean");
  if (path.empty()) return;
  BudgetSpec limits;
  limits.tokens = 40;
  auto budget = Budget::create(limits);
  REQUIRE(budget.has_value());
  auto embedder = opened(path, {}, &*budget);
  REQUIRE(embedder.has_value());
  REQUIRE((*embedder)->embed("The invoice is due.").has_value());
  CHECK(budget->reserved() == 0);  // Nothing of it comes back.
  Ledger spent;
  auto left = budget->reserve(spent, 0, 100, 0);
  REQUIRE(left.has_value());
  budget->release(spent, *left);
  const std::int64_t used = 40 - *left;
  CHECK(used > 0);
  spent.embedded = budget->take_embedded();
  CHECK(spent.embedded == used);
  budget->booked(spent);
  CHECK(*budget->reserve(spent, 0, 100, 0) == *left);  // Booked once.
  budget->release(spent, *left);
  CHECK(budget->take_embedded() == 0);
  CHECK(budget->check(spent).has_value());
  // What is at work elsewhere leaves no room.
  REQUIRE(budget->reserve(spent, 1, 40, 0).has_value());
  const auto refused = (*embedder)->embed("x");
  REQUIRE(!refused.has_value());
  CHECK(refused.error().kind == kBudget);
  CHECK(!budget->check_for_tool(spent));
}

TEST_CASE("a run stops before memory embeds more than its budget", "[agent][memory][budget]") {
  const std::string path = reference_model("nomic-mean");
  if (path.empty()) return;
  std::int64_t needed = 0;
  for (int i = -1; i < 60; ++i) {
    // First without a limit, then with every smaller one but those between the last embedding and the end.
    Remembering setup(path, i < 0 ? "" : "budgets: {run: {tokens: " + std::to_string(1 + needed * i / 50) + "}}\n");
    setup.tape = turn("noted");
    setup.know("Zahlungsbedingung heute");
    const RunReport report = setup.run();
    INFO(i << ": " << report.status << " " << report.note << ", " << report.ledger.spent_tokens() << " of " << 1 + needed * i / 50);
    if (i < 0) {
      REQUIRE(report.status == "done");
      CHECK(report.ledger.embedded > 0);
      needed = report.ledger.spent_tokens();
      CHECK(needed > report.ledger.embedded);
      continue;
    }
    const std::int64_t limit = 1 + needed * i / 50;
    CHECK(report.ledger.spent_tokens() <= limit);
    if (limit < needed) CHECK(report.status == "budget");
    if (report.status == "budget") CHECK(report.note.find("budget reached") != std::string::npos);
  }
}

TEST_CASE("a tool that asks memory ends a run whose budget is used up", "[agent][memory][budget]") {
  const std::string path = reference_model("nomic-mean");
  if (path.empty()) return;
  Remembering setup(path);
  setup.yaml = "kontor: 1\nname: notes\nmodels: {near: {path: " + path + "}}\nbudgets: {run: {tokens: 5}}\ntools: {memory: {use: builtin.memory, embedder: near, namespace: n}}\n"
               "workflow: [{id: look, tool: memory.recall, with: {query: \"a question that is longer than five tokens\"}}]\n";
  RunWorld world = setup.world_with_models();
  world.make_tools = [](const ToolRequest& request) -> Result<std::vector<std::shared_ptr<tools::Tool>>> {
    tools::BuiltinContext context;
    auto store = request.memory();
    if (!store) return store.error();
    context.memory = std::make_shared<MemoryBridge>(**store, [source = request.embedder] { return source("near"); });
    return tools::make_builtin("builtin.memory", "memory", request.settings, context);
  };
  const Spec checked = setup.spec();
  auto kept = setup.journal();
  auto report = start_run(*kept, checked, Json::object(), {}, world);
  REQUIRE(report.has_value());
  INFO(report->note);
  CHECK(report->status == "budget");
  CHECK(report->ledger.spent_tokens() <= 5);
}

TEST_CASE("an agent recalls by meaning what no word finds, and keeps the labels", "[agent][memory]") {
  const std::string path = reference_model(GENERATE("nomic-mean", "bert-cls", "qwen3-emb"));
  if (path.empty()) return;
  Remembering setup(path);
  setup.tape = turn("noted");
  // No whole word in common with the task; the last is nearest in what the model reads, its pieces.
  setup.know("Heute regnet es in Kiel");
  setup.know("12 34 56 78");
  setup.know("Zahlungsbedingung", false, true);
  const RunReport report = setup.run();
  INFO(report.note);
  REQUIRE(report.status == "done");
  const Json facts = setup.recalled(report);
  REQUIRE(facts.size() == 1);
  CHECK(facts[0] == Json{{"text", "Zahlungsbedingung"}, {"trusted", false}, {"secret", true}});
  CHECK(report.ledger.embedded > 0);
  // What it stored has a vector as well, and inherits the labels.
  auto store = memory::Store::open(setup.folder.path + "/runs/memory.db");
  REQUIRE(store.has_value());
  const auto all = (*store)->list("n", 10);
  REQUIRE(all->size() == 4);
  CHECK(all->front().text == "noted");
  CHECK(!all->front().trusted);
  CHECK(all->front().secret);
  auto embedder = opened(path);
  REQUIRE(embedder.has_value());
  CHECK(*(*store)->embed_missing("n", **embedder) == 0);
  // Without the model, words alone find nothing.
  setup.yaml.replace(setup.yaml.find(", embedder: near"), 16, "");
  setup.tape = turn("noted again");
  const RunReport words = setup.run();
  REQUIRE(words.status == "done");
  CHECK(setup.recalled(words).empty());
  CHECK(words.ledger.embedded == 0);
  // The replay needs neither model nor memory.
  const auto journal = setup.journal();
  CHECK(replay_run(*journal, report.id, setup.world())->status == "done");
}

TEST_CASE("what follows a failed step of an agent with memory is secret only when something secret was recalled", "[agent][memory]") {
  for (const bool secret : {false, true}) {
    Remembering setup("");
    setup.yaml = "kontor: 1\nname: notes\nmodels: {tape: {replay: tape.jsonl}}\ntools: {bank: {use: plugin, library: libbank.so}}\npolicy: {allow: [\"bank.*\"]}\n"
                 "agents:\n  clerk: {model: tape, instruction: Note it., memory: {recall: 1, namespace: n}}\n"
                 "workflow:\n  - {id: note, agent: clerk, with: {text: invoice}, check: \"${result == 'other'}\", on_error: {collect: wrong}}\n"
                 "  - {id: pay, tool: bank.pay, with: {amount: \"${size(steps.note.wrong)}\"}}\n";
    setup.tape = turn("noted");
    setup.know("invoice of May", true, secret);
    const RunReport report = setup.start();
    INFO(report.note);
    CHECK(report.status == (secret ? "parked" : "done"));
    CHECK(setup.bank.payments.size() == (secret ? 0u : 1u));
    if (!secret) continue;
    CHECK(report.note.find("rule of two") != std::string::npos);
    // Another process knows it too.
    const auto journal = setup.journal();
    auto again = resume_run(*journal, report.id, {}, setup.world());
    REQUIRE(again.has_value());
    CHECK(again->status == "parked");
  }
}

TEST_CASE("an embedder that is none ends the step with what is wrong", "[agent][memory]") {
  Remembering setup("/nowhere/model.gguf");
  setup.tape = turn("noted");
  const RunReport report = setup.run();
  CHECK(report.status == "failed");
  CHECK(report.note.find("memory: ") != std::string::npos);
}

TEST_CASE("what the tool remembers of a secret is secret for whoever recalls it", "[agent][memory]") {
  Setup setup;
  const std::string groups = "tools: {bank: {use: plugin, library: libbank.so}, notes: {use: builtin.memory, namespace: n}}\n";
  const std::string head = "kontor: 1\nname: notes\nmodels: {tape: {replay: tape.jsonl}}\n" + groups;
  const auto world_of = [&] {
    RunWorld world = setup.world();
    world.make_tools = [&, bank = world.make_tools](const ToolRequest& request) -> Result<std::vector<std::shared_ptr<tools::Tool>>> {
      if (request.entry->use == "plugin") return bank(request);
      tools::BuiltinContext context;
      auto memory = request.memory();
      if (!memory) return memory.error();
      context.memory = std::make_shared<MemoryBridge>(**memory);
      return tools::make_builtin(request.entry->use, request.entry->name, request.settings, context);
    };
    return world;
  };
  const auto run = [&](const std::string& yaml) {
    setup.yaml = yaml;
    auto journal = setup.journal();
    auto report = start_run(*journal, setup.spec(), Json::object(), {}, world_of());
    if (!report) FAIL(report.error().describe());
    return *report;
  };
  const bool from_secret = GENERATE(true, false);
  const RunReport wrote = run(head + (from_secret ? "secrets: {token: {from: env:KONTOR_TEST_NONE, allow_tools: [bank.balance]}}\n" : "") + R"(policy: {allow: ["*"]}
workflow:
  - {id: look, tool: bank.balance, with: {amount: 1}}
  - {id: keep, tool: notes.remember, with: {text: "balance ${steps.look.balance} of DE89370400440532013000"}}
)");
  INFO(wrote.note);
  REQUIRE(wrote.status == "done");
  // Another file, which knows of no secret and redacts account numbers.
  const RunReport read = run(head + R"(policy: {allow: ["*"]}
observe: {redact: [iban]}
workflow:
  - {id: find, tool: notes.recall, with: {query: balance}}
  - {id: pay, tool: bank.pay, with: {amount: "${size(steps.find.facts)}", to: "${steps.find.facts[0].text}"}}
)");
  INFO(read.note);
  if (from_secret) {  // Untrusted text and a secret source: a person decides.
    REQUIRE(read.status == "parked");
    CHECK(read.pending[0].reason.find("rule of two") != std::string::npos);
    CHECK(setup.bank.payments.empty());
  } else {
    CHECK(read.status == "done");
    CHECK(setup.bank.payments.size() == 1);
  }
  // The fact's account number stands nowhere in the second journal.
  for (const auto& event : *setup.journal()->events(read.id)) CHECK(event.data.dump().find("DE89370400440532013000") == std::string::npos);
  // Another process has the label from the journal.
  if (!from_secret) return;
  const auto journal = setup.journal();
  const auto again = resume_run(*journal, read.id, {}, world_of());
  REQUIRE(again.has_value());
  CHECK(again->status == "parked");
  CHECK(setup.bank.payments.empty());
}
