// Vector search on the device finds what the processor's exact search finds.

#include "memory/vector_index.hpp"

#include "base/cuda/portable.hpp"
#include "memory/search.hpp"
#include "memory/store.hpp"
#include "tests/gpu/device/device.hpp"
#include "tests/support/catch.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <random>

using namespace kontor;
using memory::Precision;
using memory::VectorIndex;

namespace {

std::vector<float> unit_rows(std::size_t count, std::size_t width, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rows(count * width);
  for (float& x : rows) x = normal(random);
  for (std::size_t r = 0; r < count; ++r) REQUIRE(memory::make_unit(std::span(rows).subspan(r * width, width)));
  return rows;
}

/// As the device holds it.
std::vector<float> held(const std::vector<float>& rows, std::size_t width, Precision precision) {
  std::vector<float> out;
  for (std::size_t at = 0; at < rows.size(); at += width) {
    float largest = 0;
    for (std::size_t i = 0; i < width; ++i) largest = std::max(largest, std::fabs(rows[at + i]));
    const float scale = largest / 127.0f;
    for (std::size_t i = 0; i < width; ++i)
      out.push_back(precision == Precision::half ? gpu::half_value(gpu::half_bits(rows[at + i])) : static_cast<float>(std::lround(rows[at + i] / scale)) * scale);
  }
  return out;
}

std::unique_ptr<VectorIndex> index_of(const std::vector<float>& rows, std::size_t width, Precision precision) {
  auto index = VectorIndex::create(test::make_vector_device(), rows, width, precision);
  if (!index) FAIL(index.error().message);
  return std::move(*index);
}

bool absent(const char* corpus) {
  if (test::make_vector_device()) return false;
  test::count_cases(corpus, 0, 0, 1);
  return true;
}

}  // namespace

TEST_CASE("the device ranks its own values exactly, whatever the batch", "[vectors]") {
  if (absent("gpu vectors")) return;
  int passed = 0;
  // Widths that fill loads and ones that do not, one that a batch of queries does not fit for; counts around steps and blocks.
  for (const auto& [count, width] : {std::pair<std::size_t, std::size_t>{3000, 96}, {257, 40}, {5, 768}, {700, 1600}, {20000, 24}})
    for (const Precision precision : {Precision::half, Precision::byte}) {
      const auto rows = unit_rows(count, width, 1), queries = unit_rows(7, width, 2), values = held(rows, width, precision);
      const auto index = index_of(rows, width, precision);
      const auto proposed = index->propose(queries);
      REQUIRE(proposed.has_value());
      REQUIRE(proposed->size() == 7);
      for (std::size_t q = 0; q < 7; ++q) {
        const auto query = std::span(queries).subspan(q * width, width);
        const auto alone = index->propose(query);
        REQUIRE(alone.has_value());
        const auto& best = (*proposed)[q];
        CHECK(alone->front() == best);
        // In double, which decides but where float32 sums may round either way.
        std::vector<std::pair<double, std::size_t>> exact;
        for (std::size_t r = 0; r < count; ++r) {
          double sum = 0;
          for (std::size_t i = 0; i < width; ++i) sum += double{values[r * width + i]} * double{query[i]};
          exact.emplace_back(-sum, r);
        }
        std::sort(exact.begin(), exact.end());
        const double rounding = static_cast<double>(width) * 0x1p-23;
        bool good = best.size() == std::min<std::size_t>(256, count);
        for (std::size_t i = 0; i < best.size() && good; ++i) {
          double own = 0;
          for (std::size_t k = 0; k < width; ++k) own += double{values[best[i].first * width + k]} * double{query[k]};
          good = std::fabs(own - double{best[i].second}) <= rounding && std::fabs(own + exact[i].first) <= 2 * rounding &&
                 (i == 0 || best[i - 1].second > best[i].second || (best[i - 1].second == best[i].second && best[i - 1].first < best[i].first));
        }
        CHECK(good);
        passed += good;
      }
    }
  test::count_cases("gpu vectors", passed, 70 - passed);
}

