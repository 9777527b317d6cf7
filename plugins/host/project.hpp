#pragma once
// A new plugin project: what `kontor plugin new` writes.

#include "base/error.hpp"

#include <string>
#include <vector>

namespace kontor::plugins {

enum class Language { cpp, c };

/// Writes a project that builds and tests alone through find_package(Kontor) into `folder`, which must not exist or be
/// empty. Returns the files. Errors: usage (kind bad_name), conflict (the folder is not empty), io.
Result<std::vector<std::string>> write_project(const std::string& name, const std::string& folder, Language language = Language::cpp);

}  // namespace kontor::plugins
