// The parts of a training step that are slow in PyTorch on one core: attention with rotary positions over a shared
// prefix, the gate of the feed-forward layer, and the norm. fast.py compiles this file with g++ and calls it.
// Vectors are written with GCC's vector types, so that the compiler picks the instructions of the machine.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace {

using Vec = float __attribute__((vector_size(64), aligned(4), may_alias));
using Int = std::int32_t __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int kVec = 16;
constexpr int kHead = 32;      // width of a head
constexpr int kRows = 32;      // queries at a time
constexpr int kKeys = 128;     // keys at a time, in the backward pass

/// Floats that start on a cache line.
template <typename T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <typename U>
  Aligned(const Aligned<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t{64}); }
  bool operator==(const Aligned&) const { return true; }
};
using Floats = std::vector<float, Aligned<float>>;

Vec& at(float* p) { return *reinterpret_cast<Vec*>(p); }
const Vec& at(const float* p) { return *reinterpret_cast<const Vec*>(p); }
Vec all(float x) { return x - Vec{}; }   // the same number everywhere

Vec exp_of(Vec x) {
  Vec t = x * 1.44269504f;
  t = t < all(-126.f) ? all(-126.f) : t;
  const Vec r = t + 12582912.f;
  const Vec f = t - (r - 12582912.f);
  Vec p = f * 1.5403530e-4f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.f;
  const Int n = reinterpret_cast<const Int&>(r) << 23;
  Int bits = reinterpret_cast<const Int&>(p) + n;
  return reinterpret_cast<const Vec&>(bits);
}

float sum_of(Vec v) {
  float s = 0;
  for (int i = 0; i < kVec; ++i) s += v[i];
  return s;
}

constexpr int kTile = 8;       // rows that share what is loaded once

/// Keeps a loaded vector in a register; the compiler would load it again for every row.
Vec hold(Vec v) {
#ifdef __AVX512F__
  asm("" : "+v"(v));
#endif
  return v;
}

/// s[i][j] = sum over d of a[i][d] * bt[d][j], for 8 | rows, 32 | n.
void product(float* s, int lds, const float* a, const float* bt, int ldb, int rows, int n) {
  for (int j = 0; j < n; j += 2 * kVec)
    for (int i = 0; i < rows; i += kTile) {
      Vec c[kTile][2] = {};
      for (int d = 0; d < kHead; ++d) {
        const Vec b0 = hold(at(bt + d * ldb + j)), b1 = hold(at(bt + d * ldb + j + kVec));
        for (int r = 0; r < kTile; ++r) {
          const Vec x = hold(all(a[(i + r) * kHead + d]));
          c[r][0] += x * b0;
          c[r][1] += x * b1;
        }
      }
      for (int r = 0; r < kTile; ++r) {
        at(s + (i + r) * lds + j) = c[r][0];
        at(s + (i + r) * lds + j + kVec) = c[r][1];
      }
    }
}

/// out[i] += sum over j < n of w(i, j) * v[j] for 8 rows of one head; w(i, j) stands at s[i * step + j * next].
void mix(float* out, const float* s, long step, long next, const float* v, int n) {
  Vec c[kTile][2];
  for (int r = 0; r < kTile; ++r) c[r][0] = at(out + r * kHead), c[r][1] = at(out + r * kHead + kVec);
  for (int j = 0; j < n; ++j, s += next) {
    const Vec v0 = hold(at(v + j * kHead)), v1 = hold(at(v + j * kHead + kVec));
    for (int r = 0; r < kTile; ++r) {
      const Vec x = hold(all(s[r * step]));
      c[r][0] += x * v0;
      c[r][1] += x * v1;
    }
  }
  for (int r = 0; r < kTile; ++r) at(out + r * kHead) = c[r][0], at(out + r * kHead + kVec) = c[r][1];
}

/// out[i] += sum over j < n of s[i][j] * v[j]; 8 | rows.
void mix_rows(float* out, const float* s, int lds, const float* v, int rows, int n) {
  for (int i = 0; i < rows; i += kTile) mix(out + i * kHead, s + long(i) * lds, lds, 1, v, n);
}

/// out[j] += sum over i < rows of s[i][j] * q[i]; 8 | n.
void mix_columns(float* out, const float* s, int lds, const float* q, int rows, int n) {
  for (int j = 0; j < n; j += kTile) mix(out + j * kHead, s + j, 1, lds, q, rows);
}

int up(int n, int to) { return (n + to - 1) / to * to; }

/// Queries, keys and values of one head of one sequence, rotated and laid out for the loops above.
struct Head {
  int prefix, own, keys;         // keys: room, padded with zeros
  Floats q, k, kt, v, vt;

  void rotate(float* to, const float* from, const float* cos, const float* sin, float scale) const {
    const Vec a = at(from), b = at(from + kVec), c = at(cos) * scale, s = at(sin) * scale;
    at(to) = a * c - b * s;
    at(to + kVec) = b * c + a * s;
  }

