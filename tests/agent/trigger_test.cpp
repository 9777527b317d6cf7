// Triggers: schedules in time zones with their odd days, missed times, overlap, watched folders, signatures.

#include "agent/triggers/folder_watch.hpp"
#include "agent/triggers/trigger_book.hpp"
#include "agent/triggers/webhook.hpp"
#include "base/hash.hpp"
#include "tests/agent/bank_run.hpp"

#include <fstream>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

std::int64_t utc(int year, int month, int day, int hour, int minute) { return tools::civil_seconds({year, month, day, hour, minute, 0}); }

std::int64_t next(const std::string& cron, const std::string& zone, std::int64_t after) {
  const auto schedule = Schedule::create(cron, zone);
  REQUIRE(schedule.has_value());
  const auto moment = schedule->next(after);
  REQUIRE(moment.has_value());
  return *moment;
}

}  // namespace

TEST_CASE("a schedule follows its zone over the year", "[agent][triggers]") {
  CHECK(next("0 7 * * 1-5", "Europe/Berlin", utc(2026, 11, 27, 6, 0)) == utc(2026, 11, 30, 6, 0));  // Friday 07:00 to Monday
  CHECK(next("0 7 * * 1-5", "Europe/Berlin", utc(2026, 7, 1, 4, 59)) == utc(2026, 7, 1, 5, 0));
  CHECK(next("*/15 * * * *", "UTC", utc(2026, 1, 1, 0, 1)) == utc(2026, 1, 1, 0, 15));
  CHECK(next("0 0 29 2 *", "UTC", utc(2026, 3, 1, 0, 0)) == utc(2028, 2, 29, 0, 0));
  CHECK(next("0 12 13 * 5", "UTC", utc(2026, 11, 1, 0, 0)) == utc(2026, 11, 6, 12, 0));  // the 13th or a Friday
  CHECK(next("30 4 * * 7", "UTC", utc(2026, 11, 28, 0, 0)) == utc(2026, 11, 29, 4, 30));
  CHECK(next("0 9 * * *", "Asia/Kolkata", utc(2026, 1, 1, 0, 0)) == utc(2026, 1, 1, 3, 30));
}

TEST_CASE("a time that clocks jump over is due once, and one that comes twice as well", "[agent][triggers]") {
  // Berlin, 29 March 2026: 02:00 becomes 03:00.
  const std::int64_t spring = next("30 2 * * *", "Europe/Berlin", utc(2026, 3, 28, 12, 0));
  CHECK(spring == utc(2026, 3, 29, 1, 30));  // shown as 03:30
  CHECK(next("30 2 * * *", "Europe/Berlin", spring) == utc(2026, 3, 30, 0, 30));
  // Berlin, 25 October 2026: 03:00 becomes 02:00; 02:30 comes at 00:30 and at 01:30 UTC.
  const std::int64_t autumn = next("30 2 * * *", "Europe/Berlin", utc(2026, 10, 24, 12, 0));
  CHECK(autumn == utc(2026, 10, 25, 0, 30));
  CHECK(next("30 2 * * *", "Europe/Berlin", autumn) == utc(2026, 10, 26, 1, 30));
  // Every half hour goes on as time passes.
  int count = 0;
  for (std::int64_t at = utc(2026, 10, 24, 22, 0) - 1; (at = next("*/30 * * * *", "Europe/Berlin", at)) < utc(2026, 10, 25, 23, 0);) ++count;
  CHECK(count == 50);  // a day of 25 hours
  count = 0;
  for (std::int64_t at = utc(2026, 3, 28, 23, 0) - 1; (at = next("*/30 * * * *", "Europe/Berlin", at)) < utc(2026, 3, 29, 22, 0);) ++count;
  CHECK(count == 46);  // and one of 23
}

