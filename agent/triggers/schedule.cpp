#include "agent/triggers/schedule.hpp"

#include <algorithm>
#include <vector>

namespace kontor::agent {
namespace {

constexpr std::int64_t kDay = 86'400;
constexpr std::int64_t kDaysMost = 5 * 366;
constexpr std::size_t kHours = 24;

bool allows(const CronFields& fields, std::size_t field, int value) { return fields.allowed[field][static_cast<std::size_t>(value)]; }

}  // namespace

Result<Schedule> Schedule::create(const std::string& cron, const std::string& zone) {
  CronFields fields;
  if (auto problem = read_cron(cron, fields)) return fail(Errc::malformed, problem.message, "schedule");
  auto loaded = tools::Zone::load(zone);
  if (!loaded) return loaded.error();
  if (fields.allowed[4][7]) fields.allowed[4].set(0);
  return Schedule(fields, std::move(*loaded));
}

bool Schedule::on_day(const tools::CivilTime& day) const {
  if (!allows(fields_, 3, day.month)) return false;
  const bool month_day = allows(fields_, 2, day.day), week_day = allows(fields_, 4, tools::weekday(day) % 7);
  if (fields_.any_day || fields_.any_weekday) return month_day && week_day;
  return month_day || week_day;
}

std::optional<std::int64_t> Schedule::next(std::int64_t after) const {
  const bool every_hour = fields_.allowed[1].count() == kHours;
  const std::int64_t local_day = (after + zone_.offset_at(after)) / kDay - 1;  // The day before: zones may jump over midnight.
  for (std::int64_t day = local_day; day < local_day + kDaysMost; ++day) {
    if (!on_day(tools::civil_from_seconds(day * kDay))) continue;
    std::optional<std::int64_t> first;
    const auto offer = [&](std::int64_t moment) {
      if (moment > after && (!first || moment < *first)) first = moment;
    };
    if (every_hour) {
      // By the time that passes: a repeated hour counts twice, a missing one not at all.
      const std::int64_t begin = zone_.unix_seconds(day * kDay), end = zone_.unix_seconds((day + 1) * kDay);
      for (std::int64_t moment = std::max(begin, after / 60 * 60); moment < end && !first; moment += 60) {
        const auto civil = tools::civil_from_seconds(moment + zone_.offset_at(moment));
        if (civil.second == 0 && allows(fields_, 0, civil.minute)) offer(moment);
      }
    } else {
      for (int hour = 0; hour < 24; ++hour) {
        if (!allows(fields_, 1, hour)) continue;
        for (int minute = 0; minute < 60; ++minute) {
          if (allows(fields_, 0, minute)) offer(zone_.unix_seconds(day * kDay + hour * 3600 + minute * 60));
        }
      }
    }
    if (first) return first;
  }
  return std::nullopt;
}

}  // namespace kontor::agent
