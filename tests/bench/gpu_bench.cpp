// What a GPU can do, and what Kontor's kernels beside the model take, as JSON:
//
//   gpu_bench roofline|sampling|search [--small]
//
// The other figures are fractions of these. --small: sizes that the emulation computes in a moment.

#include "inference/sampler.hpp"
#include "memory/cuda/vector_kernels.hpp"
#include "tests/gpu/device/device.hpp"

#include "base/cuda/portable.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

/// Ends the program where the device fails: there is nothing to measure then.
template <class T>
T need(Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "gpu_bench: %s\n", result.error().message.c_str());
  std::exit(1);
}
void need(const Result<void>& result) {
  if (result) return;
  std::fprintf(stderr, "gpu_bench: %s\n", result.error().message.c_str());
  std::exit(1);
}

/// Seconds of one call: `times` of them are put onto the stream, then waited for; the best of three rounds behind a first one.
template <class Device>
double seconds_of(Device& device, int times, const std::function<void()>& work) {
  double best = 0;
  for (int round = 0; round < 4; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < times; ++i) work();
    need(device.wait());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / times;
    if (round == 1 || (round > 1 && seconds < best)) best = seconds;
  }
  return best;
}

Json roofline(cuda::Device& device, bool small) {
  const std::uint64_t bytes = small ? 1 << 20 : std::uint64_t{4} << 30;
  const std::int64_t side = small ? 64 : 8192;
  Json out;
  {
    const auto from = need(device.allocate(bytes)), to = need(device.allocate(bytes));
    const double seconds = seconds_of(device, 8, [&] { device.copy_within(to.data(), from.data(), bytes); });
    out["copy_gb_per_second"] = 2.0 * static_cast<double>(bytes) / seconds / 1e9;  // Read and written.
  }
  const auto square = static_cast<std::uint64_t>(side * side);
  const auto a = need(device.allocate(square * 2)), b = need(device.allocate(square * 2)), c = need(device.allocate(square * 4));
  std::vector<std::uint16_t> values(square);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint16_t>(0x3000 + i * 7919 % 0x400);
  device.copy_in(a.data(), values.data(), square * 2);
  device.copy_in(b.data(), values.data(), square * 2);
  cuda::MatrixProduct product;
  product.a = a.as<const std::uint16_t>();
  product.b = b.as<const std::uint16_t>();
  product.c = c.as<float>();
  product.count = product.rows = product.columns = product.a_length = product.b_length = product.c_length = side;
  const double seconds = seconds_of(device, 8, [&] { device.multiply(product); });
  out["matrix_tflops"] = 2.0 * static_cast<double>(side) * static_cast<double>(side) * static_cast<double>(side) / seconds / 1e12;
  return out;
}

/// What a decoding step pays for sampling on the device, and what copying the logits would take.
Json sampling(cuda::Device& device, bool small) {
  const std::int64_t vocabulary = small ? 4096 : 152064, most = 64;
  const auto bytes = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
  const std::int64_t words = (vocabulary + 31) / 32, pieces = cuda::shortlist_pieces(vocabulary), chunks = cuda::shortlist_chunks(vocabulary);
  const auto logits = need(device.allocate(bytes(most * vocabulary * 4))), masks = need(device.allocate(bytes(most * words * 4)));
  const auto masked = need(device.allocate(bytes(most * 4))), first = need(device.allocate(bytes(most * pieces * cuda::kShortlistLength * 8)));
  const auto second = need(device.allocate(bytes(most * pieces * cuda::kShortlistLength * 8)));
  const auto seen = need(device.allocate(bytes(most * pieces) * sizeof(cuda::ShortlistSeen))), sums = need(device.allocate(bytes(most * 2 * chunks * 8 * 4)));
  const auto results = need(device.allocate(bytes(most) * sizeof(cuda::ShortlistResult)));
  std::vector<float> row(static_cast<std::size_t>(vocabulary));
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(20 * random_uniform(1, i) * random_uniform(2, i) - 10);
  for (std::int64_t r = 0; r < most; ++r) device.copy_in(logits.as<float>() + r * vocabulary, row.data(), row.size() * 4);
  const std::vector<std::uint32_t> mask(static_cast<std::size_t>(most * words), 0x77777777u);
  const std::vector<std::int32_t> has(static_cast<std::size_t>(most), 1);
  device.copy_in(masked.data(), has.data(), has.size() * 4);
  cuda::ShortlistWork work;
  work.vocabulary = vocabulary;
  work.pieces = pieces;
  work.chunks = chunks;
  work.mask_words = words;
  work.masked = masked.as<const std::int32_t>();
  work.masks = masks.as<const std::uint32_t>();
  work.lists[0] = first.as<std::uint64_t>();
  work.lists[1] = second.as<std::uint64_t>();
  work.seen = seen.as<cuda::ShortlistSeen>();
  work.sums = sums.as<float>();
  work.results = results.as<cuda::ShortlistResult>();
  Json out{{"vocabulary", vocabulary}, {"rows", Json::array()}};
  std::vector<float> copied(static_cast<std::size_t>(most * vocabulary));
  std::vector<cuda::ShortlistResult> received(static_cast<std::size_t>(most));
  for (const std::int64_t rows : {std::int64_t{1}, most}) {
    const auto kernels = [&] { cuda::find_shortlists(logits.as<const float>(), rows, work, device.stream()); };
    const double alone = seconds_of(device, 8, kernels);
    const double whole = seconds_of(device, 1, [&] {
      device.copy_in(masks.data(), mask.data(), bytes(rows * words * 4));
      kernels();
      device.copy_out(received.data(), results.data(), bytes(rows) * sizeof(cuda::ShortlistResult));
    });
    const double copy = seconds_of(device, 1, [&] { device.copy_out(copied.data(), logits.data(), bytes(rows * vocabulary * 4)); });
    out["rows"].push_back({{"rows", rows}, {"kernels_microseconds", alone * 1e6}, {"with_masks_and_results_microseconds", whole * 1e6},
                           {"copying_logits_microseconds", copy * 1e6}});
  }
  return out;
}