  static void transpose(Floats& to, const Floats& from, int n) {
    to.resize(from.size());
    for (int d = 0; d < kHead; ++d)
      for (int j = 0; j < n; ++j) to[d * n + j] = from[j * kHead + d];
  }

  void load(const float* qkv, const float* pqkv, int P, int T, int width, int h, const float* cos, const float* sin, bool back) {
    prefix = P, own = T, keys = up(P + T, kKeys);
    q.assign(up(T, kRows) * kHead, 0.f), k.assign(keys * kHead, 0.f), v.assign(keys * kHead, 0.f);
    const float scale = 1 / std::sqrt(float(kHead));
    for (int j = 0; j < P + T; ++j) {
      const float* row = (j < P ? pqkv + j * 3L * width : qkv + (j - P) * 3L * width) + h * kHead;
      const float *c = cos + j * kVec, *s = sin + j * kVec;
      if (j >= P) rotate(&q[(j - P) * kHead], row, c, s, scale);
      rotate(&k[j * kHead], row + width, c, s, 1);
      std::memcpy(&v[j * kHead], row + 2 * width, kHead * sizeof(float));
    }
    transpose(kt, k, keys);
    if (back) transpose(vt, v, keys);
  }
};

}  // namespace

extern "C" {

/// qkv (B, T, 3, H, 32), pqkv (P, 3, H, 32) raw; cos, sin (at least P + T, 16). Writes out (B, T, H, 32), lse (B, H, T).
void attend_forward(const float* qkv, const float* pqkv, const float* cos, const float* sin, float* out, float* lse, int B, int T,
                    int P, int H) {
  static Head x;
  static Floats s;
  const int width = H * kHead;
  for (int b = 0; b < B; ++b)
    for (int h = 0; h < H; ++h) {
      x.load(qkv + long(b) * T * 3 * width, pqkv, P, T, width, h, cos, sin, false);
      s.resize(kRows * x.keys);
      for (int i = 0; i < T; i += kRows) {
        const int rows = std::min(kRows, T - i), padded = up(rows, kTile), n = up(P + i + rows, 2 * kVec);
        product(s.data(), x.keys, &x.q[i * kHead], x.kt.data(), x.keys, padded, n);
        alignas(64) float total[kRows] = {}, mixed[kRows * kHead] = {};
        for (int r = 0; r < rows; ++r) {
          float* row = &s[r * x.keys];
          const int valid = P + i + r + 1, full = up(valid, kVec);
          for (int j = valid; j < n; ++j) row[j] = -INFINITY;
          Vec top = at(row);
          for (int j = kVec; j < full; j += kVec) top = at(row + j) > top ? at(row + j) : top;
          float m = top[0];
          for (int e = 1; e < kVec; ++e) m = std::max(m, top[e]);
          Vec sum = {};
          for (int j = 0; j < full; j += kVec) sum += at(row + j) = exp_of(at(row + j) - m);
          for (int j = full; j < n; ++j) row[j] = 0;
          total[r] = sum_of(sum);
          lse[(long(b) * H + h) * T + i + r] = m + std::log(total[r]);
        }
        mix_rows(mixed, s.data(), x.keys, x.v.data(), padded, P + i + rows);
        for (int r = 0; r < rows; ++r)
          for (int d = 0; d < kHead; d += kVec)
            at(out + (long(b) * T + i + r) * width + h * kHead + d) = at(mixed + r * kHead + d) / total[r];
      }
    }
}

/// The gradients of qkv and (added to what stands there) pqkv, from those of out and lse.
void attend_backward(const float* qkv, const float* pqkv, const float* cos, const float* sin, const float* out, const float* lse,
                     const float* grad, const float* grad_lse, float* dqkv, float* dpqkv, int B, int T, int P, int H) {
  static Head x;
  static Floats g, delta, dq, dk, dv;
  const int width = H * kHead, padded_rows = up(T, kRows);
  const float scale = 1 / std::sqrt(float(kHead));
  alignas(64) float s[kRows * kKeys], t[kRows * kKeys];
  for (int b = 0; b < B; ++b)
    for (int h = 0; h < H; ++h) {
      x.load(qkv + long(b) * T * 3 * width, pqkv, P, T, width, h, cos, sin, true);
      g.assign(padded_rows * kHead, 0.f), delta.assign(padded_rows, 0.f), dq.assign(padded_rows * kHead, 0.f);
      dk.assign(x.keys * kHead, 0.f), dv.assign(x.keys * kHead, 0.f);
      for (int i = 0; i < T; ++i) {
        const long from = (long(b) * T + i) * width + h * kHead;
        Vec dot = {};
        for (int d = 0; d < kHead; d += kVec) {
          at(&g[i * kHead + d]) = at(grad + from + d);
          dot += at(grad + from + d) * at(out + from + d);
        }
        delta[i] = sum_of(dot) - grad_lse[(long(b) * H + h) * T + i];
      }
      const float* own_lse = lse + (long(b) * H + h) * T;
      for (int j = 0; j < P + T; j += kKeys) {
        const int n = kKeys;
        for (int i = std::max(0, j - P) / kRows * kRows; i < T; i += kRows) {
          const int rows = std::min(kRows, T - i), padded = up(rows, kTile);
          product(s, n, &x.q[i * kHead], &x.kt[j], x.keys, padded, n);
          product(t, n, &g[i * kHead], &x.vt[j], x.keys, padded, n);
          for (int r = 0; r < rows; ++r) {
            const int valid = std::clamp(P + i + r + 1 - j, 0, n);
            for (int e = 0; e < up(valid, kVec); e += kVec) {
              Vec& p = at(s + r * n + e);
              p = exp_of(p - own_lse[i + r]);
            }
            for (int e = valid; e < n; ++e) s[r * n + e] = 0;
            for (int e = 0; e < n; e += kVec) at(t + r * n + e) = at(s + r * n + e) * (at(t + r * n + e) - delta[i + r]);
          }
          for (int r = rows; r < padded; ++r) std::fill_n(t + r * n, n, 0.f);
          mix_columns(&dv[j * kHead], s, n, &g[i * kHead], rows, n);
          mix_columns(&dk[j * kHead], t, n, &x.q[i * kHead], rows, n);
          mix_rows(&dq[i * kHead], t, n, &x.k[j * kHead], padded, n);
        }
      }
      for (int j = 0; j < P + T; ++j) {
        const Vec c = at(cos + j * kVec), n = at(sin + j * kVec);
        float* row = (j < P ? dpqkv + j * 3L * width : dqkv + (long(b) * T + j - P) * 3L * width) + h * kHead;
        const float *a = &dk[j * kHead], *e = &dv[j * kHead];
        const Vec k0 = at(a) * c + at(a + kVec) * n, k1 = at(a + kVec) * c - at(a) * n;
        if (j < P) {
          at(row + width) += k0, at(row + width + kVec) += k1;
          at(row + 2 * width) += at(e), at(row + 2 * width + kVec) += at(e + kVec);
          continue;
        }
        at(row + width) = k0, at(row + width + kVec) = k1;
        at(row + 2 * width) = at(e), at(row + 2 * width + kVec) = at(e + kVec);
        const float* u = &dq[(j - P) * kHead];
        at(row) = (at(u) * c + at(u + kVec) * n) * scale;
        at(row + kVec) = (at(u + kVec) * c - at(u) * n) * scale;
      }
    }
}

/// y = silu(gate) * up for rows of (gate, up), each `width` wide.
void gate_forward(const float* x, float* y, long rows, int width) {
  for (long r = 0; r < rows; ++r)
    for (int i = 0; i < width; i += kVec) {
      const Vec a = at(x + r * 2 * width + i);
      const Vec low = a < all(-80.f) ? all(-80.f) : a;
      at(y + r * width + i) = a / (1.f + exp_of(-low)) * at(x + r * 2 * width + width + i);
    }
}

void gate_backward(const float* x, const float* dy, float* dx, long rows, int width) {
  for (long r = 0; r < rows; ++r)
    for (int i = 0; i < width; i += kVec) {
      const Vec a = at(x + r * 2 * width + i), u = at(x + r * 2 * width + width + i), d = at(dy + r * width + i);
      const Vec low = a < all(-80.f) ? all(-80.f) : a;
      const Vec s = 1.f / (1.f + exp_of(-low));
      at(dx + r * 2 * width + i) = d * u * s * (1.f + a * (1.f - s));
      at(dx + r * 2 * width + width + i) = d * a * s;
    }
}

/// y = x / sqrt(mean of x^2 + eps) * weight; scale (rows) keeps the factor for the backward pass. 16 | width.
void norm_forward(const float* x, const float* weight, float eps, float* y, float* scale, long rows, int width) {
  for (long r = 0; r < rows; ++r) {
    Vec sum = {};
    for (int i = 0; i < width; i += kVec) sum += at(x + r * width + i) * at(x + r * width + i);
    const float s = scale[r] = 1 / std::sqrt(sum_of(sum) / width + eps);
    for (int i = 0; i < width; i += kVec) at(y + r * width + i) = at(x + r * width + i) * s * at(weight + i);
  }
}

void norm_backward(const float* x, const float* weight, const float* scale, const float* dy, float* dx, float* dweight, long rows,
                   int width) {
  std::fill_n(dweight, width, 0.f);
  for (long r = 0; r < rows; ++r) {
    const float s = scale[r];
    Vec sum = {};
    for (int i = 0; i < width; i += kVec) {
      const Vec xd = at(x + r * width + i) * at(dy + r * width + i);
      at(dweight + i) += xd * s;
      sum += xd * at(weight + i);
    }
    const float c = sum_of(sum) * s * s * s / width;
    for (int i = 0; i < width; i += kVec)
      at(dx + r * width + i) = at(dy + r * width + i) * at(weight + i) * s - at(x + r * width + i) * c;
  }
}
}
