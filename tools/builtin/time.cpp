// builtin.time: now, parse, add. Moments are RFC 3339 texts with the zone's offset.

#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"
#include "tools/builtin/zone.hpp"
#include "tools/schema_format.hpp"

#include <re2/re2.h>

#include <array>
#include <cstdio>

namespace kontor::tools {
namespace {

constexpr std::int64_t kSecondsMin = -62135596800;  // 0001-01-01
constexpr std::int64_t kSecondsMax = 253402300799;  // 9999-12-31

struct Moment {
  std::int64_t seconds = 0;  ///< Unix
  int millisecond = 0;
};

std::string rfc3339(const Moment& moment, const Zone& zone) {
  const int offset = zone.offset_at(moment.seconds) / 60 * 60;
  const CivilTime t = civil_from_seconds(moment.seconds + offset);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d", t.year, t.month, t.day, t.hour, t.minute, t.second);
  std::string out = text;
  if (moment.millisecond != 0) {
    std::snprintf(text, sizeof text, ".%03d", moment.millisecond);
    out += text;
  }
  if (offset == 0) return out + "Z";
  const int minutes = (offset < 0 ? -offset : offset) / 60;
  std::snprintf(text, sizeof text, "%c%02d:%02d", offset < 0 ? '-' : '+', minutes / 60, minutes % 60);
  return out + text;
}

ToolResult described(const Moment& moment, const Zone& zone) {
  if (moment.seconds < kSecondsMin || moment.seconds > kSecondsMax) return ToolResult::error("limit", "a time outside of the years 1 to 9999");
  constexpr std::array kDays{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};
  const int offset = zone.offset_at(moment.seconds);
  const CivilTime t = civil_from_seconds(moment.seconds + offset);
  char date[16];
  std::snprintf(date, sizeof date, "%04d-%02d-%02d", t.year, t.month, t.day);
  Json result = Json::object();
  result["time"] = rfc3339(moment, zone);
  result["utc"] = rfc3339(moment, *Zone::load("UTC"));
  result["unix"] = moment.seconds;
  result["date"] = date;
  result["weekday"] = kDays[static_cast<std::size_t>(weekday(t) - 1)];
  result["zone"] = zone.name();
  return ToolResult::ok(std::move(result));
}

int digits(std::string_view text, std::size_t at, std::size_t count) {
  int value = 0;
  for (std::size_t i = at; i < at + count && i < text.size(); ++i) value = value * 10 + (text[i] - '0');
  return value;
}

/// RFC 3339, or the same without offset ("2026-11-24T09:30:00", "2026-11-24 09:30"), or a date: then in `zone`.
Result<Moment> moment_of(std::string text, const Zone& zone) {
  const Error bad = fail(Errc::malformed, "'" + text.substr(0, 60) + "' is not a time such as 2026-11-24T09:30:00+01:00, 2026-11-24 09:30 or 2026-11-24", "time");
  if (text.size() > 60) return bad;
  const std::string given = text;
  bool local = false;
  if (text.size() == 10) text += "T00:00:00";
  if (text.size() > 10 && text[10] == ' ') text[10] = 'T';
  if (text.size() == 16) text += ":00";
  if (!format_matches(Format::date_time, text)) {
    // 2026-02-30 looks like a date and is none.
    static const re2::RE2 form(R"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?)");
    const bool looks = re2::RE2::FullMatch(text, form);
    text += "Z";
    local = true;
    if (!format_matches(Format::date_time, text)) return looks ? fail(Errc::malformed, "'" + given.substr(0, 60) + "' is not in the calendar: months are 01 to 12, days end with the month, hours 00 to 23", "time") : bad;
  }
  CivilTime t{digits(text, 0, 4), digits(text, 5, 2), digits(text, 8, 2), digits(text, 11, 2), digits(text, 14, 2), digits(text, 17, 2)};
  Moment moment;
  std::size_t at = 19;
  if (text[at] == '.') {
    std::size_t count = 0;
    for (++at; text[at] >= '0' && text[at] <= '9'; ++at, ++count) {
      if (count < 3) moment.millisecond = moment.millisecond * 10 + (text[at] - '0');
    }
    for (; count < 3; ++count) moment.millisecond *= 10;
  }
  if (local) {
    moment.seconds = zone.unix_seconds(civil_seconds(t));
  } else {
    const int offset = text[at] == 'Z' || text[at] == 'z' ? 0 : (digits(text, at + 1, 2) * 3600 + digits(text, at + 4, 2) * 60) * (text[at] == '-' ? -1 : 1);
    moment.seconds = civil_seconds(t) - offset;
  }
  return moment;
}

const char* const kZone = R"("zone":{"type":"string","maxLength":80,"description":"UTC, an offset such as +02:00, or a name such as Europe/Berlin; the tool's zone when not given"})";

constexpr std::array kUnits{"years", "months", "weeks", "days", "hours", "minutes", "seconds"};

ToolSpec time_spec(const std::string& group, const std::string& function, const std::string& description, const std::string& properties, const std::string& required) {
  ToolSpec spec;
  spec.name = group + "." + function;
  spec.description = description;
  spec.parameters = schema((R"({"type":"object","properties":{)" + properties + (properties.empty() ? "" : ",") + kZone + R"(},"required":[)" + required + R"(],"additionalProperties":false})").c_str());
  spec.result = schema(R"({"type":"object","properties":{"time":{"type":"string"},"utc":{"type":"string"},"unix":{"type":"integer"},
    "date":{"type":"string"},"weekday":{"type":"string"},"zone":{"type":"string"}},"required":["time","utc","unix","date","weekday","zone"]})");
  spec.at_once = true;
  return spec;
}

