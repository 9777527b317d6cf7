#include "agent/workflow/waiting.hpp"

#include "agent/spec/formats.hpp"
#include "tools/builtin/zone.hpp"
#include "tools/schema_format.hpp"

namespace kontor::agent {
namespace {

int digits(const std::string& text, std::size_t at, std::size_t count) {
  int value = 0;
  for (std::size_t i = at; i < at + count; ++i) value = value * 10 + (text[i] - '0');
  return value;
}

/// RFC 3339, or a date, which begins at midnight UTC.
bool read_moment(std::string text, std::int64_t& ms) {
  if (text.size() == 10) text += "T00:00:00Z";
  if (!tools::format_matches(tools::Format::date_time, text)) return false;
  const tools::CivilTime civil{digits(text, 0, 4), digits(text, 5, 2), digits(text, 8, 2), digits(text, 11, 2), digits(text, 14, 2), digits(text, 17, 2)};
  const auto zone = text.find_first_of("Zz+-", 19);
  const int offset = text[zone] == 'Z' || text[zone] == 'z' ? 0 : (digits(text, zone + 1, 2) * 3600 + digits(text, zone + 4, 2) * 60) * (text[zone] == '-' ? -1 : 1);
  ms = (tools::civil_seconds(civil) - offset) * 1000;
  return true;
}

}  // namespace

Result<std::int64_t> wait_end(const Json& value, std::int64_t now_ms) {
  constexpr double kSecondsMost = 10.0 * 366 * 86400;
  if (value.is_number()) {
    const double seconds = value.get<double>();
    if (seconds < 0 || seconds > kSecondsMost) return fail(Errc::malformed, "wait needs 0 seconds to ten years");
    return now_ms + static_cast<std::int64_t>(seconds * 1000);
  }
  if (value.is_string()) {
    std::int64_t ms = 0;
    const std::string& text = value.get_ref<const std::string&>();
    if (!read_duration(text, ms)) return now_ms + ms;
    if (read_moment(text, ms)) return ms;
  }
  return fail(Errc::malformed, "wait needs a duration such as 90s, a number of seconds, or a moment such as 2026-11-24T09:30:00Z");
}

Result<void> wait_until(RunContext& run, const std::string& place, std::int64_t until_ms) {
  if (run.history.timer_over(place)) return {};
  if (const Json* timer = run.history.timer(place)) {
    if (timer->contains("until_ms") && timer->at("until_ms").is_number_integer()) until_ms = timer->at("until_ms").get<std::int64_t>();
  } else {
    if (auto recorded = run.record("timer_started", place, Json{{"until_ms", until_ms}}); !recorded) return recorded;
    run.emit("timer", place, Json{{"until_ms", until_ms}});
  }
  if (!run.log) return fail(Errc::not_found, "the journal ends here", kEndOfLog, place);
  if (run.timers_park && run.clock->unix_ms() < until_ms) return fail(Errc::denied, place + " waits for a time", kParked, place);
  if (auto slept = run.sleep_until(until_ms); !slept) return slept;
  return run.record("timer_over", place, Json::object(), Durable::later);
}

}  // namespace kontor::agent
