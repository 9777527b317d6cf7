#include "agent/grammar/formats.hpp"

#include <array>
#include <map>
#include <string>

namespace kontor::agent {
namespace {

std::string with(std::string text, const std::map<std::string, std::string>& names) {
  for (const auto& [name, value] : names) {
    const std::string mark = "<" + name + ">";
    for (auto at = text.find(mark); at != std::string::npos; at = text.find(mark, at + value.size())) text.replace(at, mark.size(), "(?:" + value + ")");
  }
  return text;
}

std::string two_digits(int value) { return {static_cast<char>('0' + value / 10), static_cast<char>('0' + value % 10)}; }

/// A leap second ends a day of UTC, so away from there it has one minute of the day for each offset. Offsets are whole
/// quarters of an hour, as all in use are.
std::string leap_seconds() {
  constexpr int kDay = 24 * 60;
  const auto clock = [](int minutes) { return two_digits(minutes / 60) + ":" + two_digits(minutes % 60); };
  std::string out = "23:59:60(?:\\.[0-9]{1,18})?[Zz]";
  for (int offset = 0; offset < kDay; offset += 15)
    out += "|" + clock((offset + kDay - 1) % kDay) + ":60(?:\\.[0-9]{1,3})?(?:\\+" + clock(offset) + "|-" + clock((kDay - offset) % kDay) + ")";
  return out;
}

std::map<std::string, std::string> make() {
  const std::string month31 = "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])", month30 = "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)";
  const std::string leap = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29";
  const std::string date = "[0-9]{4}-(?:" + month31 + "|" + month30 + "|02-(?:0[1-9]|1[0-9]|2[0-8]))|" + leap;
  const std::string hour = "[01][0-9]|2[0-3]";
  const std::string time = with("(?:<hour>:[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,18})?(?:[Zz]|[+-]<hour>:[0-5][0-9])|<leap>)", {{"hour", hour}, {"leap", leap_seconds()}});
  const std::string ipv4 = with("<o>\\.<o>\\.<o>\\.<o>", {{"o", "25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9]"}});
  const std::string ipv6 = with(
      "(?:<h>:){7}<h>|(?:<h>:){1,7}:|(?:<h>:){1,6}:<h>|(?:<h>:){1,5}(?::<h>){1,2}|(?:<h>:){1,4}(?::<h>){1,3}|(?:<h>:){1,3}(?::<h>){1,4}|"
      "(?:<h>:){1,2}(?::<h>){1,5}|<h>:(?::<h>){1,6}|:(?::<h>){1,7}|::|(?:<h>:){6}<v4>|::(?:<h>:){0,5}<v4>|(?:<h>:){1,5}:<v4>|"
      "(?:<h>:){1,4}:<h>:<v4>|(?:<h>:){1,3}(?::<h>){1,2}:<v4>|(?:<h>:){1,2}(?::<h>){1,3}:<v4>|<h>:(?::<h>){1,4}:<v4>",
      {{"h", "[0-9A-Fa-f]{1,4}"}, {"v4", ipv4}});
  const std::string label = "[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20})?";
  const std::string host = with("<l>(?:\\.<l>){0,3}", {{"l", label}});
  const std::string word = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}";
  const std::string email = with("<w>(?:\\.<w>){0,2}@<host>", {{"w", word}, {"host", host}});
  const std::string pchar = "[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}";
  const std::string uri = with(
      "[A-Za-z][A-Za-z0-9+.-]{0,20}:(?://(?:(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?(?:[A-Za-z0-9._~-]*|\\[<v6>\\])(?::[0-9]{1,5})?)(?:/<p>*)*|/?<p>+(?:/<p>*)*)"
      "(?:\\?(?:<p>|[/?])*)?(?:#(?:<p>|[/?])*)?",
      {{"p", pchar}, {"v6", ipv6}});
  const std::string n = "[0-9]{1,9}";
  const std::string duration = with("P(?:(?:<n>D|<n>M(?:<n>D)?|<n>Y(?:<n>M(?:<n>D)?)?)<t>?|<t>|<n>W)",
                                    {{"n", n}, {"t", with("T(?:<n>H(?:<n>M(?:<n>S)?)?|<n>M(?:<n>S)?|<n>S)", {{"n", n}})}});
  const std::string pointer = "(?:/(?:[^/~]|~[01])*)*";
  std::map<std::string, std::string> out{
      {"date", date}, {"time", time}, {"date-time", "(?:" + date + ")[Tt]" + time}, {"duration", duration},
      {"uuid", "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"},
      {"ipv4", ipv4}, {"ipv6", ipv6}, {"hostname", host}, {"idn-hostname", host}, {"email", email}, {"idn-email", email},
      {"uri", uri}, {"uri-reference", uri}, {"iri", uri}, {"iri-reference", uri}, {"json-pointer", pointer},
      {"relative-json-pointer", "(?:0|[1-9][0-9]{0,8})(?:#|" + pointer + ")"}};
  for (auto& [name, pattern] : out) pattern = "^(?:" + pattern + ")$";
  return out;
}

}  // namespace

std::string_view format_pattern(std::string_view format) {
  static const std::map<std::string, std::string> patterns = make();
  const auto found = patterns.find(std::string(format));
  return found == patterns.end() ? std::string_view() : std::string_view(found->second);
}

}  // namespace kontor::agent