/// Exact search: 10 million vectors of 768 values.
Json search(memory::VectorDevice& device, bool small) {
  const std::int64_t count = small ? 3000 : 10'000'000, width = 768, most = 64, blocks = memory::search_blocks(count, device.processors());
  const auto room = [&](std::int64_t bytes) { return need(device.allocate(static_cast<std::uint64_t>(bytes))); };
  Json out{{"vectors", count}, {"width", width}, {"rows", Json::array()}};
  const std::int64_t piece = small ? count : 100'000;
  std::vector<std::uint16_t> values(static_cast<std::size_t>(piece * width));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = 0.07 * (random_uniform(3, i) - 0.5) * (1 + static_cast<double>(i / 768 % 97) / 97);
    values[i] = gpu::half_bits(static_cast<float>(x));
  }
  void* held = room(count * width * 2);
  for (std::int64_t first = 0; first < count; first += piece)
    device.copy_in(static_cast<std::uint16_t*>(held) + first * width, values.data(), values.size() * 2);
  std::vector<float> queries(static_cast<std::size_t>(most * width));
  for (std::size_t i = 0; i < queries.size(); ++i) queries[i] = static_cast<float>(0.06 * (random_uniform(4, i) - 0.5));
  void* asked = room(most * width * 4);
  device.copy_in(asked, queries.data(), queries.size() * 4);
  std::uint64_t* const lists[2] = {static_cast<std::uint64_t*>(room(most * blocks * memory::kBestRows * 8)),
                                   static_cast<std::uint64_t*>(room(most * blocks * memory::kBestRows * 8))};
  const std::vector<float> scales(static_cast<std::size_t>(count), 1.0f);
  auto* factors = static_cast<float*>(room(count * 4));
  device.copy_in(factors, scales.data(), scales.size() * 4);
  for (const bool bytes : {false, true}) {  // The same memory as codes: time does not depend on the values.
    const memory::VectorRows rows{held, bytes ? factors : nullptr, count, width};
    for (const std::int64_t batch : {std::int64_t{1}, std::int64_t{memory::kQueriesTogether}, most}) {
      const double seconds = seconds_of(device, 2, [&] { (void)memory::find_rows(rows, static_cast<const float*>(asked), batch, blocks, lists, device.stream()); });
      const std::int64_t passes = batch == 1 ? 1 : batch / memory::kQueriesTogether;
      out["rows"].push_back({{"queries", batch}, {"type", bytes ? "int8" : "f16"}, {"milliseconds", seconds * 1e3},
                             {"gb_per_second", static_cast<double>(passes * count * width * (bytes ? 1 : 2)) / seconds / 1e9}});
    }
  }
  for (void* data : {held, asked, static_cast<void*>(lists[0]), static_cast<void*>(lists[1]), static_cast<void*>(factors)}) device.release(data);
  return out;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  const bool small = count > 2 && std::strcmp(arguments[2], "--small") == 0;
  if (what != "roofline" && what != "sampling" && what != "search") {
    std::fprintf(stderr, "usage: gpu_bench roofline|sampling|search [--small]\n");
    return 2;
  }
  if (what == "search") {
    const auto device = test::make_vector_device();
    if (!device) return 3;
    std::printf("%s\n", search(*device, small).dump().c_str());
    return 0;
  }
  const auto device = test::make_device();
  if (!device) return 3;
  const Json out = what == "roofline" ? roofline(*device, small) : sampling(*device, small);
  std::printf("%s\n", out.dump().c_str());
  return 0;
}
