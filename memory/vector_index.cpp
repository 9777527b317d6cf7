#include "memory/vector_index.hpp"

#include "base/cuda/portable.hpp"
#include "memory/cuda/vector_kernels.hpp"
#include "memory/search.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

namespace kontor::memory {
namespace {

constexpr std::int64_t kPadding = 16;
constexpr std::size_t kQueriesMost = 64;  ///< Sent at a time.
constexpr std::uint64_t kPieceBytes = 16 << 20;

std::string mib(std::uint64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

/// A row as the device holds it; the distance to what it was, and its length.
struct Held {
  double coarse, length;
};
Held hold(std::span<const float> row, Precision precision, std::byte* out, float& scale) {
  double squares = 0, errors = 0;
  float largest = 0;
  for (const float x : row) {
    if (!std::isfinite(x)) return {INFINITY, INFINITY};
    largest = std::max(largest, std::fabs(x));
  }
  scale = largest > 0 ? largest / 127.0f : 1.0f;
  for (std::size_t i = 0; i < row.size(); ++i) {
    float kept = 0;
    if (precision == Precision::half) {
      const std::uint16_t bits = gpu::half_bits(row[i]);
      std::memcpy(out + i * 2, &bits, 2);
      kept = gpu::half_value(bits);
    } else {
      const auto code = static_cast<std::int8_t>(std::lround(row[i] / scale));
      std::memcpy(out + i, &code, 1);
      kept = static_cast<float>(code) * scale;
    }
    squares += double{row[i]} * double{row[i]};
    errors += (double{row[i]} - double{kept}) * (double{row[i]} - double{kept});
  }
  return {std::sqrt(errors), std::sqrt(squares)};
}

}  // namespace

VectorIndex::VectorIndex(std::shared_ptr<VectorDevice> device, std::size_t width, std::size_t count)
    : device_(std::move(device)), width_(width), count_(count) {}

VectorIndex::~VectorIndex() {
  for (void* data : held_) device_->release(data);
}

Result<void*> VectorIndex::room(std::uint64_t bytes) {
  auto data = device_->allocate(bytes);
  if (data) held_.push_back(*data);
  return data;
}

Result<std::unique_ptr<VectorIndex>> VectorIndex::create(std::shared_ptr<VectorDevice> device, std::span<const float> rows, std::size_t width, Precision precision) {
  if (width == 0 || width > static_cast<std::size_t>(kWidthMost))
    return fail(Errc::unsupported, "vectors of " + std::to_string(width) + " values are outside what the device searches (1 to " +
                std::to_string(kWidthMost) + ")", "vectors");
  const std::size_t count = rows.size() / width;
  if (count == 0 || count >= UINT32_MAX) return fail(Errc::unsupported, std::to_string(count) + " vectors are outside what the device searches", "vectors");
  std::unique_ptr<VectorIndex> index(new VectorIndex(std::move(device), width, count));
  VectorDevice& on = *index->device_;
  index->padded_ = (static_cast<std::int64_t>(width) + kPadding - 1) / kPadding * kPadding;
  index->blocks_ = search_blocks(static_cast<std::int64_t>(count), on.processors());
  const std::uint64_t row_bytes = static_cast<std::uint64_t>(index->padded_) * (precision == Precision::half ? 2 : 1);
  const std::uint64_t values = row_bytes * count, scales = precision == Precision::byte ? count * 4 : 0;
  const std::uint64_t queries = kQueriesMost * static_cast<std::uint64_t>(index->padded_) * 4;
  const std::uint64_t lists = kQueriesMost * static_cast<std::uint64_t>(index->blocks_) * kBestRows * 8;
  const std::uint64_t all = values + scales + queries + 2 * lists, free = on.free_bytes();
  if (all > free / 20 * 19)
    return fail(Errc::memory, "the device has " + mib(free) + " free; " + std::to_string(count) + " vectors of " + std::to_string(width) +
                " values need " + mib(all), "out_of_memory");
  struct Part {
    void** to;
    std::uint64_t bytes;
  };
  for (const Part& part : {Part{&index->values_, values}, {&index->scales_, scales}, {&index->queries_, queries}, {&index->lists_[0], lists}, {&index->lists_[1], lists}}) {
    if (part.bytes == 0) continue;
    const auto data = index->room(part.bytes);
    if (!data) return data.error();
    *part.to = *data;
  }
  const std::size_t rows_at_once = std::max<std::size_t>(1, kPieceBytes / row_bytes);
  std::vector<std::byte> piece;
  std::vector<float> piece_scales;
  for (std::size_t first = 0; first < count; first += rows_at_once) {
    const std::size_t n = std::min(rows_at_once, count - first);
    piece.assign(n * row_bytes, std::byte{0});
    piece_scales.resize(n);
    for (std::size_t r = 0; r < n; ++r) {
      const Held held = hold(rows.subspan((first + r) * width, width), precision, piece.data() + r * row_bytes, piece_scales[r]);
      if (!std::isfinite(held.coarse) || !std::isfinite(held.length))
        return fail(Errc::unsupported, "vector " + std::to_string(first + r) + " holds values that the device cannot hold", "vectors");
      index->coarse_ = std::max(index->coarse_, held.coarse);
      index->longest_ = std::max(index->longest_, held.length);
    }
    on.copy_in(static_cast<std::byte*>(index->values_) + first * row_bytes, piece.data(), piece.size());
    if (index->scales_) on.copy_in(static_cast<float*>(index->scales_) + first, piece_scales.data(), n * 4);
  }
  if (const auto done = on.wait(); !done) return done.error();
  return index;
}

Result<std::vector<VectorIndex::Ranking>> VectorIndex::propose(std::span<const float> queries) {
  const VectorRows rows{values_, static_cast<const float*>(scales_), static_cast<std::int64_t>(count_), padded_};
  const std::size_t all = queries.size() / width_;
  std::vector<Ranking> rankings;
  std::vector<float> sent;
  std::vector<std::uint64_t> keys;
  for (std::size_t first = 0; first < all; first += kQueriesMost) {
    const std::size_t n = std::min(kQueriesMost, all - first);
    sent.assign(n * static_cast<std::size_t>(padded_), 0.0f);
    for (std::size_t q = 0; q < n; ++q)
      std::copy_n(queries.begin() + static_cast<std::ptrdiff_t>((first + q) * width_), width_, sent.begin() + static_cast<std::ptrdiff_t>(q) * padded_);
    device_->copy_in(queries_, sent.data(), sent.size() * 4);
    std::uint64_t* const lists[2] = {static_cast<std::uint64_t*>(lists_[0]), static_cast<std::uint64_t*>(lists_[1])};
    const std::uint64_t* found = find_rows(rows, static_cast<const float*>(queries_), static_cast<std::int64_t>(n), blocks_, lists, device_->stream());
    keys.resize(n * kBestRows);
    for (std::size_t q = 0; q < n; ++q)
      device_->copy_out(keys.data() + q * kBestRows, found + static_cast<std::int64_t>(q) * blocks_ * kBestRows, kBestRows * 8);
    if (const auto done = device_->wait(); !done) return done.error();
    for (std::size_t q = 0; q < n; ++q) {
      Ranking& ranking = rankings.emplace_back();
      for (std::size_t i = q * kBestRows; i < (q + 1) * kBestRows && keys[i] != 0; ++i) ranking.emplace_back(gpu::key_number(keys[i]), gpu::key_value(keys[i]));
    }
  }
  return rankings;
}

Result<VectorIndex::Ranking> VectorIndex::nearest(std::span<const float> rows, std::span<const float> query, std::size_t limit) {
  double length = 0;
  for (const float x : query) length += double{x} * double{x};
  length = std::sqrt(length);
  const bool all = count_ <= static_cast<std::size_t>(kBestRows);
  if (std::isfinite(length) && (all || limit < static_cast<std::size_t>(kBestRows))) {
    auto proposed = propose(query);
    if (!proposed) return proposed.error();
    Ranking& best = proposed->front();
    const double worst = best.empty() ? 0 : double{best.back().second};
    for (auto& [row, score] : best) score = dot(rows.data() + row * width_, query.data(), width_);
    std::sort(best.begin(), best.end(), [](const auto& a, const auto& b) { return a.second != b.second ? a.second > b.second : a.first < b.first; });
    // Rows that were not proposed: at most `worst` by the device's values, plus what these are off and both sums round.
    const double rounding = 2 * static_cast<double>(width_) * 0x1p-23 * (longest_ + coarse_) * length;
    const double outside = worst + coarse_ * length + rounding;
    if (all || (best.size() > limit && (limit == 0 || double{best[limit - 1].second} > outside))) {
      if (best.size() > limit) best.resize(limit);
      return std::move(best);
    }
  }
  ++left_to_host_;
  return nearest_rows(rows, query, limit);
}

}  // namespace kontor::memory