TEST_CASE("nearest rows from the device are those of the processor, to the bit", "[vectors]") {
  if (absent("gpu nearest")) return;
  const std::size_t width = 64;
  auto rows = unit_rows(6000, width, 3);
  // Equal rows: the first ones come first.
  for (std::size_t r = 100; r < 140; ++r) std::copy_n(rows.begin() + 50 * 64, width, rows.begin() + static_cast<std::ptrdiff_t>(r * width));
  const auto queries = unit_rows(12, width, 4);
  const auto half = index_of(rows, width, Precision::half), byte = index_of(rows, width, Precision::byte);
  const auto compare = [&](VectorIndex& index, std::span<const float> query, std::size_t limit) {
    const auto found = index.nearest(rows, query, limit);
    REQUIRE(found.has_value());
    CHECK(*found == memory::nearest_rows(rows, query, limit));
  };
  for (std::size_t q = 0; q < 12; ++q)
    for (const std::size_t limit : {std::size_t{0}, std::size_t{1}, std::size_t{20}, std::size_t{100}}) compare(*half, std::span(queries).subspan(q * width, width), limit);
  CHECK(half->left_to_host() == 0);  // The device's values are fine enough for all of these.
  for (std::size_t q = 0; q < 12; ++q) compare(*byte, std::span(queries).subspan(q * width, width), 20);
  const std::int64_t coarse = byte->left_to_host();
  CHECK(coarse < 12);
  compare(*half, std::span(rows).subspan(50 * width, width), 30);
  // More than are proposed: the processor answers.
  compare(*half, std::span(queries).first(width), 300);
  CHECK(half->left_to_host() > 0);
  // A cluster so narrow that binary16 cannot tell its rows apart.
  for (std::size_t r = 1000; r < 2000; ++r)
    for (std::size_t i = 0; i < width; ++i) rows[r * width + i] = rows[50 * width + i] * (1 + 1e-6f * static_cast<float>(r % 7));
  const auto again = index_of(rows, width, Precision::half);
  compare(*again, std::span(rows).subspan(50 * width, width), 100);
  CHECK(again->left_to_host() == 1);
  test::count_cases("gpu nearest", 63, 0);
}

TEST_CASE("vectors that the device cannot hold are refused with the reason", "[vectors]") {
  if (absent("gpu vector refusals")) return;
  auto rows = unit_rows(300, 32, 5);
  const auto refusal = [&](std::size_t width, std::uint64_t memory = std::uint64_t{1} << 30) {
    const auto index = VectorIndex::create(test::make_vector_device(memory), rows, width, Precision::half);
    return index ? Error{} : index.error();
  };
  CHECK(refusal(32).code == Errc::none);
  CHECK(refusal(9600).kind == "vectors");
  rows[77] = 1e6f;
  CHECK(refusal(32).message.find("vector 2") != std::string::npos);
  rows[77] = std::numeric_limits<float>::quiet_NaN();
  CHECK(refusal(32).kind == "vectors");
  rows[77] = 0;
  const Error small = refusal(32, 10000);
  if (small.code != Errc::none) {  // A real device cannot be made smaller.
    CHECK(small.kind == "out_of_memory");
    CHECK(small.message.find("300 vectors of 32 values need") != std::string::npos);
  }
  test::count_cases("gpu vector refusals", 5, 0);
}

namespace {

/// Vectors from the letters of a text.
class Letters final : public memory::Embedder {
 public:
  std::string name() const override { return "letters"; }
  std::size_t width() const override { return 26; }
  Result<std::vector<float>> embed(std::string_view text) override {
    std::vector<float> vector(26, 0.01f);
    for (const char c : text)
      if (c >= 'a' && c <= 'z') vector[static_cast<std::size_t>(c - 'a')] += 1;
    return vector;
  }
};

std::vector<std::pair<std::int64_t, double>> found(memory::Store& store, const std::string& query) {
  Letters letters;
  const auto hits = store.search("s", query, 8, &letters);
  REQUIRE(hits.has_value());
  std::vector<std::pair<std::int64_t, double>> out;
  for (const memory::Hit& hit : *hits) out.emplace_back(hit.record.id, hit.similarity);
  return out;
}

}  // namespace

TEST_CASE("a memory uses the device where it is worth it, with the same hits", "[vectors]") {
  if (absent("gpu memory search")) return;
  const auto path = std::filesystem::temp_directory_path() / ("kontor_gpu_memory_" + std::to_string(::getpid()) + ".db");
  int opened = 0;
  memory::SearchOptions options;
  options.rows_least = 40;
  options.device = [&]() -> Result<std::unique_ptr<memory::VectorDevice>> { return ++opened, test::make_vector_device(); };
  {
    auto with = memory::Store::open(path.string(), system_clock(), options);
    REQUIRE(with.has_value());
    auto without = memory::Store::open(path.string(), system_clock(), {nullptr, 40});
    REQUIRE(without.has_value());
    Letters letters;
    const auto add = [&](int i) {
      memory::Record record;
      record.space = "s";
      record.text = std::string(static_cast<std::size_t>(1 + i % 5), static_cast<char>('a' + i % 26)) + " number" + std::string(static_cast<std::size_t>(i % 3), 'q') + std::to_string(i);
      REQUIRE((*with)->add(record, &letters).has_value());
    };
    for (int i = 0; i < 39; ++i) add(i);
    for (int n = 0; n < 3; ++n) CHECK(found(**with, "bbb") == found(**without, "bbb"));
    CHECK(opened == 0);  // Too few.
    add(39);
    CHECK(found(**with, "ccc") == found(**without, "ccc"));
    CHECK(opened == 0);  // The first search behind a change.
    CHECK(found(**with, "ccq") == found(**without, "ccq"));
    CHECK(opened == 1);
    CHECK(found(**with, "xyz") == found(**without, "xyz"));
    add(40);
    for (int n = 0; n < 3; ++n) CHECK(found(**with, "number") == found(**without, "number"));
    CHECK(opened == 1);
  }
  for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path.string() + end);
  test::count_cases("gpu memory search", 1, 0);
}
