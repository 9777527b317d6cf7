// Runs of one journal that ask for different syncs: none weakens what another had synced.

#include "agent/journal.hpp"
#include "tests/fault/faulty_disk.hpp"
#include "tests/support/catch.hpp"

#include <filesystem>

using namespace kontor;
using namespace kontor::agent;

namespace {

struct Folder {
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kontor-mixed-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

}  // namespace

TEST_CASE("a run that is synced stays so beside runs that are not", "[fault][journal]") {
  const Folder folder;
  kontor::test::FaultyDisk disk(1);
  auto journal = Journal::open(folder.path, system_clock(), disk.name());
  REQUIRE(journal.has_value());
  auto strict = (*journal)->create("strict", "strict.yaml", Json::object());
  auto loose = (*journal)->create("loose", "loose.yaml", Json::object(), {}, JournalSync::off);
  REQUIRE(strict.has_value());
  REQUIRE(loose.has_value());
  auto before = disk.syncs();
  REQUIRE(strict->append("intent", "a", Json::object()).has_value());
  CHECK(disk.syncs() == before + 1);
  before = disk.syncs();
  for (int i = 0; i < 5; ++i) REQUIRE(loose->append("intent", "b", Json::object()).has_value());
  CHECK(disk.syncs() == before);
  REQUIRE(strict->append("intent", "c", Json::object()).has_value());
  CHECK(disk.syncs() == before + 1);
}

TEST_CASE("what a run had synced survives a power cut while others move the log", "[fault][journal]") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    const Folder folder;
    kontor::test::FaultyDisk disk(seed);
    std::string id;
    {
      auto journal = Journal::open(folder.path, system_clock(), disk.name());
      REQUIRE(journal.has_value());
      auto strict = (*journal)->create("strict", "strict.yaml", Json::object());
      REQUIRE(strict.has_value());
      id = strict->id();
      for (int i = 0; i < 8; ++i) REQUIRE(strict->append("outcome", "s", Json{{"i", i}}).has_value());
      auto loose = (*journal)->create("loose", "loose.yaml", Json::object(), {}, JournalSync::off);
      REQUIRE(loose.has_value());
      // Enough for the log to be moved and begun again, some times over.
      const Json large{{"text", std::string(20'000, 'x')}};
      for (std::uint64_t i = 0; i < 40 + seed; ++i) REQUIRE(loose->append("outcome", "l", large).has_value());
    }
    disk.cut_power();
    auto journal = Journal::open(folder.path, system_clock(), disk.name());
    REQUIRE(journal.has_value());
    const auto events = (*journal)->events(id);
    REQUIRE(events.has_value());
    CHECK(events->size() == 9);
  }
}
