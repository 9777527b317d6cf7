// What drawing a token computes for every entry of a vocabulary. Included inside the anonymous namespace of each
// kernels_*.cpp. Plain loops that compilers vectorise; no operation depends on the width of a vector, so that every set
// gives the same bits and a seed the same tokens on every machine.

/// e^x for x in [-80, 0] within 1e-6: a power of two times a polynomial.
inline float exp_below(float x) {
  const float y = x * 1.44269504f, rounded = (y + 12582912.0f) - 12582912.0f, r = (y - rounded) * 0.69314718f;
  const float p = 1 + r * (1 + r * (1.0f / 2 + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120)))));
  return p * __builtin_bit_cast(float, (static_cast<std::int32_t>(rounded) + 127) << 23);
}

double exp_total(const float* x, std::int64_t n, float top) {
  double total = 0;
  std::int64_t i = 0;
  constexpr std::int64_t kLanes = 8, kChunk = 512;
  while (i + kLanes <= n) {
    float lanes[kLanes] = {};
    const std::int64_t whole = n / kLanes * kLanes, end = i + kChunk < whole ? i + kChunk : whole;
    for (; i < end; i += kLanes)
      for (std::int64_t l = 0; l < kLanes; ++l) {
        const float below = x[i + l] - top;
        lanes[l] += exp_below(below > -80.0f ? below : -80.0f);
      }
    for (const float lane : lanes) total += double{lane};
  }
  for (; i < n; ++i) total += __builtin_exp(double{x[i]} - double{top});
  return total;
}

/// e^x for x <= 0 within 1e-11; what is below -700 counts as -700.
inline double exp_near(double x) {
  constexpr double kRound = 0x1.8p52;  // Adding it leaves the nearest integer in the low bits.
  const double y = (x > -700.0 ? x : -700.0) * 1.4426950408889634, shifted = y + kRound, r = (y - (shifted - kRound)) * 0.6931471805599453;
  double p = 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  return p * __builtin_bit_cast(double, (__builtin_bit_cast(std::uint64_t, shifted) + 1023) << 52);
}

void exp_each(const float* x, std::int64_t n, float top, double divisor, double* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = exp_near((double{x[i]} - double{top}) / divisor);
}

void bucket_each(const float* x, std::int64_t n, float top, float scale, std::int32_t last, std::int32_t* out) {
  const float limit = static_cast<float>(last);
  for (std::int64_t i = 0; i < n; ++i) {
    const float place = (top - x[i]) * scale;
    out[i] = static_cast<std::int32_t>(place < limit ? place : limit);
  }
}

/// The largest; `bad`: NaN or infinity is among them.
float largest_of(const float* x, std::int64_t n, bool* bad) {
  constexpr std::int64_t kLanes = 16;
  float tops[kLanes];
  std::int32_t wrong[kLanes] = {};
  for (float& top : tops) top = -__builtin_inff();
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (std::int64_t l = 0; l < kLanes; ++l) {
      const float v = x[i + l];
      wrong[l] |= v < __builtin_inff() ? 0 : 1;
      tops[l] = v > tops[l] ? v : tops[l];
    }
  for (; i < n; ++i) {
    wrong[0] |= x[i] < __builtin_inff() ? 0 : 1;
    tops[0] = x[i] > tops[0] ? x[i] : tops[0];
  }
  *bad = false;
  for (std::int64_t l = 0; l < kLanes; ++l) {
    *bad = *bad || wrong[l] != 0;
    tops[0] = tops[l] > tops[0] ? tops[l] : tops[0];
  }
  return tops[0];
}

constexpr SamplingKernels kSampling{largest_of, exp_total, exp_each, bucket_each};
