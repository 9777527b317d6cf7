// Runs a test program and closes with one line that ./dev test adds up:
// "kontor-tests NAME passed=N failed=N skipped=N".

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_all.hpp>
#define KONTOR_CATCH_3
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace kontor::test {
namespace {

int passed_total = 0;
int failed_total = 0;
int skipped_total = 0;

}  // namespace

void count_cases(const std::string& corpus, int passed, int failed, int skipped) {
  std::printf("corpus %s: %d passed, %d failed, %d skipped\n", corpus.c_str(), passed, failed, skipped);
  passed_total += passed;
  failed_total += failed;
  skipped_total += skipped;
}

std::string shared_dir() {
  if (const char* given = std::getenv("KONTOR_SHARED")) return given;
  const auto beside = std::filesystem::path(KONTOR_SOURCE_DIR).parent_path() / "shared";
  return std::filesystem::is_directory(beside) ? beside.string() : std::string();
}

namespace {

#ifdef KONTOR_CATCH_3
struct Counter final : Catch::EventListenerBase {
  using EventListenerBase::EventListenerBase;
#else
struct Counter final : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;
#endif
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    (stats.totals.assertions.failed > 0 ? failed_total : passed_total) += 1;
  }
};
CATCH_REGISTER_LISTENER(Counter)

}  // namespace
}  // namespace kontor::test

int main(int argc, char** argv) {
  const int status = Catch::Session().run(argc, argv);
  const std::string name = std::filesystem::path(argv[0]).filename().string();
  std::printf("kontor-tests %s passed=%d failed=%d skipped=%d\n", name.c_str(), kontor::test::passed_total,
              kontor::test::failed_total, kontor::test::skipped_total);
  return status != 0 || kontor::test::failed_total > 0 ? 1 : 0;
}
