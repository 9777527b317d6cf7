#pragma once
// A model on the device of the tests, and how far its logits are from a reference.

#include "inference/cuda/decoder_cuda.hpp"
#include "tests/gpu/device/device.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

namespace kontor::test {

inline Result<std::unique_ptr<inference::Backend>> on_device(const inference::WeightFile& file, inference::Compute compute, bool deterministic) {
  auto device = make_device();
  if (!device) return fail(Errc::unsupported, "no device", "no_device");
  inference::BackendOptions options;
  options.compute = compute;
  options.deterministic = deterministic;
  return inference::cuda::CudaDecoder::create(file, options, std::move(device));
}

/// Worst row: root mean square error over the standard deviation of the reference.
inline double distance(const std::vector<std::vector<float>>& rows, const std::vector<std::vector<float>>& reference) {
  double worst = rows.size() == reference.size() ? 0 : HUGE_VAL;
  for (std::size_t r = 0; r < std::min(rows.size(), reference.size()); ++r) {
    double mean = 0, variance = 0, error = 0;
    const auto n = static_cast<double>(rows[r].size());
    for (const float x : reference[r]) mean += double{x} / n;
    for (std::size_t i = 0; i < rows[r].size(); ++i) {
      variance += (double{reference[r][i]} - mean) * (double{reference[r][i]} - mean);
      error += (double{rows[r][i]} - double{reference[r][i]}) * (double{rows[r][i]} - double{reference[r][i]});
    }
    const double d = std::sqrt(error / variance);
    worst = std::isfinite(d) ? std::max(worst, d) : HUGE_VAL;
  }
  return worst;
}

}  // namespace kontor::test