/// Years and months by the calendar (31 January + 1 month is the last of February), weeks and days by the calendar at
/// the same time of day, hours and less by the clock.
Result<Moment> added(Moment moment, const Json& arguments, const Zone& zone) {
  const auto amount = [&](const char* unit) { return arguments.contains(unit) ? arguments[unit].get<std::int64_t>() : 0; };
  const std::int64_t local = moment.seconds + zone.offset_at(moment.seconds);
  CivilTime t = civil_from_seconds(local);
  const std::int64_t months = std::int64_t{t.year} * 12 + (t.month - 1) + amount("years") * 12 + amount("months");
  if (months < 12 || months >= 10'000 * 12) return fail(Errc::limit, "a time outside of the years 1 to 9999", "time");
  const std::int64_t days = amount("weeks") * 7 + amount("days");
  if (months != std::int64_t{t.year} * 12 + (t.month - 1) || days != 0) {
    t.year = static_cast<int>(months / 12);
    t.month = static_cast<int>(months % 12) + 1;
    t.day = std::min(t.day, days_in_month(t.year, t.month));
    moment.seconds = zone.unix_seconds(civil_seconds(t) + days * 86400);
  }
  moment.seconds += amount("hours") * 3600 + amount("minutes") * 60 + amount("seconds");
  return moment;
}

}  // namespace

std::vector<ToolSpec> describe_time(const std::string& group) {
  const std::string time = R"("time":{"type":"string","maxLength":60,"description":"For example 2026-11-24T09:30:00+01:00, 2026-11-24 09:30 or 2026-11-24"})";
  std::string units;
  for (const char* unit : kUnits) units += std::string(",\"") + unit + R"(":{"type":"integer","minimum":-1000000000,"maximum":1000000000})";
  return {time_spec(group, "now", "Tells the present date and time.", "", ""),
          time_spec(group, "parse", "Reads a date or time and tells it in a zone, with weekday.", time, R"("time")"),
          time_spec(group, "add", "Adds years, months, weeks, days, hours, minutes, seconds to a time; negative numbers go back.", time + units, R"("time")")};
}

Result<Tools> make_time(const std::string& group, const Json& settings, const BuiltinContext& context) {
  if (auto checked = check_settings(settings, group, {"zone"}); !checked) return checked.error();
  const auto name = text_setting(settings, group, "zone", "UTC");
  if (!name) return name.error();
  if (const auto zone = Zone::load(*name); !zone) return fail(Errc::usage, "tools." + group + ".zone: " + zone.error().message, "tool_settings");

  const Clock* clock = context.clock != nullptr ? context.clock : &system_clock();
  const auto zone_for = [fallback = *name](const Json& arguments) {
    return Zone::load(arguments.contains("zone") ? arguments["zone"].get<std::string>() : fallback);
  };
  const auto specs = describe_time(group);
  Tools tools;
  tools.push_back(std::make_shared<FunctionTool>(specs[0], [=](const Json& arguments, const CallContext&) {
    const auto zone = zone_for(arguments);
    if (!zone) return error_result(zone.error());
    return described({clock->unix_ms() / 1000, static_cast<int>(clock->unix_ms() % 1000)}, *zone);
  }));
  tools.push_back(std::make_shared<FunctionTool>(specs[1], [=](const Json& arguments, const CallContext&) {
    const auto zone = zone_for(arguments);
    if (!zone) return error_result(zone.error());
    const auto moment = moment_of(arguments["time"].get<std::string>(), *zone);
    return moment ? described(*moment, *zone) : error_result(moment.error());
  }));
  tools.push_back(std::make_shared<FunctionTool>(specs[2], [=](const Json& arguments, const CallContext&) {
    const auto zone = zone_for(arguments);
    if (!zone) return error_result(zone.error());
    const auto moment = moment_of(arguments["time"].get<std::string>(), *zone);
    if (!moment) return error_result(moment.error());
    const auto later = added(*moment, arguments, *zone);
    return later ? described(*later, *zone) : error_result(later.error());
  }));
  return tools;
}

}  // namespace kontor::tools
