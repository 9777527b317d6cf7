#pragma once
// SHA-256 (FIPS 180-4) through libcrypto: pins, journal chain, approval bindings.

#include "base/error.hpp"

#include <string>
#include <string_view>

namespace kontor {

/// Lower-case hexadecimal digest of the bytes.
std::string sha256_hex(std::string_view bytes);

/// Digest of a file's content, read in pieces. Errors: not_found, io.
Result<std::string> sha256_file(const std::string& path);

}  // namespace kontor
