// Every kernel set against plain double arithmetic. Bounds are derived: a float32 sum of n products is off by at most
// about n * 2^-24 times the sum of their magnitudes, whatever the order.

#include "inference/cpu/kernels.hpp"
#include "inference/cpu/matrix.hpp"
#include "inference/cpu/packed.hpp"
#include "inference/dequantize.hpp"
#include "inference/sampler.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

using namespace kontor;
using namespace kontor::inference;
using namespace kontor::inference::cpu;

namespace {

constexpr double kEpsilon = 0x1p-24;

/// Numbers that repeat from run to run.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : seed_(seed) {}
  float operator()() { return static_cast<float>(random_uniform(seed_, index_++) * 2 - 1); }
  std::uint32_t bits() { return static_cast<std::uint32_t>(random_uniform(seed_, index_++) * 4294967296.0); }

 private:
  std::uint64_t seed_, index_ = 0;
};

std::vector<float> floats(std::size_t n, std::uint64_t seed) {
  Draw draw(seed);
  std::vector<float> values(n);
  for (float& v : values) v = draw();
  return values;
}

/// A tensor of random blocks whose binary16 scales are small and finite.
struct RandomTensor {
  RandomTensor(TensorType type, std::int64_t columns, std::int64_t rows) {
    const TensorTypeInfo& kind = info(type);
    const std::int64_t blocks = columns * rows / kind.block_elements;
    bytes.resize(static_cast<std::size_t>(blocks * kind.block_bytes));
    Draw draw(static_cast<std::uint64_t>(type) + 100);
    for (std::uint8_t& b : bytes) b = static_cast<std::uint8_t>(draw.bits() >> 9);
    std::vector<int> scales{0};
    if (type == TensorType::q4_1 || type == TensorType::q5_1 || type == TensorType::q4_k || type == TensorType::q5_k) scales = {0, 2};
    if (type == TensorType::q6_k) scales = {208};
    if (type == TensorType::q2_k) scales = {80, 82};
    if (type == TensorType::q3_k) scales = {108};
    if (type == TensorType::mxfp4) scales = {};
    const bool whole = kind.block_elements == 1;
    for (std::int64_t b = 0; b < blocks; ++b) {
      for (const int at : scales) {
        if (type == TensorType::f32) {
          const float value = draw();
          std::memcpy(&bytes[static_cast<std::size_t>(b) * 4], &value, 4);
          continue;
        }
        const float value = whole ? draw() : draw() * 0.02f;
        std::uint16_t half = float_to_half(value);
        if (type == TensorType::bf16) half = static_cast<std::uint16_t>(__builtin_bit_cast(std::uint32_t, value) >> 16);
        std::memcpy(&bytes[static_cast<std::size_t>(b * kind.block_bytes + at)], &half, 2);
      }
      std::uint8_t* block = &bytes[static_cast<std::size_t>(b * kind.block_bytes)];
      if (type == TensorType::mxfp4) block[0] = static_cast<std::uint8_t>(110 + b % 20);
      // The scale of IQ1_M lies in the top nibbles of four words.
      if (type == TensorType::iq1_m)
        for (int i = 0; i < 4; ++i) block[49 + 2 * i] = static_cast<std::uint8_t>((block[49 + 2 * i] & 15) | (0x2345 >> (4 * i) & 15) << 4);
    }
    tensor.name = "test";
    tensor.type = type;
    tensor.rank = 2;
    tensor.shape = {columns, rows, 1, 1};
    tensor.data = reinterpret_cast<const std::byte*>(bytes.data());
    tensor.bytes = bytes.size();
    tensor.elements = columns * rows;
  }
  std::vector<std::uint8_t> bytes;
  Tensor tensor;
};

