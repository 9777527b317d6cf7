#pragma once
// The meta-schemas of the dialects that tools/schema understands, by their URIs: what `$ref` to "the schema of schemas"
// means without fetching anything.

#include "base/json.hpp"

#include <string_view>

namespace kontor::tools {

/// The document with this URI (absolute, no fragment): draft-07, 2020-12 and the vocabularies of the latter; null for
/// any other. Lives as long as the program. Thread-safe.
const Json* meta_schema(std::string_view uri);

}  // namespace kontor::tools
