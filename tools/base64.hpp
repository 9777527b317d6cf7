#pragma once
// Base64 (RFC 4648) and random bytes, through libcrypto.

#include <optional>
#include <string>
#include <string_view>

namespace kontor::tools {

std::string base64(std::string_view bytes);
/// Without padding, '-' and '_' in place of '+' and '/'.
std::string base64_url(std::string_view bytes);
/// The standard alphabet with padding; nothing for anything else.
std::optional<std::string> from_base64(std::string_view text);

/// The raw 32 bytes of SHA-256 and of HMAC-SHA-256.
std::string sha256_bytes(std::string_view bytes);
std::string hmac_sha256(std::string_view key, std::string_view bytes);

/// `bytes` random bytes as base64_url text. The system's generator; there is no program without it.
std::string random_text(std::size_t bytes);

}  // namespace kontor::tools
