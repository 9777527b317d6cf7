#pragma once
// The numeric half of memory: nearest vectors and the fusion of rankings. No storage.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kontor::memory {

/// Dot product of two vectors of `width` floats, summed in eight lanes so that the compiler vectorises it; the same
/// order on every machine.
float dot(const float* a, const float* b, std::size_t width);

/// Scales the vector to length 1; false for a zero or not finite vector.
bool make_unit(std::span<float> vector);

/// The `limit` rows most similar to `query` (unit vectors; similarity is the dot product), best first; equal ones in
/// order of the rows. `rows` holds count * width floats, one vector after the other.
std::vector<std::pair<std::size_t, float>> nearest_rows(std::span<const float> rows, std::span<const float> query, std::size_t limit);

/// Reciprocal rank fusion (Cormack et al. 2009): score(id) = sum over rankings of 1 / (60 + rank). Best first; equal
/// scores by smaller id.
std::vector<std::pair<std::int64_t, double>> fuse(const std::vector<std::vector<std::int64_t>>& rankings);

/// A query of FTS5 that finds any of the words of a person's text: each quoted, so no text is a syntax error. "" when
/// there is no word in it.
std::string full_text_query(std::string_view text);

}  // namespace kontor::memory
