#include "tools/brief_wait.hpp"

#include <poll.h>

#include <algorithm>
#include <thread>

namespace kontor::tools {
namespace {

constexpr std::int64_t kCalmNs = 250'000'000;  // Without a crowd, before its rest becomes shorter again.
constexpr int kStreak = 16;                    // Times in a row that something came, before other rests become shorter.

}  // namespace

unsigned allowed_cores() { return std::thread::hardware_concurrency(); }

bool BriefWait::look_at(int descriptor) {
  return look([descriptor] {
    pollfd from{descriptor, POLLIN, 0};
    return ::poll(&from, 1, 0) > 0;
  });
}

bool BriefWait::begin() {
  if (cores_ <= 1) return false;
  const std::int64_t now = clock_.steady_ns();
  if (now < rests_until_) return false;
  began_ = seen_ = now;
  crowded_ = false;
  return true;
}

void BriefWait::pass(std::int64_t now) {
  if (now - seen_ > kGapNs) crowded_ = true;
  seen_ = now;
}

bool BriefWait::goes_on() {
  pass(clock_.steady_ns());
  return seen_ - began_ < window_ns_;
}

bool BriefWait::end(bool found) {
  pass(clock_.steady_ns());
  if (found && !crowded_) {
    if (++found_ % kStreak == 0) rest_ = std::max(rest_ / 2, kRestMinNs);
    if (crowded_rest_ > kCrowdedRestNs && seen_ - changed_ > kCalmNs) {
      crowded_rest_ = std::max(crowded_rest_ / 2, kCrowdedRestNs);
      changed_ = seen_;
    }
    return true;
  }
  found_ = 0;
  if (crowded_) changed_ = seen_;
  std::int64_t& rest = crowded_ ? crowded_rest_ : rest_;
  rests_until_ = seen_ + rest;
  rest = std::min(rest * 2, kRestMaxNs);
  return found;
}

}  // namespace kontor::tools