std::vector<float> multiply_with(const KernelSet& set, const Matrix& matrix, const float* x, std::int64_t count, ConvertedRows& buffers, ThreadPool& pool) {
  const ActivationForm form = usable(matrix.activations(), set);
  Activations activations{x, {}, nullptr, count};
  buffers.grow(count * matrix.columns(), form);
  buffers.lend(activations, matrix.columns(), form);
  convert_rows(activations, matrix.columns(), form, set, pool);
  std::vector<float> out(static_cast<std::size_t>(count * matrix.rows()), -1.0f);
  const Product product[] = {{&matrix, out.data(), matrix.rows()}};
  multiply(product, activations, set, pool);
  return out;
}

/// What a packed F16 row holds: codes of 14 bits on a scale for 32 values that is a bfloat16, rounded up.
void hold_halves(std::vector<float>& row) {
  for (std::size_t b = 0; b + 32 <= row.size(); b += 32) {
    float top = 0;
    for (std::size_t i = b; i < b + 32; ++i) top = std::max(top, std::fabs(row[i]));
    const float scale = __builtin_bit_cast(float, (__builtin_bit_cast(std::uint32_t, top / 8191) + 0xffff) & 0xffff0000u);
    for (std::size_t i = b; i < b + 32 && top > 0; ++i) {
      const float held = std::nearbyint(row[i] / scale) * scale;
      CHECK(std::fabs(held - row[i]) <= top * 0x1p-13f);
      row[i] = held;
    }
  }
}

/// Half to even, as the processor does.
float nearest_bf16(float value) {
  std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
  bits += 0x7fff + (bits >> 16 & 1);
  return __builtin_bit_cast(float, bits & 0xffff0000u);
}

constexpr TensorType kTypes[] = {TensorType::f32, TensorType::f16, TensorType::bf16, TensorType::q4_0, TensorType::q4_1, TensorType::q5_0,
                                 TensorType::q5_1, TensorType::q8_0, TensorType::q4_k, TensorType::q5_k, TensorType::q6_k, TensorType::q2_k,
                                 TensorType::q3_k, TensorType::iq4_nl, TensorType::iq4_xs, TensorType::mxfp4, TensorType::iq2_xxs, TensorType::iq2_xs,
                                 TensorType::iq2_s, TensorType::iq3_xxs, TensorType::iq3_s, TensorType::iq1_s, TensorType::iq1_m};

}  // namespace

TEST_CASE("matrix products of every type and kernel set equal the sum of expanded weights times activations") {
  constexpr std::int64_t kColumns = 512, kRows = 37, kCount = 11;
  ThreadPool pool(3);
  const std::vector<float> x = floats(kColumns * kCount, 5);
  for (const TensorType type : kTypes) {
    const RandomTensor random(type, kColumns, kRows);
    const auto matrix = Matrix::create(random.tensor, false, pool);
    REQUIRE(matrix.has_value());
    std::vector<float> row(kColumns);
    for (const KernelSet* set : available_kernels()) {
      ConvertedRows buffers;
      const auto out = multiply_with(*set, *matrix, x.data(), kCount, buffers, pool);
      double worst = 0;
      for (std::int64_t r = 0; r < kRows; ++r) {
        REQUIRE(dequantize_row(random.tensor, r, row.data()).has_value());
        if (type == TensorType::f16) hold_halves(row);
        for (std::int64_t t = 0; t < kCount; ++t) {
          double sum = 0, magnitude = 0;
          for (std::int64_t i = 0; i < kColumns; ++i) {
            const std::int64_t at = t * kColumns + i;
            const ActivationForm form = usable(matrix->activations(), *set);
            const auto value = static_cast<std::size_t>(at), block = value / 32;
            const double a = form.int8    ? double{buffers.scales[block]} * buffers.codes[value]
                             : form.int16 ? double{buffers.wide_scales[block]} * buffers.wide[value]
                             : form.bf16  ? double{nearest_bf16(x[value])}
                                          : double{x[value]};
            const double product = double{row[static_cast<std::size_t>(i)]} * a;
            sum += product;
            magnitude += std::fabs(product);
          }
          // Scale and minimum of a block can cancel: their products are larger than the values they make.
          const double bound = 4 * kColumns * kEpsilon * magnitude + 1e-6;
          worst = std::max(worst, std::fabs(double{out[static_cast<std::size_t>(t * kRows + r)]} - sum) / bound);
        }
      }
      INFO(to_string(type) << " " << set->name);
      CHECK(worst <= 1.0);
    }
  }
}