TEST_CASE("missed times give one run, and a run that still works is not overtaken", "[agent][triggers]") {
  using Indices = std::vector<std::size_t>;
  TriggerSpec hourly;
  hourly.schedule = "0 * * * *";
  const std::int64_t start = utc(2026, 11, 1, 10, 30);
  std::optional<std::int64_t> kept;
  const auto seen = [&](std::size_t) { return kept; };
  {
    auto book = TriggerBook::create({hourly}, seen, start);
    REQUIRE(book.has_value());
    CHECK(!book->is_waiting(0));
    CHECK(book->due(start).start.empty());
    CHECK(book->due(utc(2026, 11, 1, 11, 0)).start == Indices{0});
    const auto still_at_work = book->due(utc(2026, 11, 1, 12, 0));
    CHECK(still_at_work.start.empty());
    CHECK(still_at_work.left_out == Indices{0});
    CHECK(book->left_out(0) == 1);
    book->finished(0);
    CHECK(book->due(utc(2026, 11, 1, 12, 1)).start.empty());
  }
  kept = utc(2026, 11, 1, 12, 0);
  auto later = TriggerBook::create({hourly}, seen, utc(2026, 11, 3, 9, 15));
  CHECK(later->is_waiting(0));
  CHECK(later->due(utc(2026, 11, 3, 9, 15)).start == Indices{0});
  CHECK(!later->is_waiting(0));
  later->finished(0);
  CHECK(later->due(utc(2026, 11, 3, 9, 16)).start.empty());
  // Killed before a run was made of it: what was kept is older than the time that came, however often that happens.
  for (int killed = 0; killed < 3; ++killed) CHECK(TriggerBook::create({hourly}, seen, utc(2026, 11, 3, 9, 17))->due(utc(2026, 11, 3, 9, 17)).start == Indices{0});
  kept = utc(2026, 11, 3, 9, 17);
  CHECK(TriggerBook::create({hourly}, seen, utc(2026, 11, 3, 9, 59))->due(utc(2026, 11, 3, 9, 59)).start.empty());
  hourly.missed = "skip";
  CHECK(TriggerBook::create({hourly}, seen, utc(2026, 11, 9, 9, 15))->due(utc(2026, 11, 9, 9, 15)).start.empty());

  TriggerSpec queued;
  queued.watch = "/tmp";
  queued.overlap = "queue";
  auto book = TriggerBook::create({queued}, seen, start);
  book->happened(0);
  CHECK(book->due(start).start.size() == 1);
  book->happened(0);
  book->happened(0);
  CHECK(book->due(start).start.empty());
  book->finished(0);
  CHECK(book->due(start).start.size() == 1);
  book->finished(0);
  CHECK(book->due(start).start.empty());
}

TEST_CASE("a watched folder tells about whole files", "[agent][triggers]") {
  const Folder folder;
  auto watch = FolderWatch::open(folder.path);
  REQUIRE(watch.has_value());
  CHECK(watch->wait(0, 0)->empty());
  std::ofstream(folder.path + "/a.txt") << "x";
  std::ofstream(folder.path + "/.hidden") << "x";
  std::filesystem::rename(folder.path + "/a.txt", folder.path + "/b.txt");
  const auto names = watch->wait(1000, 50);
  REQUIRE(names.has_value());
  CHECK(*names == std::vector<std::string>{"a.txt", "b.txt"});
  CHECK(!FolderWatch::open(folder.path + "/none"));
  std::filesystem::remove_all(folder.path);
  CHECK(!watch->wait(1000, 50));
}

TEST_CASE("a webhook is believed with the right, fresh, unused signature only", "[agent][triggers]") {
  CHECK(hmac_sha256_hex("key", "The quick brown fox jumps over the lazy dog") == "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
  ManualClock clock(1'790'000'000'000);
  WebhookGuard guard("s3cret", clock);
  const std::string good = sign_webhook("s3cret", 1'790'000'000, "body");
  CHECK(guard.check("Kontor-Signature", good, "body").has_value());
  CHECK(!guard.check("Kontor-Signature", good, "body"));  // replayed
  CHECK(!guard.check("Kontor-Signature", good, "other body"));
  CHECK(!guard.check("Kontor-Signature", sign_webhook("wrong", 1'790'000'000, "body"), "body"));
  CHECK(!guard.check("Kontor-Signature", sign_webhook("s3cret", 1'790'000'000 - 301, "body"), "body"));
  CHECK(!guard.check("Kontor-Signature", sign_webhook("s3cret", 1'790'000'000 + 301, "body"), "body"));
  for (const char* bad : {"", "t=,v1=", "t=1790000000", "v1=00", "t=-5,v1=00", "t=99999999999999999999,v1=00"}) CHECK(!guard.check("Kontor-Signature", bad, "body"));
  CHECK(guard.check("X-Hub-Signature-256", "sha256=" + hmac_sha256_hex("s3cret", "hub body"), "hub body").has_value());
  CHECK(!guard.check("X-Hub-Signature-256", "sha256=" + hmac_sha256_hex("s3cret", "hub body"), "hub body"));
  CHECK(!guard.check("X-Other", good, "body"));
  WebhookGuard empty("", clock);
  CHECK(!empty.check("Kontor-Signature", sign_webhook("", 1'790'000'000, "body"), "body"));
}
