#include "agent/cli/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>

namespace kontor::agent::cli {
namespace {

constexpr int kWidth = 28;

std::string readable_seconds(double seconds) {
  char text[48];
  const auto s = static_cast<long>(std::min(seconds, 360000.0));
  if (s < 3600) std::snprintf(text, sizeof text, "%ld:%02ld", s / 60, s % 60);
  else std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

}  // namespace

std::string readable_bytes(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < std::size(kUnits); ++unit) value /= 1000;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : value < 10 ? "%.2f %s" : value < 100 ? "%.1f %s" : "%.0f %s", value, kUnits[unit]);
  return text;
}

ProgressBar::ProgressBar(std::string label, bool wanted) : label_(std::move(label)), visible_(wanted && ::isatty(2) == 1) {}

void ProgressBar::show(double part) {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  draw(part, part > 0.01 && seconds > 1 ? readable_seconds(seconds / part * (1 - part)) + " left" : "");
}

void ProgressBar::show_bytes(std::uint64_t done, std::uint64_t total, std::uint64_t before) {
  const double seconds = std::max(1e-3, std::chrono::duration<double>(Clock::now() - start_).count());
  const double rate = static_cast<double>(done - std::min(done, before)) / seconds;
  std::string detail = readable_bytes(done);
  if (total > 0) detail += " of " + readable_bytes(total);
  if (seconds > 0.5) detail += ", " + readable_bytes(static_cast<std::uint64_t>(rate)) + "/s";
  if (total > done && rate > 0 && seconds > 1) detail += ", " + readable_seconds(static_cast<double>(total - done) / rate) + " left";
  draw(total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0, detail);
}

void ProgressBar::draw(double part, const std::string& detail) {
  const auto now = Clock::now();
  if (!visible_ || (drawn_ && now - last_ < std::chrono::milliseconds(100))) return;
  last_ = now;
  drawn_ = true;
  part = std::clamp(part, 0.0, 1.0);
  const int filled = static_cast<int>(part * kWidth);
  std::string bar(static_cast<std::size_t>(filled), '=');
  bar.resize(kWidth, ' ');
  const bool plain = std::getenv("NO_COLOR") != nullptr;
  std::fprintf(stderr, "\r\033[2K%s %s[%s]%s %3d%%  %s", label_.c_str(), plain ? "" : "\033[36m", bar.c_str(), plain ? "" : "\033[0m",
               static_cast<int>(part * 100), detail.c_str());
  std::fflush(stderr);
}

void ProgressBar::end() {
  if (!drawn_) return;
  std::fputs("\r\033[2K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace kontor::agent::cli
