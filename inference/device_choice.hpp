#pragma once
// Where a model runs, as people write it.

#include "base/error.hpp"

#include <cstddef>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// auto, cpu, cuda, cuda:N or cuda:N,N,...
struct DeviceChoice {
  enum class Kind { automatic, cpu, cuda };
  Kind kind = Kind::automatic;
  /// GPUs by number; each takes a stretch of the layers. Empty: as few of the machine's as hold the model.
  std::vector<int> numbers;
};

/// Most GPUs that a choice names.
inline constexpr std::size_t kDevicesMost = 16;
/// What parse_device() takes, as a regular expression (but for numbers that occur twice).
inline constexpr std::string_view kDevicePattern = "^(auto|cpu|cuda|cuda:[0-9]{1,3}(,[0-9]{1,3}){0,15})$";

/// An empty text is auto. Errors: usage (bad_device).
Result<DeviceChoice> parse_device(std::string_view text);

}  // namespace kontor::inference
