// Tools that answer at once, and those that end when they are asked to, are called on the run's own thread: no hand-over, and
// the same limits as for all others.

#include "agent/deadline_watch.hpp"
#include "tests/agent/bank_run.hpp"

#include <atomic>
#include <chrono>
#include <thread>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

/// What a tool promises.
enum class Word { nothing, at_once, ends_on_stop };
constexpr Word kWords[] = {Word::nothing, Word::at_once, Word::ends_on_stop};

/// Takes as long as it is told, whatever it promises: 0 at once, below 0 until it is asked to stop.
class HastyTool final : public tools::Tool {
 public:
  HastyTool(std::vector<std::thread::id>& threads, Word word, std::int64_t timeout_ms, std::function<void()> begun) : threads_(threads), begun_(std::move(begun)) {
    spec_.name = "bank.hurry";
    spec_.description = "Answers at once.";
    spec_.parameters = *parse_json(R"({"type":"object","properties":{"ms":{"type":"integer"}},"required":["ms"]})");
    spec_.at_once = word == Word::at_once;
    spec_.ends_on_stop = word == Word::ends_on_stop;
    spec_.timeout_ms = timeout_ms;
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::ToolResult call(const Json& arguments, const tools::CallContext& context) override {
    {
      const std::lock_guard lock(mutex_);
      threads_.push_back(std::this_thread::get_id());
    }
    if (begun_) begun_();
    const std::int64_t ms = arguments.at("ms").get<std::int64_t>();
    if (ms >= 0) std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    while (ms < 0 && !context.stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return ms < 0 ? tools::ToolResult::error("cancelled", "stopped") : tools::ToolResult::ok(Json{{"done", true}});
  }

 private:
  std::mutex mutex_;
  std::vector<std::thread::id>& threads_;
  std::function<void()> begun_;
  tools::ToolSpec spec_;
};

struct Hasty : Setup {
  std::vector<std::thread::id> threads;
  Word word = Word::at_once;
  std::int64_t timeout_ms = 30'000;
  std::function<void()> begun;

  explicit Hasty(const std::string& steps) {
    yaml = "kontor: 1\nname: bank-run\ntools: {bank: {use: plugin, library: libbank.so}}\npolicy: {allow: [\"bank.*\"]}\nworkflow:\n" + steps;
    make_tools = [this] { return std::vector<std::shared_ptr<tools::Tool>>{std::make_shared<HastyTool>(threads, word, timeout_ms, begun)}; };
  }
  RunReport start() {
    const Spec checked = spec();
    const auto opened = journal();
    auto report = start_run(*opened, checked, Json::object(), {}, world());
    REQUIRE(report.has_value());
    return *report;
  }
};

std::string step(const std::string& id, int ms, const std::string& more = "") {
  return "  - {id: " + id + ", tool: bank.hurry, with: {ms: " + std::to_string(ms) + "}" + more + "}\n";
}

}  // namespace

TEST_CASE("a tool that need not be left behind is called on the thread of the run, another is not", "[agent][at_once]") {
  for (const Word word : kWords) {
    Hasty setup(step("one", 0) + step("two", 0));
    setup.word = word;
    CHECK(setup.start().status == "done");
    REQUIRE(setup.threads.size() == 2);
    for (const auto& thread : setup.threads) CHECK((thread == std::this_thread::get_id()) == (word != Word::nothing));
  }
}

TEST_CASE("the time of a call on the run's thread ends like that of any other", "[agent][at_once]") {
  for (const Word word : kWords) {
    Hasty setup(step("one", -1, ", on_error: {collect: failures}"));
    setup.word = word;
    setup.timeout_ms = 200;
    const auto began = std::chrono::steady_clock::now();
    const RunReport report = setup.start();
    const auto took = std::chrono::steady_clock::now() - began;
    INFO(report.status << " " << report.note);
    CHECK(report.status == "done");
    CHECK(took >= std::chrono::milliseconds(200));
    const auto opened = setup.journal();
    const auto events = *opened->events(report.id);
    REQUIRE(events.size() >= 2);
    CHECK(events[1].data.value("error_kind", "") == "timeout");
  }
}

TEST_CASE("a tool that was slow in spite of its word gets a thread from then on", "[agent][at_once]") {
  Hasty setup(step("one", 0) + step("two", 1100) + step("three", 0));
  CHECK(setup.start().status == "done");
  REQUIRE(setup.threads.size() == 3);
  CHECK(setup.threads[0] == std::this_thread::get_id());
  CHECK(setup.threads[1] == std::this_thread::get_id());
  CHECK(setup.threads[2] != std::this_thread::get_id());
}

TEST_CASE("a tool that ends when it is asked to may take its time on the thread of the run", "[agent][at_once]") {
  Hasty setup(step("one", 1100) + step("two", 0));
  setup.word = Word::ends_on_stop;
  CHECK(setup.start().status == "done");
  REQUIRE(setup.threads.size() == 2);
  for (const auto& thread : setup.threads) CHECK(thread == std::this_thread::get_id());
}

TEST_CASE("calls of a parallel loop on the threads of the run work at the same time", "[agent][at_once]") {
  constexpr int kItems = 4;
  std::atomic<int> inside = 0, most = 0;
  Hasty setup("  - {id: each, for_each: \"${[-1, -1, -1, -1]}\", max_parallel: 4, do: [{id: one, tool: bank.hurry, with: {ms: \"${item}\"}, on_error: {collect: failures}}]}\n");
  setup.word = Word::ends_on_stop;
  setup.timeout_ms = 10'000;
  setup.begun = [&] {
    ++inside;
    // All are in their calls at once, or this waits until the time of the first is over.
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(8);
    while (inside < kItems && std::chrono::steady_clock::now() < give_up) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    most = std::max<int>(most, inside);
    if (inside >= kItems) setup.stop.request_stop();
  };
  const RunReport report = setup.start();
  INFO(report.status << " " << report.note);
  CHECK(most == kItems);
  CHECK(report.status == "interrupted");
}

TEST_CASE("stopping the run stops a call on its thread", "[agent][at_once]") {
  Hasty setup(step("one", -1));
  std::jthread other;
  setup.begun = [&] { other = std::jthread([&] { setup.stop.request_stop(); }); };
  const RunReport report = setup.start();
  INFO(report.status << " " << report.note);
  CHECK(report.status == "interrupted");
  const auto opened = setup.journal();
  for (const auto& event : *opened->events(report.id)) CHECK(event.type != "call_outcome");
}

TEST_CASE("many calls at the same time are watched by one thread, each to its own limit", "[agent][at_once]") {
  using Clock = DeadlineWatch::Clock;
  DeadlineWatch watch;
  constexpr int kThreads = 8, kCalls = 50;
  std::atomic<int> early = 0, late = 0, wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kCalls; ++i) {
          const bool ends = (i + t) % 3 == 0;
          std::stop_source stop;
          const auto limit = Clock::now() + (ends ? std::chrono::milliseconds(2) : std::chrono::milliseconds(60'000));
          const auto watched = watch.begin(stop, limit);
          const auto give_up = Clock::now() + std::chrono::seconds(20);
          while (ends && !stop.stop_requested() && Clock::now() < give_up) std::this_thread::yield();
          if (ends && Clock::now() < limit) ++wrong;
          const bool in_time = watch.end(watched);
          (in_time ? early : late) += 1;
          if (in_time == ends || stop.stop_requested() != ends) ++wrong;
        }
      });
    }
  }
  CHECK(wrong == 0);
  CHECK(early + late == kThreads * kCalls);
  CHECK(late >= kThreads * kCalls / 3 - kThreads);
}
