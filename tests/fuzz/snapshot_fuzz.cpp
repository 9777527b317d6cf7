// KV snapshots from a damaged or hostile runs folder.

#include "inference/snapshot.hpp"

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>

namespace {

class NoPage final : public kontor::inference::KvPage {
 public:
  void copy_to(std::span<std::byte>) const override {}
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kontor;
  using namespace kontor::inference;
  const SnapshotKey key{std::string(64, 'a'), "x", 8, 100};
  // The checksum keeps nearly everything out: the last byte decides whether what follows the header is made to fit it.
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[size - 1] % 2 == 0) {
    std::ostringstream header;
    (void)write_snapshot(header, key, {});
    std::string start = header.str().substr(0, header.str().size() - 64 - 8);
    bytes.insert(0, start);
  }
  std::istringstream in(bytes);
  const auto entries = read_snapshot(in, bytes.size(), key, 1 << 16, [](std::span<const std::byte>) { return Result<KvPageRef>(std::make_shared<NoPage>()); });
  if (entries && entries->size() > (1 << 13)) __builtin_trap();
  return 0;
}
