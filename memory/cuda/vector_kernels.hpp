#pragma once
// The kernel of vector search: scores of all rows and the best of them in one pass over the rows.

#include "base/cuda/portable.hpp"

#include <cstdint>

namespace kontor::memory {

inline constexpr int kBestRows = 256;       ///< Found for each query.
inline constexpr int kQueriesTogether = 4;  ///< Read the rows once.
inline constexpr std::int64_t kWidthMost = 6144, kWidthTogether = 1536;

/// Rows in device memory: `width` values each, a multiple of 16, in binary16 or as codes of a byte with a scale for each row.
struct VectorRows {
  const void* values = nullptr;
  const float* scales = nullptr;  ///< (count); null: binary16
  std::int64_t count = 0;         ///< Below 2^32.
  std::int64_t width = 0;
};

/// Blocks that share the rows, on a device of so many processors.
std::int64_t search_blocks(std::int64_t rows, int processors);

/// The kBestRows rows of the largest dot product with each of `count` queries (count, width; float32): keys of base/cuda/portable.hpp
/// in descending order into the list that is returned, (count, blocks, kBestRows) of which the first list of each query is meant.
/// `lists`: room for two times that. Sums are float32, the same for a row whatever the number of queries and blocks.
const std::uint64_t* find_rows(const VectorRows& rows, const float* queries, std::int64_t count, std::int64_t blocks,
                               std::uint64_t* const (&lists)[2], void* stream);

}  // namespace kontor::memory
