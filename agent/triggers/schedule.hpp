#pragma once
// When a cron schedule is due, in a time zone. Where clocks are put forward, a time that does not exist is due when the
// clocks have jumped; where they are put back, a time that comes twice is due once. Schedules of every hour follow the
// time that passes.

#include "agent/spec/formats.hpp"
#include "base/error.hpp"
#include "tools/builtin/zone.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace kontor::agent {

class Schedule {
 public:
  /// Errors: malformed, and those of Zone::load.
  static Result<Schedule> create(const std::string& cron, const std::string& zone);
  /// The first moment (Unix seconds) after `after`; nothing within five years.
  std::optional<std::int64_t> next(std::int64_t after) const;

 private:
  Schedule(CronFields fields, tools::Zone zone) : fields_(fields), zone_(std::move(zone)) {}
  bool on_day(const tools::CivilTime& day) const;

  CronFields fields_;
  tools::Zone zone_;
};

}  // namespace kontor::agent
