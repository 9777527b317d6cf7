// Prompts computed while tools work: what is fed to the model then is how its next prompt begins.

#include "agent/prompt_ahead.hpp"
#include "inference/token_trie.hpp"
#include "inference/tokenizer.hpp"
#include "inference/weight_file.hpp"
#include "tests/agent/bank_run.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

/// Says what is on the tape, with a vocabulary, and remembers what it was asked to compute.
class WatchedModel final : public inference::TextModel {
 public:
  struct Seen {
    std::mutex mutex;
    std::vector<std::vector<inference::TokenId>> ahead, prompts;
    std::vector<std::size_t> told;  ///< Tokens that were computed ahead, as the turns were told.
    std::size_t ahead_size() {
      const std::lock_guard lock(mutex);
      return ahead.empty() ? 0 : ahead.back().size();
    }
  };
  WatchedModel(std::unique_ptr<TapeModel> tape, Seen& seen) : tape_(std::move(tape)), seen_(seen) {
    auto file = inference::WeightFile::open(std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket-invoice.gguf");
    REQUIRE(file.has_value());
    auto made = inference::Tokenizer::create(*file);
    REQUIRE(made.has_value());
    tokenizer_ = std::make_unique<inference::Tokenizer>(*made);
    trie_ = std::make_shared<const inference::TokenTrie>(*tokenizer_);
  }
  const inference::ModelInfo& info() const override { return tape_->info(); }
  Result<inference::Generation> generate(const inference::GenerateRequest& request, const std::function<bool(const inference::Piece&)>& sink) override {
    {
      const std::lock_guard lock(seen_.mutex);
      seen_.prompts.push_back(*tokenizer_->encode_segments(request.earlier, request.prompt));
      seen_.told.push_back(request.ahead ? request.ahead->tokens.size() : 0);
    }
    return tape_->generate(request, sink);
  }
  inference::Prefilled prefill(const inference::GenerateRequest& request, inference::Prefilled before) override {
    const std::lock_guard lock(seen_.mutex);
    seen_.ahead.push_back(*tokenizer_->encode_segments(request.earlier, request.prompt));
    before.tokens = seen_.ahead.back();
    return before;
  }
  bool computes_ahead() const override { return true; }
  Result<std::vector<float>> embed(std::string_view text) override { return tape_->embed(text); }
  std::int64_t count_tokens(std::string_view text) const override { return tape_->count_tokens(text); }
  const inference::Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  std::shared_ptr<const inference::TokenTrie> token_trie() const override { return trie_; }

 private:
  std::unique_ptr<TapeModel> tape_;
  Seen& seen_;
  std::unique_ptr<inference::Tokenizer> tokenizer_;
  std::shared_ptr<const inference::TokenTrie> trie_;
};

template <class Condition>
bool eventually(const Condition& condition) {
  for (int i = 0; i < 500; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

/// Writes its result in pieces; a patient one waits until each has been computed.
class WriterTool final : public tools::Tool {
 public:
  WriterTool(WatchedModel::Seen& seen, std::string last, tools::Effect effect, bool patient = true) : seen_(seen), last_(std::move(last)), patient_(patient) {
    spec_.name = "log.read";
    spec_.description = "Reads a log.";
    spec_.parameters = *parse_json(R"({"type":"object","additionalProperties":false})");
    spec_.effect = effect;
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::ToolResult call(const Json&, const tools::CallContext& context) override {
    std::string text = "{\"lines\": \"";
    for (int part = 0; part < 3; ++part) {
      for (int i = 0; i < 20; ++i) text += "line " + std::to_string(part * 20 + i) + " of the log; ";
      const std::size_t before = seen_.ahead_size();
      context.partial(text);
      if (patient_) in_time += eventually([&] { return seen_.ahead_size() > before; });
    }
    if (!patient_) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    tools::ToolResult result = tools::ToolResult::ok(Json{{"lines", "see text"}});
    result.text = text + last_;
    return result;
  }
  std::atomic<int> in_time = 0;

 private:
  tools::ToolSpec spec_;
  WatchedModel::Seen& seen_;
  std::string last_;
  bool patient_;
};

/// A bank whose second call waits until what the first one returned was computed.
class WaitingTool final : public tools::Tool {
 public:
  explicit WaitingTool(WatchedModel::Seen& seen) : seen_(seen) {
    spec_.name = "bank.wait";
    spec_.description = "Waits.";
    spec_.parameters = *parse_json(R"({"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false})");
    spec_.effect = tools::Effect::once;
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::ToolResult call(const Json& arguments, const tools::CallContext&) override {
    if (arguments.at("n") != Json(1)) in_time += eventually([&] { return seen_.ahead_size() > 0; });
    return tools::ToolResult::ok(Json{{"balance", 100 + arguments.at("n").get<int>()}, {"note", std::string(200, 'n')}});
  }
  std::atomic<int> in_time = 0;

 private:
  tools::ToolSpec spec_;
  WatchedModel::Seen& seen_;
};

std::string two_calls() {
  const std::string one = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>bank.wait\n```json\n{\"n\": 1}\n```<｜tool▁call▁end｜>";
  const std::string two = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>bank.wait\n```json\n{\"n\": 2}\n```<｜tool▁call▁end｜>";
  return "<｜tool▁calls▁begin｜>" + one + "\n" + two + "<｜tool▁calls▁end｜>";
}

RunReport run_with(Setup& setup, WatchedModel::Seen& seen, std::shared_ptr<tools::Tool> tool, const std::string& settings = "") {
  const std::string group = tool->spec().name.substr(0, tool->spec().name.find('.'));
  setup.yaml = "kontor: 1\nname: ahead\nmodels: {tape: {replay: tape.jsonl}}\ntools: {" + group + ": {use: plugin, library: libx.so}}\npolicy: {allow: [\"" + group + ".*\"]}\n" + settings +
               "agents:\n  clerk: {model: tape, instruction: Look., tools: [" + group + ".*]}\n";
  setup.task = "Look.";
  setup.make_tools = [tool] { return std::vector<std::shared_ptr<tools::Tool>>{tool}; };
  const Spec checked = setup.spec();
  RunWorld world = setup.world();
  world.open_model = [&](const ModelSpec&, const RunOptions&, const std::vector<std::string>&) -> Result<std::unique_ptr<inference::TextModel>> {
    auto model = TapeModel::parse(setup.tape, "tape");
    if (!model) return model.error();
    return std::unique_ptr<inference::TextModel>(std::make_unique<WatchedModel>(std::move(*model), seen));
  };
  RunOptions options;
  options.task = setup.task;
  const auto journal = setup.journal();
  auto report = start_run(*journal, checked, Json::object(), options, world);
  REQUIRE(report.has_value());
  return *report;
}

std::size_t common(const std::vector<inference::TokenId>& a, const std::vector<inference::TokenId>& b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

TEST_CASE("a result is computed while the other calls of its turn still work", "[agent][ahead]") {
  Setup setup;
  setup.tape = turn(two_calls()) + turn("done");
  WatchedModel::Seen seen;
  const auto tool = std::make_shared<WaitingTool>(seen);
  const RunReport report = run_with(setup, seen, tool);
  INFO(report.note);
  REQUIRE(report.status == "done");
  CHECK(tool->in_time == 1);
  REQUIRE(seen.prompts.size() == 2);
  REQUIRE(seen.ahead.size() == 1);
  CHECK(seen.told == std::vector<std::size_t>{0, seen.ahead.front().size()});
  // All of it is how the next prompt begins, and it holds the first result.
  CHECK(common(seen.ahead.front(), seen.prompts[1]) >= seen.ahead.front().size() - 1);
  CHECK(seen.ahead.front().size() > seen.prompts[0].size() + 40);
}

TEST_CASE("the result of a tool that tells it line by line is computed as it comes", "[agent][ahead]") {
  // One that only reads begins before anybody could listen.
  for (const auto effect : {tools::Effect::once, tools::Effect::none}) {
    const char* last = effect == tools::Effect::once ? "the last line\"}" : "\"}";
    Setup setup;
    setup.tape = turn(call("log.read", "{}")) + turn("done");
    WatchedModel::Seen seen;
    const auto tool = std::make_shared<WriterTool>(seen, last, effect);
    const RunReport report = run_with(setup, seen, tool);
    INFO(report.note);
    REQUIRE(report.status == "done");
    CHECK(tool->in_time == 3);
    REQUIRE(seen.ahead.size() == 3);
    REQUIRE(seen.prompts.size() == 2);
    for (std::size_t i = 0; i < 3; ++i) {
      // But for what closes the result, and the tokens that its end is cut into.
      CHECK(common(seen.ahead[i], seen.prompts[1]) + 16 >= seen.ahead[i].size());
      CHECK((i == 0 || seen.ahead[i].size() > seen.ahead[i - 1].size() + 40));
    }
  }
}

TEST_CASE("where a secret could stand in it, or a budget counts tokens, nothing is computed ahead of a whole result", "[agent][ahead]") {
  ::setenv("KONTOR_AHEAD_TEST", "a secret value", 1);
  for (const std::string settings : {"secrets: {token: {from: env:KONTOR_AHEAD_TEST, allow_tools: [log.*]}}\n", "budgets: {run: {tokens: 100k}}\n"}) {
    Setup setup;
    setup.tape = turn(call("log.read", "{}")) + turn("done");
    WatchedModel::Seen seen;
    const auto tool = std::make_shared<WriterTool>(seen, "end\"}", tools::Effect::once, false);
    const RunReport report = run_with(setup, seen, tool, settings);
    INFO(settings << report.note);
    REQUIRE(report.status == "done");
    CHECK(seen.ahead.empty());
  }
}

TEST_CASE("a tool that was left behind may still tell what it writes", "[agent][ahead]") {
  std::function<void(std::string_view)> partial;
  WatchedModel::Seen seen;
  auto tape = TapeModel::parse(turn("done"), "tape");
  REQUIRE(tape.has_value());
  WatchedModel model(std::move(*tape), seen);
  RollingPrompt prompt;
  const std::vector<ToolSchema> tools;
  std::vector<Message> messages(2);
  messages[0].content = "Look.";
  messages[1].role = Role::assistant;
  messages[1].calls.push_back({"1.1", "log.read", Json::object(), "{}"});
  Message result;
  result.role = Role::tool, result.call_id = "1.1", result.name = "log.read";
  {
    PromptAhead ahead(model, {*dialect_for("r1"), &prompt, &messages, &tools});
    partial = ahead.partial_of(result);
    partial(std::string(100, 'x'));  // Too little to be worth a pass.
    partial(std::string(400, 'x'));
    CHECK(eventually([&] { return seen.ahead_size() > 0; }));
    CHECK(!ahead.take().tokens.empty());
    partial(std::string(800, 'x'));
  }
  partial(std::string(4000, 'x'));
  CHECK(seen.ahead.size() == 1);
}
