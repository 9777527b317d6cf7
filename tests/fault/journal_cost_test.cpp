// What a step costs on the disk: bytes and syncs, counted by a file layer.

#include "agent/run.hpp"
#include "tests/fault/faulty_disk.hpp"
#include "tests/support/answer_tool.hpp"
#include "tests/support/catch.hpp"

#include <filesystem>

using namespace kontor;
using namespace kontor::agent;

namespace {

constexpr int kSteps = 200;

struct Folder {
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kontor-cost-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

/// A whole run of so many calls with a result of 220 bytes.
void run_steps(Journal& journal, const std::string& folder, tools::Effect effect, int steps) {
  Json items = Json::array();
  for (int i = 0; i < steps; ++i) items.push_back(i);
  const std::string yaml = "kontor: 1\nname: cost\ntools: {t: {use: plugin, library: lib.so}}\npolicy: {allow: [\"t.*\"]}\n"
                           "workflow:\n  - {id: list, tool: t.list}\n  - {id: each, for_each: \"${steps.list.items}\", do: [{id: step, tool: t.step, with: {n: \"${item}\"}}]}\n";
  auto checked = check_text(yaml, folder + "/agent.yaml", folder);
  REQUIRE(checked.spec);
  RunWorld world;
  world.make_tools = [&](const ToolRequest&) -> Result<std::vector<std::shared_ptr<tools::Tool>>> {
    return std::vector<std::shared_ptr<tools::Tool>>{std::make_shared<kontor::test::AnswerTool>("t.list", Json{{"items", items}}, tools::Effect::none),
                                                     std::make_shared<kontor::test::AnswerTool>("t.step", Json{{"text", std::string(208, 'x')}}, effect)};
  };
  auto report = start_run(journal, *checked.spec, Json::object(), {}, world);
  REQUIRE(report.has_value());
  REQUIRE(report->status == "done");
}

}  // namespace

TEST_CASE("200 steps with results of 220 bytes take at most half a megabyte and one sync each", "[fault][journal]") {
  const Folder folder;
  for (const auto effect : {tools::Effect::none, tools::Effect::idempotent}) {
    kontor::test::FaultyDisk disk(1);
    auto journal = Journal::open(folder.path, system_clock(), disk.name());
    REQUIRE(journal.has_value());
    const auto before = disk.syncs();
    run_steps(**journal, folder.path, effect, kSteps);
    const auto syncs = disk.syncs() - before;
    INFO(syncs << " syncs, at most " << disk.most_bytes() << " bytes");
    CHECK(disk.most_bytes() <= 500'000);
    // Every intent is one; moving the log into the database takes a few more now and then.
    CHECK(syncs <= (effect == tools::Effect::none ? kSteps / 8 : kSteps + kSteps / 18));
    std::printf("%s: %d steps, %lld syncs, at most %zu bytes\n", std::string(tools::to_string(effect)).c_str(), kSteps, static_cast<long long>(syncs), disk.most_bytes());
    journal->reset();
    INFO("closed: " << disk.bytes() << " bytes");
    CHECK(disk.bytes() <= 500'000);
    std::printf("%s: closed %zu bytes\n", std::string(tools::to_string(effect)).c_str(), disk.bytes());
  }
}

TEST_CASE("in a journal that has grown, 200 steps with an effect take a sync each and hardly one more", "[fault][journal]") {
  const Folder folder;
  kontor::test::FaultyDisk disk(1);
  auto journal = Journal::open(folder.path, system_clock(), disk.name());
  REQUIRE(journal.has_value());
  for (int i = 0; i < 3; ++i) run_steps(**journal, folder.path, tools::Effect::idempotent, 10 * kSteps);
  const auto before = disk.syncs();
  run_steps(**journal, folder.path, tools::Effect::idempotent, kSteps);
  const auto syncs = disk.syncs() - before;
  std::printf("idempotent: %d steps, %lld syncs in a journal of %zu bytes\n", kSteps, static_cast<long long>(syncs), disk.bytes());
  CHECK(syncs >= kSteps);
  CHECK(syncs <= kSteps + kSteps / 40);
  // The log takes no more than half of what the database takes.
  CHECK(disk.most_bytes() < 9'000'000);
}
