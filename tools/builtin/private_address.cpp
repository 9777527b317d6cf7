#include "tools/builtin/private_address.hpp"

#include <arpa/inet.h>

#include <array>
#include <cstdint>

namespace kontor::tools {
namespace {

struct Range {
  std::uint32_t network;
  int bits;
};
constexpr Range kNotPublic[] = {
    {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16}, {0xac100000, 12}, {0xc0000000, 24},
    {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16}, {0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 4}, {0xf0000000, 4},
};

bool is_private(std::uint32_t address) {
  for (const Range& range : kNotPublic)
    if (((address ^ range.network) >> (32 - range.bits)) == 0) return true;
  return false;
}

std::uint32_t word(const std::array<std::uint8_t, 16>& bytes, std::size_t at) {
  return static_cast<std::uint32_t>(bytes[at]) << 24 | static_cast<std::uint32_t>(bytes[at + 1]) << 16 | static_cast<std::uint32_t>(bytes[at + 2]) << 8 | bytes[at + 3];
}

}  // namespace

bool is_private_address(const std::string& address) {
  in_addr four{};
  if (inet_pton(AF_INET, address.c_str(), &four) == 1) return is_private(ntohl(four.s_addr));
  std::array<std::uint8_t, 16> six{};
  if (inet_pton(AF_INET6, address.substr(0, address.find('%')).c_str(), six.data()) != 1) return true;
  const std::uint32_t first = word(six, 0);
  const bool mapped = first == 0 && word(six, 4) == 0 && word(six, 8) == 0xffff;
  const bool nat64 = first == 0x0064ff9b && word(six, 4) == 0 && word(six, 8) == 0;
  if (mapped || nat64) return is_private(word(six, 12));
  if (first >> 16 == 0x2002) return is_private(word(six, 2));  // 6to4
  if (first >> 29 != 1) return true;                            // outside of 2000::/3
  return first == 0x20010000 || first == 0x20010db8 || (first >> 12) == 0x3fff0;  // Teredo, documentation
}

bool is_loopback_address(const std::string& address) {
  in_addr four{};
  if (inet_pton(AF_INET, address.c_str(), &four) == 1) return ntohl(four.s_addr) >> 24 == 127;
  std::array<std::uint8_t, 16> six{};
  if (inet_pton(AF_INET6, address.c_str(), six.data()) != 1 || word(six, 0) != 0 || word(six, 4) != 0) return false;
  return (word(six, 8) == 0 && word(six, 12) == 1) || (word(six, 8) == 0xffff && six[12] == 127);
}

}  // namespace kontor::tools
