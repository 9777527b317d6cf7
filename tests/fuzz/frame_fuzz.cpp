// What a plugin's host process may send: frames are read alike however the bytes are cut, and what was read can be written.

#include "plugins/host/frame.hpp"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using namespace kontor::plugins;

/// The frames of the bytes, written again; "!" at the end of what is none.
std::string read_all(std::string_view bytes, std::size_t piece) {
  FrameParser parser;
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    parser.feed(bytes.substr(at, piece));
    for (;;) {
      auto frame = parser.next();
      if (!frame) return out + "!";
      if (!*frame) break;
      const auto again = encode(**frame);
      if (!again) std::abort();
      out += *again;
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string whole = read_all(bytes, size + 1);
  if (read_all(bytes, 1) != whole || read_all(bytes, 7) != whole) std::abort();
  const std::size_t good = whole.size() - (!whole.empty() && whole.back() == '!' ? 1 : 0);
  if (bytes.substr(0, good) != std::string_view(whole).substr(0, good)) std::abort();
  return 0;
}
