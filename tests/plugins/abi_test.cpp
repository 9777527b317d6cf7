#include "tests/support/catch.hpp"

#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

namespace {

template <class Value>
Value at(const std::string& bytes, std::size_t offset) {
  Value value{};
  if (offset + sizeof value <= bytes.size()) std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// Names of the symbols that a 64-bit library defines for others.
std::set<std::string> exported(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const auto head = at<Elf64_Ehdr>(bytes, 0);
  std::set<std::string> names;
  for (int i = 0; i < head.e_shnum; ++i) {
    const auto section = at<Elf64_Shdr>(bytes, head.e_shoff + static_cast<std::size_t>(i) * sizeof(Elf64_Shdr));
    if (section.sh_type != SHT_DYNSYM) continue;
    const auto strings = at<Elf64_Shdr>(bytes, head.e_shoff + section.sh_link * sizeof(Elf64_Shdr));
    for (std::size_t offset = 0; offset + sizeof(Elf64_Sym) <= section.sh_size; offset += sizeof(Elf64_Sym)) {
      const auto symbol = at<Elf64_Sym>(bytes, section.sh_offset + offset);
      if (symbol.st_shndx == SHN_UNDEF || ELF64_ST_BIND(symbol.st_info) == STB_LOCAL) continue;
      names.insert(bytes.c_str() + strings.sh_offset + symbol.st_name);
    }
  }
  return names;
}

}  // namespace

TEST_CASE("each plugin exports exactly one symbol") {
  for (const auto* name : {"plugins/libecho_c.so", "plugins/liberp.so", "plugins/libhttp_get.so", "tests/plugins/libkontor_fixture_rude.so"}) {
    INFO(name);
    CHECK(exported(std::string(KONTOR_BINARY_DIR) + "/" + name) == std::set<std::string>{"kontor_plugin_entry"});
  }
}
