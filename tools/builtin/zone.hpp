#pragma once
// Time zones of the IANA database as installed on the machine (TZif files, RFC 8536), and the calendar (proleptic
// Gregorian) around them. No global state: TZ and localtime are not used.

#include "base/error.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// A calendar date and time of day, without zone.
struct CivilTime {
  int year = 1970, month = 1, day = 1;
  int hour = 0, minute = 0, second = 0;
  int millisecond = 0;
};

/// Seconds since 1970-01-01T00:00:00 as if the civil time were UTC. Fields out of range carry over.
std::int64_t civil_seconds(const CivilTime& time);
CivilTime civil_from_seconds(std::int64_t seconds);
int days_in_month(int year, int month);
/// 1 Monday to 7 Sunday.
int weekday(const CivilTime& time);

/// Immutable; cheap to copy is not promised, share it.
class Zone {
 public:
  /// "UTC", "Z", an offset such as "+02:00", or a name such as "Europe/Berlin" (read from $ZONEINFO or
  /// /usr/share/zoneinfo). Errors: not_found, malformed, io.
  static Result<Zone> load(std::string_view name);

  /// Seconds east of UTC at a moment (Unix seconds).
  int offset_at(std::int64_t unix_seconds) const;
  std::string abbreviation_at(std::int64_t unix_seconds) const;

  /// The moment that a clock in this zone shows as `local`. A time that the clock skips (spring) is moved forward by the
  /// length of the gap; one that it shows twice (autumn) means the first.
  std::int64_t unix_seconds(std::int64_t local) const;

  const std::string& name() const { return name_; }

 private:
  struct Type {
    int offset = 0;
    bool daylight = false;
    std::string abbreviation;
  };
  /// Day rule of a POSIX TZ string.
  struct Rule {
    enum class Kind { julian, day, month } kind = Kind::julian;
    int month = 0, week = 0, day = 0;
    std::int64_t seconds = 7200;
  };
  struct Footer {
    bool present = false, has_daylight = false;
    Type standard, daylight;
    Rule start, end;
  };
  static Result<Zone> parse(std::string_view bytes, std::string name);
  static bool parse_footer(std::string_view text, Footer& footer);
  static std::int64_t rule_seconds(const Rule& rule, int year);
  const Type& type_at(std::int64_t unix_seconds) const;

  std::string name_;
  std::vector<std::int64_t> transitions_;
  std::vector<std::uint8_t> kinds_;  ///< Type after each transition.
  std::vector<Type> types_;
  Footer footer_;
};

}  // namespace kontor::tools
