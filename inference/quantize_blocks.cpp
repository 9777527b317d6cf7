#include "inference/quantize_blocks.hpp"

#include "inference/dequantize.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace kontor::inference {
namespace {

template <class T>
void store(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof(T));
}

/// The half that is stored for a scale, and what a reader makes of it.
float store_half(std::byte* at, float value) {
  const std::uint16_t bits = float_to_half(value);
  store(at, bits);
  return half_to_float(bits);
}

int nearest(float value) { return static_cast<int>(std::lrintf(value)); }
int nearest(float value, int low, int high) { return std::clamp(nearest(value), low, high); }

/// How much the error of each value counts: more where the value is large, never nothing.
void importances(const float* x, int n, float* out) {
  float square = 0;
  for (int i = 0; i < n; ++i) square += x[i] * x[i];
  const float typical = std::sqrt(square / static_cast<float>(n));
  for (int i = 0; i < n; ++i) out[i] = typical + std::fabs(x[i]);
}

/// The scale d for which d * q, with q from -levels to levels - 1, comes closest to the values.
float fit_scale(const float* x, int n, int levels) {
  float largest = 0;
  for (int i = 0; i < n; ++i)
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  if (std::fabs(largest) < 1e-30f) return 0;
  float weight[32];
  importances(x, n, weight);
  float best = 0, best_gain = -1;
  // The value farthest from zero gets the code with the larger range, and some codes around it are tried.
  for (int step = -9; step <= 9; ++step) {
    const float inverse = -(static_cast<float>(levels) + 0.1f * static_cast<float>(step)) / largest;
    float xq = 0, qq = 0;
    for (int i = 0; i < n; ++i) {
      const auto q = static_cast<float>(nearest(inverse * x[i], -levels, levels - 1));
      xq += weight[i] * x[i] * q;
      qq += weight[i] * q * q;
    }
    // With the best scale for these codes, xq / qq, the error shrinks by xq^2 / qq.
    if (qq > 0 && xq * xq > best_gain * qq) {
      best_gain = xq * xq / qq;
      best = xq / qq;
    }
  }
  return best;
}

struct Affine {
  float scale;
  float minimum;  ///< At least 0; subtracted.
};

/// The scale and minimum for which scale * q - minimum, with q from 0 to `top`, comes closest to the values.
Affine fit_affine(const float* x, int n, int top) {
  const float low = std::min(0.0f, *std::min_element(x, x + n)), high = *std::max_element(x, x + n);
  if (!(high - low > 1e-30f)) return {0, -low};
  float weight[32];
  importances(x, n, weight);
  Affine best{(high - low) / static_cast<float>(top), -low};
  float best_error = -1;
  for (int step = -5; step <= 20; ++step) {
    const float inverse = (static_cast<float>(top) + 0.1f * static_cast<float>(step)) / (high - low);
    int codes[32];
    double w = 0, wq = 0, wqq = 0, wx = 0, wxq = 0;
    for (int i = 0; i < n; ++i) {
      codes[i] = nearest(inverse * (x[i] - low), 0, top);
      const double q = codes[i], v = weight[i];
      w += v, wq += v * q, wqq += v * q * q, wx += v * x[i], wxq += v * q * x[i];
    }
    // Least squares for these codes; a minimum below zero cannot be stored.
    Affine fit{};
    const double determinant = w * wqq - wq * wq;
    if (determinant > 0) {
      fit.scale = static_cast<float>((w * wxq - wq * wx) / determinant);
      fit.minimum = static_cast<float>(-(wqq * wx - wq * wxq) / determinant);
    }
    if ((determinant <= 0 || fit.minimum < 0) && wqq > 0) fit = {static_cast<float>(wxq / wqq), 0};
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float difference = fit.scale * static_cast<float>(codes[i]) - fit.minimum - x[i];
      error += weight[i] * difference * difference;
    }
    if (best_error < 0 || error < best_error) {
      best_error = error;
      best = fit;
    }
  }
  return best;
}

void to_f32(const float* x, std::int64_t n, std::byte* out) { std::memcpy(out, x, static_cast<std::size_t>(n) * sizeof(float)); }

void to_f16(const float* x, std::int64_t n, std::byte* out) {
  for (std::int64_t i = 0; i < n; ++i) store(out + 2 * i, float_to_half(x[i]));
}

void to_bf16(const float* x, std::int64_t n, std::byte* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(x[i]);
    store(out + 2 * i, static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16));
  }
}

void to_q8_0(const float* x, std::int64_t n, std::byte* out) {
  for (; n > 0; n -= 32, x += 32, out += 34) {
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float inverse = largest > 1e-30f ? 127 / largest : 0;
    store_half(out, largest / 127);
    for (int i = 0; i < 32; ++i) store(out + 2 + i, static_cast<std::int8_t>(nearest(inverse * x[i])));
  }
}

void to_q4_0(const float* x, std::int64_t n, std::byte* out) {
  for (; n > 0; n -= 32, x += 32, out += 18) {
    const float d = store_half(out, fit_scale(x, 32, 8));
    const float inverse = d != 0 ? 1 / d : 0;
    for (int i = 0; i < 16; ++i) {
      const int low = nearest(inverse * x[i], -8, 7) + 8, high = nearest(inverse * x[i + 16], -8, 7) + 8;
      out[2 + i] = static_cast<std::byte>(low | high << 4);
    }
  }
}

