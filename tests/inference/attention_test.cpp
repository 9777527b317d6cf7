// Attention over timelines of several spans (decoder_attention.cpp), on a tiny model with random weights.

#include "inference/backend.hpp"
#include "inference/cpu/kernels.hpp"
#include "inference/cpu/matrix.hpp"
#include "inference/dequantize.hpp"
#include "inference/kv_cache.hpp"
#include "inference/sampler.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_builder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

constexpr std::uint32_t kHeads = 4, kInner = 96, kVocabulary = 50, kLayers = 2;

/// llama with one key head: the hardest case for sharing attention out among threads.
std::string tiny_model(std::uint32_t kv_length = 16) {
  const std::uint32_t width = kHeads * kv_length;
  const float projection = 4 / std::sqrt(static_cast<float>(width));  // Scores then spread by 5, which is much.
  test::GgufBuilder file;
  file.string("general.architecture", "llama");
  const std::pair<const char*, std::uint32_t> numbers[] = {
      {"block_count", kLayers}, {"context_length", 4096}, {"embedding_length", width}, {"feed_forward_length", kInner},
      {"attention.head_count", kHeads}, {"attention.head_count_kv", 1}};
  for (const auto& [key, value] : numbers) file.u32(std::string("llama.") + key, value);
  file.scalar<float>("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f);
  std::uint64_t drawn = 0;
  const auto add = [&](const std::string& name, const std::vector<std::uint64_t>& dims, float scale, float shift) {
    file.tensor(name, dims, 0, file.data.size());
    const std::uint64_t n = dims.size() == 1 ? dims[0] : dims[0] * dims[1];
    for (std::uint64_t i = 0; i < n; ++i) {
      const float value = shift + scale * static_cast<float>(random_uniform(3, drawn++) * 2 - 1);
      file.data.append(reinterpret_cast<const char*>(&value), 4);
    }
    file.data.append((32 - file.data.size() % 32) % 32, '\0');
  };
  add("token_embd.weight", {width, kVocabulary}, 1.0f, 0);
  add("output_norm.weight", {width}, 0.1f, 1);
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    const std::string p = "blk." + std::to_string(layer) + ".";
    add(p + "attn_norm.weight", {width}, 0.1f, 1);
    add(p + "ffn_norm.weight", {width}, 0.1f, 1);
    add(p + "attn_q.weight", {width, width}, projection, 0);
    add(p + "attn_k.weight", {width, kv_length}, projection, 0);
    add(p + "attn_v.weight", {width, kv_length}, 0.3f, 0);
    add(p + "attn_output.weight", {width, width}, 0.3f, 0);
    add(p + "ffn_gate.weight", {width, kInner}, 0.2f, 0);
    add(p + "ffn_up.weight", {width, kInner}, 0.2f, 0);
    add(p + "ffn_down.weight", {kInner, width}, 0.2f, 0);
  }
  return file.bytes();
}

struct Run {
  int threads;
  int chunk;  ///< Tokens of a call.
  Compute compute = Compute::native;
  const char* kernels = "";
  KvType kv = KvType::f16;
};

/// Logits after each of the last tokens of a timeline of `count`.
std::vector<float> logits_of(const WeightFile& file, const Run& run, int count, int last) {
  BackendOptions options;
  options.device = "cpu";
  options.threads = run.threads;
  options.compute = run.compute;
  options.kernels = run.kernels;
  options.kv = run.kv;
  auto backend = open_backend(file, options);
  REQUIRE(backend.has_value());
  const auto sequence = (*backend)->create_sequence();
  std::vector<float> out(static_cast<std::size_t>(last) * kVocabulary);
  for (int at = 0; at < count;) {
    const int n = at < count - last ? std::min(run.chunk, count - last - at) : 1;
    std::vector<TokenId> tokens;
    for (int i = 0; i < n; ++i) tokens.push_back((at + i) * 7 % static_cast<int>(kVocabulary));
    float* to = at < count - last ? nullptr : out.data() + (at - (count - last)) * static_cast<int>(kVocabulary);
    const Extension extension[] = {{sequence.get(), tokens, to ? Output::last_logits : Output::none, to}};
    REQUIRE((*backend)->forward(extension).has_value());
    at += n;
  }
  return out;
}

}  // namespace

