#include "inference/pooling.hpp"

namespace kontor::inference {

Result<Pooling> read_pooling(const WeightFile& file) {
  const auto architecture = file.text("general.architecture");
  if (!architecture) return architecture.error();
  const auto type = file.integer_or(std::string(*architecture) + ".pooling_type", 1);
  if (!type) return type.error();
  switch (*type) {
    case 0: case 1: return Pooling::mean;
    case 2: return Pooling::first;
    case 3: return Pooling::last;
    default: return fail(Errc::unsupported, "pooling type " + std::to_string(*type) + " is not supported", "bad_hparam");
  }
}

std::vector<float> pool(Pooling pooling, std::span<const float> states, std::int64_t width) {
  const auto n = static_cast<std::size_t>(width);
  if (pooling == Pooling::first) return {states.begin(), states.begin() + width};
  if (pooling == Pooling::last) return {states.end() - width, states.end()};
  std::vector<double> sums(n);
  for (std::size_t i = 0; i < states.size(); ++i) sums[i % n] += double{states[i]};
  std::vector<float> mean(n);
  for (std::size_t i = 0; i < n; ++i) mean[i] = static_cast<float>(sums[i] / static_cast<double>(states.size() / n));
  return mean;
}

}  // namespace kontor::inference
