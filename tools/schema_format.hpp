#pragma once
// The formats of JSON Schema 2020-12.

#include <cstdint>
#include <string_view>

namespace kontor::tools {

enum class Format : std::uint8_t {
  none, date_time, date, time, duration, email, idn_email, hostname, idn_hostname, ipv4, ipv6, uri, uri_reference, iri,
  iri_reference, uuid, uri_template, json_pointer, relative_json_pointer, regex,
};

/// none for names it does not know.
Format format_named(std::string_view name);

/// RFC 3339 (date, time, date-time, duration), 5321/5322 (email), 1123 (hostname), 2673/4291 (ip), 3986/3987 (uri, iri),
/// 4122 (uuid), 6570 (uri-template), 6901 (json-pointer), ECMA-262 (regex). Linear in the text.
bool format_matches(Format format, std::string_view text);

}  // namespace kontor::tools
