#include "tools/builtin/zone.hpp"

#include "tools/nearest.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace kontor::tools {
namespace {

constexpr std::size_t kFileMax = 1u << 20;
constexpr std::size_t kNamesMax = 5000;  ///< Zones that are looked through for a near name.

/// The zone that was probably meant: a near name, or the one of a city that stands alone. "" where there is none.
std::string near_zone(const std::filesystem::path& folder, std::string_view name) {
  std::vector<std::string> names;
  std::string city;
  std::error_code failed;
  for (auto entry = std::filesystem::recursive_directory_iterator(folder, failed); !failed && entry != std::filesystem::recursive_directory_iterator() && names.size() < kNamesMax; entry.increment(failed)) {
    const std::string stem = entry->path().filename().string();
    if (stem == "posix" || stem == "right") entry.disable_recursion_pending();
    if (!entry->is_regular_file(failed) || stem.find('.') != std::string::npos) continue;
    names.push_back(entry->path().lexically_relative(folder).string());
    if (city.empty() && edit_distance(stem, name, 0) == 0) city = names.back();
  }
  return city.empty() ? nearest(name, names) : city;
}

/// Reads big-endian numbers; past the end it yields zeros and says so.
class Bytes {
 public:
  explicit Bytes(std::string_view text) : text_(text) {}
  std::int64_t number(int size) {
    std::uint64_t value = 0;
    for (int i = 0; i < size; ++i) value = (value << 8) | byte();
    return size == 4 ? static_cast<std::int32_t>(static_cast<std::uint32_t>(value)) : static_cast<std::int64_t>(value);
  }
  std::uint8_t byte() {
    if (at_ >= text_.size()) {
      bad = true;
      return 0;
    }
    return static_cast<std::uint8_t>(text_[at_++]);
  }
  void skip(std::uint64_t count) {
    if (count > text_.size() - at_) bad = true;
    else at_ += count;
  }
  std::string_view rest() const { return text_.substr(at_); }
  bool bad = false;

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

struct Header {
  std::int64_t utc = 0, wall = 0, leaps = 0, times = 0, types = 0, chars = 0;
};

bool read_header(Bytes& in, Header& header, char& version) {
  if (!in.rest().starts_with("TZif")) return false;
  in.skip(4);
  version = static_cast<char>(in.byte());
  in.skip(15);
  for (auto* field : {&header.utc, &header.wall, &header.leaps, &header.times, &header.types, &header.chars}) {
    *field = in.number(4);
    if (*field < 0 || *field > 100'000) return false;
  }
  return !in.bad && header.types > 0 && header.types <= 256;
}

/// Days from 1970-01-01 to a date: years from March, so that the leap day comes last.
std::int64_t days_from_civil(std::int64_t year, int month, int day) {
  year -= month <= 2;
  const std::int64_t era = (year >= 0 ? year : year - 399) / 400;
  const std::int64_t of_era = year - era * 400;
  const std::int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

bool take_number(std::string_view& text, int& value) {
  std::size_t digits = 0;
  value = 0;
  while (digits < text.size() && digits < 4 && text[digits] >= '0' && text[digits] <= '9') value = value * 10 + (text[digits++] - '0');
  text.remove_prefix(digits);
  return digits > 0;
}

/// [+-]hh[:mm[:ss]]
bool take_time(std::string_view& text, std::int64_t& seconds) {
  const bool minus = text.starts_with('-');
  if (minus || text.starts_with('+')) text.remove_prefix(1);
  int part = 0;
  if (!take_number(text, part)) return false;
  seconds = std::int64_t{part} * 3600;
  for (int unit = 60; unit > 0 && text.starts_with(':'); unit /= 60) {
    text.remove_prefix(1);
    if (!take_number(text, part)) return false;
    seconds += std::int64_t{part} * unit;
  }
  if (minus) seconds = -seconds;
  return true;
}

bool take_abbreviation(std::string_view& text, std::string& name) {
  const bool quoted = text.starts_with('<');
  const auto end = quoted ? text.find('>') : text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
  if (quoted && end == std::string_view::npos) return false;
  const auto stop = std::min(end, text.size());
  name = quoted ? text.substr(1, stop - 1) : text.substr(0, stop);
  text.remove_prefix(quoted ? stop + 1 : stop);
  return !name.empty();
}

}  // namespace

std::int64_t civil_seconds(const CivilTime& time) {
  std::int64_t year = time.year, month = time.month - 1;
  year += month >= 0 ? month / 12 : (month - 11) / 12;
  month = (month % 12 + 12) % 12;
  const std::int64_t days = days_from_civil(year, static_cast<int>(month) + 1, 1) + time.day - 1;
  return days * 86400 + std::int64_t{time.hour} * 3600 + std::int64_t{time.minute} * 60 + time.second;
}

CivilTime civil_from_seconds(std::int64_t seconds) {
  std::int64_t days = seconds / 86400, rest = seconds % 86400;
  if (rest < 0) rest += 86400, --days;
  days += 719468;
  const std::int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const std::int64_t of_era = days - era * 146097;
  const std::int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  const std::int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
  const std::int64_t month = (5 * of_year + 2) / 153;
  CivilTime time;
  time.day = static_cast<int>(of_year - (153 * month + 2) / 5 + 1);
  time.month = static_cast<int>(month < 10 ? month + 3 : month - 9);
  time.year = static_cast<int>(year + era * 400 + (time.month <= 2 ? 1 : 0));
  time.hour = static_cast<int>(rest / 3600);
  time.minute = static_cast<int>(rest / 60 % 60);
  time.second = static_cast<int>(rest % 60);
  return time;
}

int days_in_month(int year, int month) {
  if (month == 2) return (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)) ? 29 : 28;
  return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

int weekday(const CivilTime& time) {
  const std::int64_t days = days_from_civil(time.year, time.month, time.day);
  return static_cast<int>(((days + 3) % 7 + 7) % 7) + 1;  // 1970-01-01 was a Thursday.
}

Result<Zone> Zone::load(std::string_view name) {
  Zone zone;
  zone.name_ = std::string(name);
  if (name == "UTC" || name == "Z" || name == "Etc/UTC") {
    zone.types_.push_back({0, false, "UTC"});
    return zone;
  }
  if (name.size() == 6 && (name[0] == '+' || name[0] == '-') && name[3] == ':') {
    auto hours = name.substr(1, 2), minutes = name.substr(4, 2);
    int h = 0, m = 0;
    if (take_number(hours, h) && take_number(minutes, m) && hours.empty() && minutes.empty() && h < 24 && m < 60) {
      zone.types_.push_back({(h * 3600 + m * 60) * (name[0] == '-' ? -1 : 1), false, std::string(name)});
      return zone;
    }
  }
  const bool safe = !name.empty() && name.size() < 80 && name[0] != '/' && name.find("..") == std::string_view::npos &&
                    name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-/") == std::string_view::npos;
  const Error unknown = fail(Errc::not_found, "there is no time zone '" + std::string(name.substr(0, 80)) + "' (write UTC, +02:00 or a name such as Europe/Berlin)", "unknown_zone");
  if (!safe) return unknown;
  const char* chosen = std::getenv("ZONEINFO");
  const std::filesystem::path folder = chosen != nullptr ? chosen : "/usr/share/zoneinfo";
  std::error_code failed;
  if (!std::filesystem::is_directory(folder, failed)) {
    return fail(Errc::not_found, "no time zone database at " + folder.string() + "; install tzdata, or write UTC or an offset such as +02:00", "no_zoneinfo");
  }
  const auto path = folder / name;
  if (!std::filesystem::is_regular_file(path, failed) || std::filesystem::file_size(path, failed) > kFileMax) {
    const std::string near = near_zone(folder, name);
    return near.empty() ? unknown : fail(Errc::not_found, "there is no time zone '" + std::string(name) + "' (did you mean '" + near + "'?)", "unknown_zone");
  }
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!bytes.starts_with("TZif")) return unknown;
  return parse(bytes, zone.name_);
}

Result<Zone> Zone::parse(std::string_view bytes, std::string name) {
  const Error damaged = fail(Errc::malformed, "the time zone file of " + name + " is damaged", "zone_file");
  Zone zone;
  zone.name_ = std::move(name);
  Bytes in(bytes);
  Header header;
  char version = 0;
  if (!read_header(in, header, version)) return damaged;
  int size = 4;
  if (version >= '2') {  // The first block is for old readers; the second has 64-bit times.
    in.skip(static_cast<std::uint64_t>(header.times * 5 + header.types * 6 + header.chars + header.leaps * 8 + header.wall + header.utc));
    if (!read_header(in, header, version)) return damaged;
    size = 8;
  }
  for (std::int64_t i = 0; i < header.times; ++i) zone.transitions_.push_back(in.number(size));
  for (std::int64_t i = 0; i < header.times; ++i) zone.kinds_.push_back(in.byte());
  std::vector<std::uint8_t> names;
  for (std::int64_t i = 0; i < header.types; ++i) {
    Type type;
    type.offset = static_cast<int>(in.number(4));
    type.daylight = in.byte() != 0;
    names.push_back(in.byte());
    zone.types_.push_back(std::move(type));
  }
  const std::string_view chars = in.rest().substr(0, static_cast<std::size_t>(header.chars));
  in.skip(static_cast<std::uint64_t>(header.chars + header.leaps * (size + 4) + header.wall + header.utc));
  if (in.bad || !std::is_sorted(zone.transitions_.begin(), zone.transitions_.end())) return damaged;
  for (std::size_t i = 0; i < zone.types_.size(); ++i) {
    if (names[i] >= chars.size() || std::abs(zone.types_[i].offset) > 86400 * 2) return damaged;
    const auto text = chars.substr(names[i]);
    zone.types_[i].abbreviation = text.substr(0, text.find('\0'));
  }
  for (const auto kind : zone.kinds_) {
    if (kind >= zone.types_.size()) return damaged;
  }
  if (size == 8 && in.rest().starts_with('\n')) {
    auto footer = in.rest().substr(1);
    footer = footer.substr(0, footer.find('\n'));
    if (!footer.empty() && !parse_footer(footer, zone.footer_)) return damaged;
  }
  return zone;
}

bool Zone::parse_footer(std::string_view text, Footer& footer) {
  std::int64_t seconds = 0;
  if (!take_abbreviation(text, footer.standard.abbreviation) || !take_time(text, seconds)) return false;
  footer.standard.offset = static_cast<int>(-seconds);  // POSIX counts west.
  footer.present = true;
  if (text.empty()) return true;
  if (!take_abbreviation(text, footer.daylight.abbreviation)) return false;
  footer.has_daylight = true;
  footer.daylight.daylight = true;
  footer.daylight.offset = footer.standard.offset + 3600;
  if (!text.starts_with(',') && !text.empty()) {
    if (!take_time(text, seconds)) return false;
    footer.daylight.offset = static_cast<int>(-seconds);
  }
  for (Rule* rule : {&footer.start, &footer.end}) {
    if (!text.starts_with(',')) return false;
    text.remove_prefix(1);
    if (text.starts_with('M')) {
      text.remove_prefix(1);
      rule->kind = Rule::Kind::month;
      if (!take_number(text, rule->month) || !text.starts_with('.')) return false;
      text.remove_prefix(1);
      if (!take_number(text, rule->week) || !text.starts_with('.')) return false;
      text.remove_prefix(1);
      if (!take_number(text, rule->day) || rule->month < 1 || rule->month > 12 || rule->week < 1 || rule->week > 5 || rule->day > 6) return false;
    } else {
      rule->kind = text.starts_with('J') ? Rule::Kind::julian : Rule::Kind::day;
      if (text.starts_with('J')) text.remove_prefix(1);
      if (!take_number(text, rule->day) || rule->day > 365) return false;
    }
    if (text.starts_with('/')) {
      text.remove_prefix(1);
      if (!take_time(text, rule->seconds)) return false;
    }
  }
  return text.empty();
}

/// When the rule strikes in a year, in local seconds of the time before it.
std::int64_t Zone::rule_seconds(const Rule& rule, int year) {
  const std::int64_t first = civil_seconds({year, 1, 1});
  if (rule.kind == Rule::Kind::day) return first + std::int64_t{rule.day} * 86400 + rule.seconds;
  if (rule.kind == Rule::Kind::julian) {  // 1 to 365, never the leap day.
    const bool after = rule.day >= 60 && days_in_month(year, 2) == 29;
    return first + (std::int64_t{rule.day} - 1 + (after ? 1 : 0)) * 86400 + rule.seconds;
  }
  const int start = weekday({year, rule.month, 1}) % 7;  // 0 Sunday
  int day = 1 + (rule.day - start + 7) % 7 + (rule.week - 1) * 7;
  while (day > days_in_month(year, rule.month)) day -= 7;
  return civil_seconds({year, rule.month, day}) + rule.seconds;
}

const Zone::Type& Zone::type_at(std::int64_t at) const {
  if (transitions_.empty() || at < transitions_.front()) {
    if (transitions_.empty() && footer_.present && footer_.has_daylight) goto rules;
    return types_.front();
  }
  if (at < transitions_.back() || !footer_.present) {
    const auto after = std::upper_bound(transitions_.begin(), transitions_.end(), at);
    return types_[kinds_[static_cast<std::size_t>(after - transitions_.begin()) - 1]];
  }
  if (!footer_.has_daylight) return footer_.standard;
rules:
  const int year = civil_from_seconds(at + footer_.standard.offset).year;
  const std::int64_t start = rule_seconds(footer_.start, year) - footer_.standard.offset;
  const std::int64_t end = rule_seconds(footer_.end, year) - footer_.daylight.offset;
  const bool daylight = start < end ? at >= start && at < end : at >= start || at < end;  // South of the equator.
  return daylight ? footer_.daylight : footer_.standard;
}

int Zone::offset_at(std::int64_t at) const { return type_at(at).offset; }
std::string Zone::abbreviation_at(std::int64_t at) const { return type_at(at).abbreviation; }

std::int64_t Zone::unix_seconds(std::int64_t local) const {
  // The offsets a day before and after surround any change; the earlier moment that shows this time wins.
  const int before = offset_at(local - 86400 - offset_at(local)), after = offset_at(local + 86400 - offset_at(local));
  std::int64_t best = 0;
  bool found = false;
  for (const int offset : {before, after, offset_at(local - before), offset_at(local - after)}) {
    const std::int64_t moment = local - offset;
    if (offset_at(moment) != offset) continue;
    if (!found || moment < best) best = moment;
    found = true;
  }
  return found ? best : local - before;  // In a gap: as if the clock had not been put forward yet.
}

}  // namespace kontor::tools
