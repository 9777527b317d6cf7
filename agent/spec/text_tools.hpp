#pragma once
// Text as people see it: escaped display, what was meant.

#include "tools/code_points.hpp"
#include "tools/nearest.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace kontor::agent {

using tools::code_point_length;
using tools::count_code_points;
using tools::edit_distance;
using tools::nearest;

/// Safe to print: control, invisible and direction characters as \u{...}; cut after `limit` code points.
std::string shown_text(std::string_view text, std::size_t limit = 60);

/// " (did you mean 'x'?)", or "" for "".
std::string did_you_mean(std::string_view suggestion);

}  // namespace kontor::agent