/// The six-bit scale and minimum near the fitted ones that come closest to the values, now that both can only be
/// multiples of d and dmin.
void refine(const float* x, int top, float d, float dmin, int& scale, int& minimum) {
  float weight[32];
  importances(x, 32, weight);
  float best_error = -1;
  int best_scale = scale, best_minimum = minimum;
  for (int s = std::max(0, scale - 2); s <= std::min(63, scale + 2); ++s) {
    for (int m = std::max(0, minimum - 2); m <= std::min(63, minimum + 2); ++m) {
      const float step = d * static_cast<float>(s), low = dmin * static_cast<float>(m), inverse = step > 0 ? 1 / step : 0;
      float error = 0;
      for (int i = 0; i < 32; ++i) {
        const float difference = step * static_cast<float>(nearest((x[i] + low) * inverse, 0, top)) - low - x[i];
        error += weight[i] * difference * difference;
      }
      if (best_error >= 0 && error >= best_error) continue;
      best_error = error;
      best_scale = s;
      best_minimum = m;
    }
  }
  scale = best_scale;
  minimum = best_minimum;
}

/// Codes of Q4_K and Q5_K, and their scales and minima packed into twelve bytes of six bits each.
struct SuperBlock {
  int codes[256];
};

SuperBlock fit_super_block(const float* x, int top, std::byte* header) {
  Affine fits[8];
  float largest_scale = 0, largest_minimum = 0;
  for (int j = 0; j < 8; ++j) {
    fits[j] = fit_affine(x + 32 * j, 32, top);
    largest_scale = std::max(largest_scale, fits[j].scale);
    largest_minimum = std::max(largest_minimum, fits[j].minimum);
  }
  const float d = store_half(header, largest_scale / 63), dmin = store_half(header + 2, largest_minimum / 63);
  int scales[8], minima[8];
  SuperBlock block{};
  for (int j = 0; j < 8; ++j) {
    scales[j] = d > 0 ? nearest(fits[j].scale / d, 0, 63) : 0;
    minima[j] = dmin > 0 ? nearest(fits[j].minimum / dmin, 0, 63) : 0;
    refine(x + 32 * j, top, d, dmin, scales[j], minima[j]);
    const float scale = d * static_cast<float>(scales[j]), minimum = dmin * static_cast<float>(minima[j]);
    for (int i = 0; i < 32; ++i) block.codes[32 * j + i] = scale > 0 ? nearest((x[32 * j + i] + minimum) / scale, 0, top) : 0;
  }
  std::byte* packed = header + 4;
  for (int j = 0; j < 4; ++j) {
    packed[j] = static_cast<std::byte>(scales[j] | (scales[j + 4] >> 4) << 6);
    packed[j + 4] = static_cast<std::byte>(minima[j] | (minima[j + 4] >> 4) << 6);
    packed[j + 8] = static_cast<std::byte>((scales[j + 4] & 15) | (minima[j + 4] & 15) << 4);
  }
  return block;
}

/// Low nibbles: each 32 bytes hold two sub-blocks of 32.
void put_nibbles(const int* codes, std::byte* out) {
  for (int pair = 0; pair < 4; ++pair)
    for (int i = 0; i < 32; ++i)
      out[32 * pair + i] = static_cast<std::byte>((codes[64 * pair + i] & 15) | (codes[64 * pair + 32 + i] & 15) << 4);
}

void to_q4_k(const float* x, std::int64_t n, std::byte* out) {
  for (; n > 0; n -= 256, x += 256, out += 144) put_nibbles(fit_super_block(x, 15, out).codes, out + 16);
}

void to_q5_k(const float* x, std::int64_t n, std::byte* out) {
  for (; n > 0; n -= 256, x += 256, out += 176) {
    const SuperBlock block = fit_super_block(x, 31, out);
    for (int i = 0; i < 32; ++i) {
      int high = 0;
      for (int j = 0; j < 8; ++j) high |= (block.codes[32 * j + i] >> 4) << j;
      out[16 + i] = static_cast<std::byte>(high);
    }
    put_nibbles(block.codes, out + 48);
  }
}

void to_q6_k(const float* x, std::int64_t n, std::byte* out) {
  for (; n > 0; n -= 256, x += 256, out += 210) {
    float fits[16], largest = 0;
    for (int j = 0; j < 16; ++j) {
      fits[j] = fit_scale(x + 16 * j, 16, 32);
      if (std::fabs(fits[j]) > std::fabs(largest)) largest = fits[j];
    }
    const float d = store_half(out + 208, largest / -128);
    int codes[256];
    for (int j = 0; j < 16; ++j) {
      const int scale = d != 0 ? nearest(fits[j] / d, -128, 127) : 0;
      store(out + 192 + j, static_cast<std::int8_t>(scale));
      const float step = d * static_cast<float>(scale);
      for (int i = 0; i < 16; ++i) codes[16 * j + i] = step != 0 ? nearest(x[16 * j + i] / step, -32, 31) + 32 : 32;
    }
    // Two halves of 128: 64 bytes of low nibbles and 32 bytes of two high bits each.
    for (int half = 0; half < 2; ++half) {
      const int* c = codes + 128 * half;
      for (int i = 0; i < 64; ++i) out[64 * half + i] = static_cast<std::byte>((c[i] & 15) | (c[i + 64] & 15) << 4);
      for (int i = 0; i < 32; ++i)
        out[128 + 32 * half + i] = static_cast<std::byte>(c[i] >> 4 | (c[i + 32] >> 4) << 2 | (c[i + 64] >> 4) << 4 | (c[i + 96] >> 4) << 6);
    }
  }
}

}  // namespace

Quantizer find_quantizer(TensorType type) {
  switch (type) {
    case TensorType::f32: return to_f32;
    case TensorType::f16: return to_f16;
    case TensorType::bf16: return to_bf16;
    case TensorType::q8_0: return to_q8_0;
    case TensorType::q4_0: return to_q4_0;
    case TensorType::q4_k: return to_q4_k;
    case TensorType::q5_k: return to_q5_k;
    case TensorType::q6_k: return to_q6_k;
    default: return nullptr;
  }
}

}  // namespace kontor::inference
