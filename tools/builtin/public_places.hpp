#pragma once
// What everybody on the machine may read.

#include <string>
#include <vector>

namespace kontor::tools {

/// The folder, or in its place the parts of it that others than the owner may read: a program that runs as root and is
/// confined to them reads what other programs can, not /etc/shadow. Links are left out (what they lead to is judged by its
/// own place), and so is what lies deeper than a few levels below something private.
std::vector<std::string> public_places(const std::string& folder);

}  // namespace kontor::tools