TEST_CASE("a row's product has the same bits whatever is computed together with it and on however many threads") {
  constexpr std::int64_t kColumns = 768, kRows = 72, kCount = 29;
  const std::vector<float> x = floats(kColumns * kCount, 6);
  for (const TensorType type : kTypes) {
    const RandomTensor random(type, kColumns, kRows);
    for (const KernelSet* set : available_kernels()) {
      std::vector<float> single;
      for (const int threads : {1, 4}) {
        ThreadPool pool(threads);
        const auto matrix = Matrix::create(random.tensor, false, pool);
        REQUIRE(matrix.has_value());
        ConvertedRows buffers;
        if (single.empty()) {
          for (std::int64_t t = 0; t < kCount; ++t) {
            const auto row = multiply_with(*set, *matrix, x.data() + t * kColumns, 1, buffers, pool);
            single.insert(single.end(), row.begin(), row.end());
          }
        }
        const auto all = multiply_with(*set, *matrix, x.data(), kCount, buffers, pool);
        INFO(to_string(type) << " " << set->name << " " << threads << " threads");
        CHECK(std::memcmp(all.data(), single.data(), all.size() * sizeof(float)) == 0);
        // So few that all of them meet a tile before the next one is looked at.
        for (const std::int64_t few : {8, 9, 16}) {
          const auto some = multiply_with(*set, *matrix, x.data(), few, buffers, pool);
          CHECK(std::memcmp(some.data(), single.data(), some.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}

TEST_CASE("a long prompt's products have the bits of single rows, whatever pieces threads take and however large tiles are") {
  // Tiles of 72 to 300 KB: pieces of two tiles, of many, and across two matrices that share activations; odd ends.
  constexpr std::int64_t kCount = 40;
  for (const auto& [type, columns, rows, more] : {std::tuple{TensorType::q8_0, std::int64_t{8960}, std::int64_t{168}, std::int64_t{56}},
                                                  std::tuple{TensorType::f16, std::int64_t{8960}, std::int64_t{104}, std::int64_t{72}},
                                                  std::tuple{TensorType::q4_k, std::int64_t{768}, std::int64_t{1000}, std::int64_t{520}},
                                                  std::tuple{TensorType::q6_k, std::int64_t{768}, std::int64_t{1000}, std::int64_t{24}}}) {
    const std::vector<float> x = floats(columns * kCount, 16);
    const RandomTensor random(type, columns, rows), other(type, columns, more);
    for (const KernelSet* set : available_kernels()) {
      if (set->name == "scalar") continue;  // It takes tiles one at a time, and its time.
      ThreadPool one(1);
      const auto matrix = Matrix::create(random.tensor, false, one), second = Matrix::create(other.tensor, false, one);
      REQUIRE((matrix && second));
      ConvertedRows buffers;
      std::vector<float> single, single_second;
      for (std::int64_t t = 0; t < kCount; ++t) {
        const auto row = multiply_with(*set, *matrix, x.data() + t * columns, 1, buffers, one), row_second = multiply_with(*set, *second, x.data() + t * columns, 1, buffers, one);
        single.insert(single.end(), row.begin(), row.end());
        single_second.insert(single_second.end(), row_second.begin(), row_second.end());
      }
      for (const int threads : {1, 2, 3}) {
        INFO(to_string(type) << " " << set->name << " " << threads << " threads");
        ThreadPool pool(threads);
        const ActivationForm form = usable(matrix->activations(), *set);
        Activations activations{x.data(), {}, nullptr, kCount};
        buffers.grow(kCount * columns, form);
        buffers.lend(activations, columns, form);
        convert_rows(activations, columns, form, *set, pool);
        std::vector<float> out(single.size(), -1.0f), out_second(single_second.size(), -1.0f);
        const Product products[] = {{&*matrix, out.data(), rows}, {&*second, out_second.data(), more}};
        multiply(products, activations, *set, pool);
        CHECK(std::memcmp(out.data(), single.data(), single.size() * sizeof(float)) == 0);
        CHECK(std::memcmp(out_second.data(), single_second.data(), single_second.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("rows of halves whose length fills no vector meet every column, alone and in batches") {
  ThreadPool pool(1);
  for (const TensorType type : {TensorType::f32, TensorType::f16, TensorType::bf16}) {
    for (const std::int64_t columns : {3, 31, 100, 2103}) {
      constexpr std::int64_t kRows = 21, kCount = 9;
      const std::vector<float> x = floats(static_cast<std::size_t>(columns * kCount), 7);
      const RandomTensor random(type, columns, kRows);
      const auto matrix = Matrix::create(random.tensor, false, pool);
      REQUIRE(matrix.has_value());
      std::vector<float> row(static_cast<std::size_t>(columns));
      for (const KernelSet* set : available_kernels()) {
        INFO(to_string(type) << " " << set->name << " " << columns << " columns");
        ConvertedRows buffers;
        const auto all = multiply_with(*set, *matrix, x.data(), kCount, buffers, pool);
        for (std::int64_t t = 0; t < kCount; ++t) {
          const auto alone = multiply_with(*set, *matrix, x.data() + t * columns, 1, buffers, pool);
          CHECK(std::memcmp(alone.data(), all.data() + t * kRows, kRows * sizeof(float)) == 0);
        }
        // Bfloat16 has eight bits: up to 2^-8 of an activation are rounded away.
        const double rounding = set->narrow && type == TensorType::bf16 ? 0x1p-8 : 0;
        for (std::int64_t r = 0; r < kRows; ++r) {
          REQUIRE(dequantize_row(random.tensor, r, row.data()).has_value());
          for (std::int64_t t = 0; t < kCount; ++t) {
            double sum = 0, magnitude = 0;
            for (std::int64_t i = 0; i < columns; ++i) {
              const double product = double{row[static_cast<std::size_t>(i)]} * double{x[static_cast<std::size_t>(t * columns + i)]};
              sum += product;
              magnitude += std::fabs(product);
            }
            CHECK(std::fabs(double{all[static_cast<std::size_t>(t * kRows + r)]} - sum) <= (rounding + 2 * static_cast<double>(columns) * kEpsilon) * magnitude);
          }
        }
      }
    }
  }
}

TEST_CASE("quantised activations are within half a step, and what is not a number stays none") {
  for (const KernelSet* set : available_kernels()) {
    ConvertedRows q;
    Activations rows;
    q.grow(256, {true, true, false});
    q.lend(rows, 64, {true, true, false});
    std::vector<float> x = floats(256, 9);
    std::fill(x.begin() + 64, x.begin() + 96, 0.0f);
    x[130] = std::numeric_limits<float>::quiet_NaN();
    x[200] = -std::numeric_limits<float>::infinity();
    for (int t = 0; t < 4; ++t) set->quantize(x.data() + 64 * t, t, rows.quantized), set->quantize_wide(x.data() + 64 * t, t, rows.quantized);
    INFO(set->name);
    for (std::size_t i = 0; i < 128; ++i)
      CHECK(std::fabs(double{q.scales[i / 32]} * q.codes[i] - double{x[i]}) <= double{q.scales[i / 32]} * 0.5001);
    CHECK(q.scales[2] == 0.0f);
    CHECK(std::isnan(q.scales[4]));
    CHECK(std::isnan(q.sums[4]));
    CHECK(std::isfinite(q.scales[5]));
    CHECK(std::isnan(q.scales[6]));
    int sum = 0;
    for (std::size_t i = 16; i < 32; ++i) sum += q.codes[i];
    CHECK(q.half_sums[1] == sum);
    CHECK(q.half_starts[1] == -128 * sum);
    // The wide codes: the same with finer steps, and never beyond what a sum of 32 products has room for.
    for (std::size_t i = 0; i < 128; ++i) {
      CHECK(std::fabs(double{q.wide_scales[i / 32]} * q.wide[i] - double{x[i]}) <= double{q.wide_scales[i / 32]} * 0.501);
      CHECK(std::abs(q.wide[i]) <= kHalfCodes);
    }
    CHECK(q.wide_scales[2] == 0.0f);
    CHECK(std::isnan(q.wide_scales[4]));
    CHECK(std::isfinite(q.wide_scales[5]));
    CHECK(std::isnan(q.wide_scales[6]));
  }
}

TEST_CASE("attention kernels equal sums in double precision for head sizes that fill no vector") {
  for (const KernelSet* set : available_kernels()) {
    for (const int head : {4, 8, 48, 64, 128}) {
      for (const int queries : {1, 3, 13}) {
        const auto n = static_cast<std::size_t>(head);
        const std::vector<float> q = floats(n * static_cast<std::size_t>(queries), 20), keys = floats(n * 64, 21);
        std::vector<std::uint16_t> half(keys.size());
        for (std::size_t i = 0; i < half.size(); ++i) half[i] = float_to_half(keys[i]);
        std::vector<float> scores(64 * static_cast<std::size_t>(queries)), out(q.size());
        for (const bool is_half : {false, true}) {
          const auto element = [&](std::size_t i) { return is_half ? double{half_to_float(half[i])} : double{keys[i]}; };
          const void* data = is_half ? static_cast<const void*>(half.data()) : keys.data();
          (is_half ? set->scores_f16 : set->scores_f32)(q.data(), head, queries, data, nullptr, head, scores.data(), 64);
          double worst = 0;
          for (std::size_t i = 0; i < static_cast<std::size_t>(queries); ++i)
            for (std::size_t p = 0; p < 64; ++p) {
              double sum = 0;
              for (std::size_t d = 0; d < n; ++d) sum += double{q[i * n + d]} * element(d * 64 + p);
              worst = std::max(worst, std::fabs(sum - double{scores[i * 64 + p]}));
            }
          CHECK(worst <= 2.0 * head * head * kEpsilon);
          constexpr int kCount = 51;
          std::fill(out.begin(), out.end(), 0.25f);
          (is_half ? set->mix_f16 : set->mix_f32)(scores.data(), 64, queries, data, data, head, kCount, out.data(), head);
          worst = 0;
          for (std::size_t i = 0; i < static_cast<std::size_t>(queries); ++i)
            for (std::size_t d = 0; d < n; ++d) {
              double sum = 0.25, magnitude = 0.25;
              for (std::size_t p = 0; p < kCount; ++p) {
                sum += double{scores[i * 64 + p]} * element(p * n + d);
                magnitude += std::fabs(double{scores[i * 64 + p]} * element(p * n + d));
              }
              worst = std::max(worst, std::fabs(sum - double{out[i * n + d]}) / (2 * kCount * kEpsilon * magnitude));
            }
          CHECK(worst <= 1.0);
        }
      }
    }
  }
}

TEST_CASE("norm, activation and the exponentials of softmax agree with double precision") {
  for (const KernelSet* set : available_kernels()) {
    INFO(set->name);
    constexpr std::size_t kN = 101;
    const std::vector<float> x = floats(kN, 30), w = floats(kN, 31);
    std::vector<float> out(kN);
    set->rms_norm(x.data(), w.data(), 1e-5f, kN, out.data());
    double squares = 0;
    for (const float v : x) squares += double{v} * double{v};
    const double factor = 1 / std::sqrt(squares / kN + 1e-5);
    for (std::size_t i = 0; i < kN; ++i) CHECK(std::fabs(double{out[i]} - double{x[i]} * factor * double{w[i]}) <= 1e-6);

    std::vector<float> gate(kN);
    for (std::size_t i = 0; i < kN; ++i) gate[i] = (static_cast<float>(i) - 50) * 4;
    const std::vector<float> before = gate;
    set->silu_mul(gate.data(), w.data(), kN);
    for (std::size_t i = 0; i < kN; ++i) {
      const double expected = double{before[i]} / (1 + std::exp(-double{before[i]})) * double{w[i]};
      CHECK(std::fabs(double{gate[i]} - expected) <= 1e-6 * std::fabs(expected) + 1e-30);
    }

    std::vector<float> scores = floats(kN, 32);
    for (float& v : scores) v *= 30;
    scores[7] = -std::numeric_limits<float>::infinity();
    std::vector<double> expected(kN);
    double total = 0;
    const double top = double{*std::max_element(scores.begin(), scores.end())};
    for (std::size_t i = 0; i < kN; ++i) total += expected[i] = std::exp(0.5 * (double{scores[i]} - top));
    float shift = 0;
    const float sum = set->exp_weights(scores.data(), 0.5f, kN, &shift);
    CHECK(shift == static_cast<float>(0.5 * top));
    CHECK(std::fabs(double{sum} - total) <= 2e-6 * total);
    for (std::size_t i = 0; i < kN; ++i) CHECK(std::fabs(double{scores[i]} - expected[i]) <= 2e-6);
  }
}

TEST_CASE("what draws use has the same bits in every kernel set and is as exact as it says") {
  for (const std::size_t n : {std::size_t{1}, std::size_t{13}, std::size_t{4099}}) {
    std::vector<float> x = floats(n, 40);
    for (std::size_t i = 0; i < n; ++i) x[i] = x[i] * (i % 7 == 0 ? 900.0f : 9.0f) - 5;
    if (n > 1) x[n / 2] = -std::numeric_limits<float>::infinity();
    const float top = *std::max_element(x.begin(), x.end());
    const SamplingKernels& reference = scalar_kernels()->sampling;
    std::vector<double> expected(n);
    std::vector<std::int32_t> places(n);
    reference.exp_each(x.data(), static_cast<std::int64_t>(n), top, 0.6, expected.data());
    reference.bucket_each(x.data(), static_cast<std::int64_t>(n), top, 100, 2000, places.data());
    double total = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double exact = std::exp(std::max(-700.0, (double{x[i]} - double{top}) / 0.6));
      CHECK(std::fabs(expected[i] - exact) <= 1e-11 * exact);
      total += std::exp(std::max(-80.0, double{x[i]} - double{top}));
      CHECK(places[i] == static_cast<int>(std::min((top - x[i]) * 100, 2000.0f)));
    }
    CHECK(std::fabs(reference.exp_total(x.data(), static_cast<std::int64_t>(n), top) - total) <= 1e-6 * total);
    for (const KernelSet* set : available_kernels()) {
      INFO(set->name << " " << n);
      std::vector<double> out(n);
      std::vector<std::int32_t> buckets(n);
      bool bad = true;
      set->sampling.exp_each(x.data(), static_cast<std::int64_t>(n), top, 0.6, out.data());
      set->sampling.bucket_each(x.data(), static_cast<std::int64_t>(n), top, 100, 2000, buckets.data());
      CHECK(out == expected);
      CHECK(buckets == places);
      CHECK(set->sampling.exp_total(x.data(), static_cast<std::int64_t>(n), top) == reference.exp_total(x.data(), static_cast<std::int64_t>(n), top));
      CHECK(set->sampling.largest(x.data(), static_cast<std::int64_t>(n), &bad) == top);
      CHECK(!bad);
      for (const float wrong : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> with = x;
        with[n - 1] = wrong;
        set->sampling.largest(with.data(), static_cast<std::int64_t>(n), &bad);
        CHECK(bad);
      }
    }
  }
}
