#pragma once
// CSV files with a header line (RFC 4180: quotes, doubled quotes, line breaks inside of quotes).

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace erp {

struct Table {
  std::vector<std::string> columns;
  std::vector<std::map<std::string, std::string>> rows;
};

/// At most 64 MiB. Throws std::runtime_error with FILE:LINE for what cannot be read, has a row of another length or
/// lacks one of the `required` columns.
Table read_table(const std::string& path, const std::vector<std::string>& required);

/// The same for text at hand; `name` is for messages.
Table parse_table(std::string_view text, const std::string& name, const std::vector<std::string>& required);

}  // namespace erp