TEST_CASE("a timeline of several spans gives the same bits in any chunks and on any number of threads") {
  for (const KvType kv : {KvType::f16, KvType::q8_0}) {
    const std::string bytes = tiny_model(kv == KvType::q8_0 ? 32 : 16);
    const test::AlignedBytes aligned(bytes);
    const auto file = WeightFile::parse(aligned.span(), "tiny");
    REQUIRE(file.has_value());
    const auto expected = logits_of(*file, {1, 1, Compute::native, "", kv}, 1300, 6);
    for (Run run : {Run{1, 200}, Run{2, 64}, Run{5, 1300}, Run{3, 37}, Run{8, 20}}) {
      run.kv = kv;
      const auto got = logits_of(*file, run, 1300, 6);
      INFO(run.threads << " threads, chunks of " << run.chunk << ", " << to_string(kv));
      CHECK(std::memcmp(got.data(), expected.data(), expected.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("attention over several spans agrees with the float32 reference and between kernel sets") {
  const std::string bytes = tiny_model();
  const test::AlignedBytes aligned(bytes);
  const auto file = WeightFile::parse(aligned.span(), "tiny");
  REQUIRE(file.has_value());
  const auto reference = logits_of(*file, {1, 300, Compute::f32, "scalar"}, 1100, 2);
  float largest = 0;
  for (const float v : reference) largest = std::max(largest, std::fabs(v));
  for (const auto& [compute, tolerance] : {std::pair{Compute::f32, 1e-4f}, std::pair{Compute::native, 1e-2f}}) {
    const auto got = logits_of(*file, {2, 300, compute}, 1100, 2);
    float worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::fabs(got[i] - reference[i]));
    CHECK(worst <= tolerance * largest);
  }
}

TEST_CASE("a cache in 8 bit gives logits close to the float32 reference with every kernel set, and takes half the memory") {
  const std::string bytes = tiny_model(32);
  const test::AlignedBytes aligned(bytes);
  const auto file = WeightFile::parse(aligned.span(), "tiny");
  REQUIRE(file.has_value());
  const auto reference = logits_of(*file, {1, 300, Compute::f32, "scalar"}, 1100, 4);
  double squares = 0;
  for (const float v : reference) squares += double{v} * double{v};
  const auto distance = [&](const std::vector<float>& got) {
    double sum = 0;
    for (std::size_t i = 0; i < got.size(); ++i) sum += (double{got[i]} - double{reference[i]}) * (double{got[i]} - double{reference[i]});
    return std::sqrt(sum / squares);
  };
  // A code is off by at most 1/254 of the largest of its 32 values, which is about 0.6 % (root of the mean square) of a
  // typical one. Queries and keys together move a score by 0.8 % of the spread, here 5: each weight of softmax by 4 %, and
  // weights on single positions by as much. Two layers of it give 6 % where nothing averages out.
  for (const cpu::KernelSet* set : cpu::available_kernels()) {
    const std::string name(set->name);
    INFO(name);
    CHECK(distance(logits_of(*file, {2, 300, Compute::native, name.c_str(), KvType::q8_0}, 1100, 4)) <= 0.06);
    CHECK(distance(logits_of(*file, {2, 300, Compute::native, name.c_str(), KvType::f16}, 1100, 4)) <= 0.002);
  }
  const auto bytes_of = [](KvElement element) { return KvCache(KvShape{28, 2, 128, 128, element}).page_bytes(); };
  CHECK(bytes_of(KvElement::f16) == 28u * 2 * 64 * 256 * 2);
  CHECK(bytes_of(KvElement::q8_0) * 128 == bytes_of(KvElement::f16) * 68);
}

TEST_CASE("keys and values in 8 bit are within half a step, and attention over them equals sums in double precision") {
  constexpr int kPositions = 64;
  for (const cpu::KernelSet* set : cpu::available_kernels()) {
    for (const int head : {32, 96, 128}) {
      const auto n = static_cast<std::size_t>(head);
      KvCache cache(KvShape{1, 2, head, head, KvElement::q8_0});
      REQUIRE(cache.reserve(0, kPositions).has_value());
      std::vector<float> keys(kPositions * 2 * n), values(keys.size());
      std::uint64_t drawn = 0;
      for (float& x : keys) x = static_cast<float>(random_uniform(5, drawn++) * 2 - 1);
      for (float& x : values) x = static_cast<float>(random_uniform(6, drawn++) * 20 - 10);
      for (int p = 0; p < kPositions; ++p) cache.store(0, p, keys.data() + 2 * n * static_cast<std::size_t>(p), values.data() + 2 * n * static_cast<std::size_t>(p), *set);
      // The second head, as kv_cache.hpp describes it.
      const auto* k = static_cast<const std::uint8_t*>(cache.keys(0, 0, 1));
      const auto* v = static_cast<const std::uint8_t*>(cache.values(0, 0, 1));
      const auto half_at = [](const std::uint8_t* p) {
        std::uint16_t bits;
        std::memcpy(&bits, p, 2);
        return double{half_to_float(bits)};
      };
      std::vector<double> key(kPositions * n), value(key.size());
      double worst = 0;
      for (std::size_t p = 0; p < kPositions; ++p)
        for (std::size_t d = 0; d < n; ++d) {
          const std::uint8_t* block = k + (p / 16 * (n / 32) + d / 32) * (32 + 512);
          const double key_scale = half_at(block + 2 * (p % 16));
          key[p * n + d] = key_scale * (block[32 + d % 32 / 4 * 64 + p % 16 * 4 + d % 4] - 128);
          const std::uint8_t* group = v + d / 32 * 64 * 34;
          const double value_scale = half_at(group + 2 * p);
          value[p * n + d] = value_scale * static_cast<std::int8_t>(group[128 + p * 32 + d % 32]);
          // Half a step, and the rounding of the scale to 11 bits.
          const std::size_t at = p * 2 * n + n + d;
          worst = std::max(worst, std::fabs(key[p * n + d] - double{keys[at]}) / (key_scale * (0.501 + 127 * 0x1p-11)));
          worst = std::max(worst, std::fabs(value[p * n + d] - double{values[at]}) / (value_scale * (0.501 + 127 * 0x1p-11)));
        }
      INFO(set->name << ", heads of " << head);
      CHECK(worst <= 1.0);
      for (const int queries : {1, 3, 13}) {
        const auto count = static_cast<std::size_t>(queries);
        std::vector<float> q(count * n), scores(count * 64), out(count * n, 0.25f);
        for (float& x : q) x = static_cast<float>(random_uniform(7, drawn++) * 2 - 1);
        cpu::ConvertedRows converted;
        cpu::Activations rows{q.data(), {}, nullptr, queries};
        constexpr cpu::ActivationForm kCodes{true, false, false};
        converted.grow(queries * head, kCodes);
        converted.lend(rows, head, kCodes);
        cpu::convert_rows_here(rows, head, kCodes, 0, queries, *set);
        cpu::multiply_page(k, v, rows.quantized, queries, scores.data(), 64, *set);
        double wrong = 0;
        for (std::size_t i = 0; i < count; ++i)
          for (std::size_t p = 0; p < 64; ++p) {
            double sum = 0, magnitude = 0;
            for (std::size_t d = 0; d < n; ++d) {
              const double product = double{converted.scales[(i * n + d) / 32]} * converted.codes[i * n + d] * key[p * n + d];
              sum += product, magnitude += std::fabs(product);
            }
            wrong = std::max(wrong, std::fabs(sum - double{scores[i * 64 + p]}) / (4 * head * 0x1p-24 * magnitude));
          }
        CHECK(wrong <= 1.0);
        constexpr std::size_t kCount = 51;
        set->mix_q8(scores.data(), 64, queries, v, k, head, kCount, out.data(), head);
        wrong = 0;
        for (std::size_t i = 0; i < count; ++i)
          for (std::size_t d = 0; d < n; ++d) {
            double sum = 0.25, magnitude = 0.25;
            for (std::size_t p = 0; p < kCount; ++p) {
              const double product = double{scores[i * 64 + p]} * value[p * n + d];
              sum += product, magnitude += std::fabs(product);
            }
            wrong = std::max(wrong, std::fabs(sum - double{out[i * n + d]}) / (2 * kCount * 0x1p-24 * magnitude));
          }
        CHECK(wrong <= 1.0);
      }
    }
  }
}

TEST_CASE("what is not a number in keys or values stays visible in an 8-bit cache, and only where it is") {
  const cpu::KernelSet& kernels = cpu::best_kernels();
  KvCache cache(KvShape{1, 1, 32, 64, KvElement::q8_0});
  REQUIRE(cache.reserve(0, 2).has_value());
  std::vector<float> key(32, 0.5f), value(64, -2.0f);
  cache.store(0, 0, key.data(), value.data(), kernels);
  key[3] = std::numeric_limits<float>::quiet_NaN();
  value[40] = std::numeric_limits<float>::infinity();
  cache.store(0, 1, key.data(), value.data(), kernels);
  std::vector<float> out(64, 0.0f);
  std::vector<float> weights(64, 0.0f);
  weights[0] = 1;
  kernels.mix_q8(weights.data(), 64, 1, cache.values(0, 0, 0), nullptr, 64, 1, out.data(), 64);
  for (const float v : out) CHECK(std::fabs(v + 2.0f) < 0.02f);
  weights[1] = 1;
  std::fill(out.begin(), out.end(), 0.0f);
  kernels.mix_q8(weights.data(), 64, 1, cache.values(0, 0, 0), nullptr, 64, 2, out.data(), 64);
  CHECK(std::fabs(out[0] + 4.0f) < 0.04f);
  CHECK(std::isnan(out[40]));
}

TEST_CASE("a fork or a rollback of a timeline goes on with the bits of one that was computed at once, in 8 bit too") {
  const std::string bytes = tiny_model(32);
  const test::AlignedBytes aligned(bytes);
  const auto file = WeightFile::parse(aligned.span(), "tiny");
  REQUIRE(file.has_value());
  for (const KvType kv : {KvType::f16, KvType::q8_0}) {
    BackendOptions options;
    options.device = "cpu";
    options.kv = kv;
    auto backend = open_backend(*file, options);
    REQUIRE(backend.has_value());
    const auto extend = [&](Sequence& sequence, int count, int seed) {
      std::vector<TokenId> tokens;
      for (int i = 0; i < count; ++i) tokens.push_back((i * seed + seed) % static_cast<int>(kVocabulary));
      std::vector<float> logits(kVocabulary);
      const Extension extension[] = {{&sequence, tokens, Output::last_logits, logits.data()}};
      REQUIRE((*backend)->forward(extension).has_value());
      return logits;
    };
    const auto clean = (*backend)->create_sequence(), used = (*backend)->create_sequence();
    extend(*clean, 100, 3);
    const auto expected = extend(*clean, 30, 5);
    extend(*used, 100, 3);
    const auto forked = used->fork();
    extend(*used, 90, 11);
    CHECK(extend(*forked, 30, 5) == expected);
    used->truncate(100);
    CHECK(extend(*used, 30, 5) == expected);
    CHECK(extend(*forked, 1, 7) == extend(*used, 1, 7));
  }
}

TEST_CASE("types of the KV cache that a model or the arithmetic does not have are refused by name") {
  const std::string bytes = tiny_model(16), wide = tiny_model(32);
  const test::AlignedBytes aligned(bytes), aligned_wide(wide);
  const auto file = WeightFile::parse(aligned.span(), "tiny"), wide_file = WeightFile::parse(aligned_wide.span(), "tiny");
  REQUIRE(file.has_value());
  REQUIRE(wide_file.has_value());
  BackendOptions options;
  options.device = "cpu";
  options.kv = KvType::q8_0;
  CHECK(open_backend(*file, options).error().kind == "kv_type");
  auto backend = open_backend(*wide_file, options);
  REQUIRE(backend.has_value());
  CHECK((*backend)->arithmetic().ends_with(" native kv q8_0"));
  options.compute = Compute::f32;
  CHECK(open_backend(*wide_file, options).error().kind == "bad_kv_type");
  CHECK(kv_type_named("q8_0") == KvType::q8_0);
  CHECK(!kv_type_named("q4_0"));
}
