#pragma once
// The rate at which this machine reads memory: the limit of decoding, which reads every weight for each token.

#include <cstddef>

namespace kontor::inference::cpu {

/// Bytes per second that `threads` threads together read from `bytes` of memory in one stream each, the best of several
/// passes. Take a size far beyond the caches. Runs for some tenths of a second; 0 where the memory is not to be had.
double measure_read_bandwidth(int threads, std::size_t bytes = std::size_t{256} << 20);

}  // namespace kontor::inference::cpu
