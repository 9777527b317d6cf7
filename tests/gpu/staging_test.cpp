// Copies whose source changes at once, on a stream that copies as late as it may.

#include "inference/cuda/staging.hpp"
#include "tests/gpu/device/device.hpp"
#include "tests/support/catch.hpp"

#include <cstddef>
#include <cstring>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

/// Copies when it is waited for, not before.
struct LateStream {
  struct Copy {
    void* to;
    const void* from;
    std::uint64_t bytes;
  };
  std::vector<Copy> under_way;
  std::size_t marks[2] = {};  ///< Copies before the mark of a piece that are still under way.
  int waits = 0;

  void send(void* to, const void* from, std::uint64_t bytes) { under_way.push_back({to, from, bytes}); }
  void mark(int piece) { marks[piece] = under_way.size(); }
  void await(int piece) {
    ++waits;
    const std::size_t n = marks[piece];
    run(n);
    for (std::size_t& mark : marks) mark -= std::min(mark, n);
  }
  void run(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) std::memcpy(under_way[i].to, under_way[i].from, under_way[i].bytes);
    under_way.erase(under_way.begin(), under_way.begin() + static_cast<std::ptrdiff_t>(n));
  }
};

std::vector<std::byte> pattern(std::size_t bytes, int seed) {
  std::vector<std::byte> all(bytes);
  for (std::size_t i = 0; i < bytes; ++i) all[i] = static_cast<std::byte>(i * 7 + i / 251 + static_cast<std::size_t>(seed) * 13);
  return all;
}

}  // namespace

TEST_CASE("staged copies arrive whole although their source changes and the stream is late", "[staging]") {
  int passed = 0;
  for (const std::size_t piece : {512, 4096}) {
    LateStream stream;
    std::vector<std::byte> first(piece), second(piece);
    cuda::Staging<LateStream> staging(stream, first.data(), second.data(), piece);
    const std::vector<std::size_t> sizes = {1, 255, 256, 257, 511, 512, 513, 3000, 4096, 9001, 0, 20000, 5};
    for (int round = 0; round < 3; ++round) {
      std::vector<std::vector<std::byte>> arrived;
      for (const std::size_t bytes : sizes) arrived.emplace_back(bytes);
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        auto source = pattern(sizes[i], static_cast<int>(i) + round);
        staging.copy_in(arrived[i].data(), source.data(), source.size());
        std::fill(source.begin(), source.end(), std::byte{0xee});
      }
      stream.run(stream.under_way.size());
      stream.marks[0] = stream.marks[1] = 0;
      staging.drained();
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        const bool same = arrived[i] == pattern(sizes[i], static_cast<int>(i) + round);
        CHECK(same);
        passed += same;
      }
    }
    CHECK(stream.waits > 0);
    const int waits = stream.waits;
    std::vector<std::byte> small(100);
    for (int i = 0; i < 2; ++i) staging.copy_in(small.data(), small.data(), 100);
    CHECK(stream.waits == waits);  // What a decoding step sends waits for nobody.
  }
  test::count_cases("gpu staging", passed, 2 * 3 * 13 - passed);
}

TEST_CASE("a device takes copies from memory that is reused at once", "[staging]") {
  const auto device = test::make_device();
  if (!device) return test::count_cases("gpu copies", 0, 0, 1);
  constexpr std::size_t kBytes = 40 << 20;  // More than both pieces hold.
  auto buffer = device->allocate(kBytes);
  REQUIRE(buffer.has_value());
  auto source = pattern(kBytes, 3);
  const auto expected = source;
  for (std::size_t at = 0, n = 1; at < kBytes; at += n, n = std::min(kBytes - at, n * 3)) device->copy_in(buffer->as<std::byte>() + at, source.data() + at, n), std::memset(source.data() + at, 0xee, n);
  std::vector<std::byte> back(kBytes);
  device->copy_out(back.data(), buffer->data(), kBytes);
  REQUIRE(device->wait().has_value());
  CHECK(std::memcmp(back.data(), expected.data(), kBytes) == 0);
  test::count_cases("gpu copies", 1, 0);
}
