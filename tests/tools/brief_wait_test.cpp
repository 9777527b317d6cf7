// Looking pays or rests: the time is the test's own.

#include "tests/support/catch.hpp"
#include "tools/brief_wait.hpp"

#include <unistd.h>

#include <atomic>
#include <thread>

using namespace kontor;
using namespace kontor::tools;

namespace {

class NanoClock final : public Clock {
 public:
  std::int64_t unix_ms() const override { return 0; }
  std::int64_t steady_ns() const override { return now; }
  std::int64_t now = 1'000'000'000'000;
};

struct Watched {
  NanoClock clock;
  BriefWait wait{BriefWait::kWindowNs, clock, 2};
  int looks = 0;

  /// What is waited for comes after `after_ns`; each look takes `each_ns`.
  bool comes(std::int64_t after_ns, std::int64_t each_ns = 500) {
    const std::int64_t at = clock.now + after_ns;
    looks = 0;
    return wait.look([&] {
      ++looks;
      if (clock.now >= at) return true;
      clock.now += each_ns;
      return false;
    });
  }
};

}  // namespace

TEST_CASE("what comes within the time is found, again and again", "[tools][brief_wait]") {
  Watched watched;
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(watched.comes(20'000));
    CHECK(watched.looks == 41);
    watched.clock.now += 1000;
  }
}

TEST_CASE("who waits for long looks seldom", "[tools][brief_wait]") {
  Watched watched;
  const std::int64_t began = watched.clock.now;
  int looked = 0, waits = 0;
  std::int64_t spent = 0;
  for (; watched.clock.now - began < 20'000'000'000; ++waits) {
    const std::int64_t before = watched.clock.now;
    CHECK_FALSE(watched.comes(1'000'000));
    CHECK(watched.clock.now - before <= BriefWait::kWindowNs);
    spent += watched.clock.now - before;
    looked += watched.looks > 0;
    watched.clock.now += 1'000'000;
  }
  CHECK(waits > 10'000);
  CHECK(looked >= 20);  // Once a second at least: the habit may change.
  CHECK(looked <= 40);
  CHECK(spent <= 40 * BriefWait::kWindowNs);
}

TEST_CASE("once answers are quick again, it looks again within a second, and stays at it", "[tools][brief_wait]") {
  Watched watched;
  for (int i = 0; i < 10'000; ++i) watched.comes(1'000'000), watched.clock.now += 1'000'000;
  const std::int64_t began = watched.clock.now;
  while (!watched.comes(10'000)) watched.clock.now += 10'000;
  CHECK(watched.clock.now - began <= BriefWait::kRestMaxNs + BriefWait::kWindowNs);
  for (int i = 0; i < 1000; ++i) {
    watched.clock.now += 10'000;
    REQUIRE(watched.comes(10'000));
  }
}

TEST_CASE("one late answer among quick ones costs a short rest", "[tools][brief_wait]") {
  Watched watched;
  for (int i = 0; i < 10'000; ++i) watched.comes(1'000'000), watched.clock.now += 1'000'000;
  watched.clock.now += BriefWait::kRestMaxNs;
  for (int i = 0; i < 300; ++i) REQUIRE(watched.comes(10'000));
  CHECK_FALSE(watched.comes(1'000'000));
  watched.clock.now += BriefWait::kRestMinNs;
  CHECK(watched.comes(10'000));
}

TEST_CASE("where others want the core, looking rests although it finds", "[tools][brief_wait]") {
  Watched watched;
  const std::int64_t began = watched.clock.now;
  // Two milliseconds go to somebody else once three were spent with looking.
  std::int64_t looked = 0, share = 0;
  while (watched.clock.now - began < 10'000'000'000) {
    const std::int64_t before = watched.clock.now;
    const bool away = share > 3'000'000;
    if (away) share = 0;
    const bool found = away ? watched.comes(2'000'000, 2'000'000) : watched.comes(10'000);
    if (found) looked += watched.clock.now - before, share += watched.clock.now - before;
    watched.clock.now += 15'000;
  }
  CHECK(looked < 10'000'000'000 / 20);
  // Afterwards the rests become short again.
  for (int i = 0; i < 400'000; ++i) watched.comes(10'000), watched.clock.now += 15'000;
  int found = 0;
  for (int i = 0; i < 1000; ++i) found += watched.comes(10'000), watched.clock.now += 15'000;
  CHECK(found == 1000);
}

TEST_CASE("with one core there is nothing to look for", "[tools][brief_wait]") {
  NanoClock clock;
  BriefWait wait(BriefWait::kWindowNs, clock, 1);
  bool asked = false;
  CHECK_FALSE(wait.looks());
  CHECK_FALSE(wait.look([&] { return asked = true; }));
  CHECK_FALSE(asked);
  CHECK(allowed_cores() >= 1);
}

TEST_CASE("a descriptor is looked at, its end included", "[tools][brief_wait]") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  {
    NanoClock clock;  // Stands still: the look lasts until something is there.
    BriefWait wait(BriefWait::kWindowNs, clock, 2);
    std::jthread writer([&] { (void)!::write(ends[1], "x", 1); });
    CHECK(wait.look_at(ends[0]));
    writer.join();
    char byte = 0;
    CHECK(::read(ends[0], &byte, 1) == 1);
    std::jthread closer([&] { ::close(ends[1]); });
    CHECK(wait.look_at(ends[0]));
  }
  ::close(ends[0]);
}
