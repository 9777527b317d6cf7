#pragma once
// From the states of a text's tokens to one vector.

#include "base/error.hpp"
#include "inference/weight_file.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace kontor::inference {

enum class Pooling { mean, first, last };

/// ARCH.pooling_type of the file; the mean where it says nothing. Errors: unsupported (bad_hparam) for other kinds.
Result<Pooling> read_pooling(const WeightFile& file);

/// `states` is (tokens, width) with at least one token; the result has `width` floats and is not normalised.
std::vector<float> pool(Pooling pooling, std::span<const float> states, std::int64_t width);

}  // namespace kontor::inference
