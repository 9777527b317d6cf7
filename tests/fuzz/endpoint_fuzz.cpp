// What a server of models sends as the stream of an answer. However it is cut it means the same, and no more is taken
// than was asked for.

#include "inference/remote/answer.hpp"
#include "inference/remote/server_text.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

using namespace kontor::inference;
using namespace kontor::inference::remote;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

struct Outcome {
  std::string text, error;
  bool over;
  std::int64_t prompt, generated;
  bool operator==(const Outcome&) const = default;
};

Outcome read(std::string_view bytes, std::size_t step) {
  constexpr int kTokens = 16;
  std::string text;
  Answer answer(kTokens, {}, [&](const Piece& piece) {
    require(!piece.text.empty());
    require(piece.probability == kUnknownProbability || (piece.probability >= 0 && piece.probability <= 1));
    text += piece.text;
    return true;
  });
  for (std::size_t at = 0; at < bytes.size() && answer.feed(bytes.substr(at, step)); at += step) {}
  const std::string error = answer.error() ? answer.error()->message : "";
  const bool over = answer.over();
  const Generation generation = answer.take(1000);
  require(generation.text == text && text.size() <= kTokens * 512u);
  require(generation.usage.generated >= 0 && generation.usage.generated <= kTokens);
  require(generation.usage.prompt_tokens_new >= 0 && generation.usage.prompt_tokens_reused >= 0);
  return {text, error, over, generation.usage.prompt_tokens_new, generation.usage.generated};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  require(read(bytes, bytes.size() + 1) == read(bytes, data[0] % 64 + 1u));
  const std::string sent = without_markers(bytes);
  require(sent.size() >= bytes.size() && without_markers(sent) == sent);
  for (const char* marker : {"<｜", "<|", "<think>", "</think>", "<tool_call>"}) require(sent.find(marker) == std::string::npos);
  return 0;
}
