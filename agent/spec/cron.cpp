// Five-field schedules as crontab(5) has them: numbers, *, lists, ranges, steps, names of months and days.

#include "agent/spec/formats.hpp"

#include <algorithm>
#include <array>
#include <bitset>

namespace kontor::agent {
namespace {

struct Field {
  const char* what;
  int least, most;
  std::string_view names;  // three letters each, from `least`
};

constexpr std::array<Field, 5> kFields{{
    {"minute", 0, 59, ""},
    {"hour", 0, 23, ""},
    {"day of the month", 1, 31, ""},
    {"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
    {"day of the week", 0, 7, "sunmontuewedthufrisat"},
}};

FormatProblem bad(std::string message) { return {"bad-format", std::move(message), {}}; }

bool read_value(std::string_view text, const Field& field, int& value) {
  if (text.size() == 3 && !field.names.empty()) {
    std::string small(text);
    for (char& c : small) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    for (std::size_t at = 0; at < field.names.size(); at += 3) {
      if (field.names.substr(at, 3) == small) {
        value = field.least + static_cast<int>(at / 3);
        return true;
      }
    }
  }
  if (text.empty() || text.size() > 3) return false;
  value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + (c - '0');
  }
  return true;
}

/// One field; sets the bits of the values it allows.
FormatProblem read_field(std::string_view text, const Field& field, std::bitset<64>& allowed) {
  const std::string what = field.what;
  const std::string span = std::to_string(field.least) + " to " + std::to_string(field.most);
  while (true) {
    const auto comma = text.find(',');
    std::string_view part = text.substr(0, comma);
    int step = 1;
    const auto slash = part.find('/');
    if (slash != std::string_view::npos) {
      if (!read_value(part.substr(slash + 1), {"", 0, 999, ""}, step)) return bad("the step of the " + what + " is not a number");
      if (step == 0) return bad("the step of the " + what + " is zero");
      if (step > field.most) return bad("the step of the " + what + " is larger than its range");
      part = part.substr(0, slash);
    }
    int first = field.least;
    int last = field.most;
    if (part != "*") {
      const auto dash = part.find('-');
      if (!read_value(part.substr(0, dash), field, first)) return bad("the " + what + " is not a number from " + span);
      last = slash != std::string_view::npos && dash == std::string_view::npos ? field.most : first;
      if (dash != std::string_view::npos && !read_value(part.substr(dash + 1), field, last)) return bad("the range of the " + what + " is not made of numbers from " + span);
      if (first < field.least || first > field.most || last < field.least || last > field.most) return bad("the " + what + " is not from " + span);
      if (last < first) return bad("the range of the " + what + " runs backwards");
    }
    for (int value = first; value <= last; value += step) allowed.set(static_cast<std::size_t>(value));
    if (comma == std::string_view::npos) return {};
    text.remove_prefix(comma + 1);
  }
}

}  // namespace

FormatProblem check_cron(std::string_view text) {
  CronFields fields;
  return read_cron(text, fields);
}

FormatProblem read_cron(std::string_view text, CronFields& fields) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == ' ' || text[at] == '\t') {
      ++at;
      continue;
    }
    const std::size_t end = std::min(text.find_first_of(" \t", at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end;
  }
  if (parts.size() != kFields.size()) {
    return bad("a schedule has five fields (minute, hour, day of the month, month, day of the week), not " + std::to_string(parts.size()));
  }
  auto& allowed = fields.allowed;
  fields.any_day = parts[2][0] == '*';
  fields.any_weekday = parts[4][0] == '*';
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    if (auto problem = read_field(parts[i], kFields[i], allowed[i])) return problem;
  }
  // With "*" for the day of the week, some day of the month must exist in some month.
  static constexpr std::array<int, 13> kDays{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (parts[4][0] == '*') {
    bool occurs = false;
    for (std::size_t month = 1; month <= 12; ++month) {
      for (int day = 1; day <= kDays[month]; ++day) occurs = occurs || (allowed[3][month] && allowed[2][static_cast<std::size_t>(day)]);
    }
    if (!occurs) return bad("no month of the schedule has such a day");
  }
  return {};
}

}  // namespace kontor::agent
