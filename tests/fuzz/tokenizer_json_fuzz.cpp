// A tokenizer.json from a stranger: refused with an error, or a tokenizer that encodes every text without making control
// tokens of it. The input is cut at its first NUL: in front the file, behind it the text.

#include "inference/tokenizer.hpp"
#include "inference/tokenizer_regex.hpp"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <string_view>

using namespace kontor::inference;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = std::min(input.find('\0'), input.size());
  const std::string_view file = input.substr(0, cut);
  std::string_view text = input.substr(std::min(cut + 1, input.size()));
  if (text.empty()) text = "The 1st <s>\xe2\x96\x81 t\xc3\xa9xt\xff  \n";

  if (auto regex = Regex::compile(file)) {
    RegexMatcher matcher(*regex);
    matcher.start(text);
    for (std::size_t at = 0; at <= text.size();) {
      const auto match = matcher.find(at);
      if (!match) break;
      if (match->start < at || match->end < match->start || match->end > text.size()) std::abort();
      at = match->end > at ? match->end : at + 1;
    }
  }

  const auto tokenizer = Tokenizer::from_json(file, {}, {}, "fuzz");
  if (!tokenizer) {
    if (tokenizer.error().message.empty() || tokenizer.error().kind.empty()) std::abort();
    return 0;
  }
  for (const TokenId id : tokenizer->encode(text, false)) {
    if (id < 0 || static_cast<std::size_t>(id) >= tokenizer->size()) std::abort();
    if (tokenizer->is_control(id) && tokenizer->unknown() != id) std::abort();
  }
  for (const TokenId id : tokenizer->encode_with_ends(text, true)) (void)tokenizer->piece(id);
  return 0;
}
