#pragma once
// SHA-256 (FIPS 180-4) through libcrypto: pins, journal chain, approval bindings.

#include "base/error.hpp"

#include <string>
#include <string_view>

namespace kontor {

/// Lower-case hexadecimal digest of the bytes.
std::string sha256_hex(std::string_view bytes);

/// HMAC-SHA-256 (RFC 2104) in lower-case hexadecimal.
std::string hmac_sha256_hex(std::string_view key, std::string_view bytes);

/// Compares in a time that does not depend on where the texts differ.
bool equal_in_constant_time(std::string_view a, std::string_view b);

/// Digest of a file's content, read in pieces. Errors: not_found, io.
Result<std::string> sha256_file(const std::string& path);

}  // namespace kontor
