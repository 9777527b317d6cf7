#include "inference/remote/server_text.hpp"

#include <algorithm>
#include <array>

namespace kontor::inference::remote {
namespace {

constexpr std::string_view kJoiner = "\xe2\x81\xa0";
constexpr std::string_view kBegin = "<｜begin▁of▁sentence｜>";

// What stands behind the "<" of the control tokens of the R1 family: of its own vocabularies and of the Qwen and Llama
// vocabularies of the distillates.
constexpr std::array<std::string_view, 14> kMarkers = {"｜",          "|",           "/｜",            "/|",             "think>", "/think>", "tool_call>",
                                                       "/tool_call>", "tool_response>", "/tool_response>", "s>", "/s>", "unk>", "pad>"};

}  // namespace

std::string without_markers(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = text.find('<'); at != std::string_view::npos; at = text.find('<')) {
    out += text.substr(0, at + 1);
    text.remove_prefix(at + 1);
    if (std::any_of(kMarkers.begin(), kMarkers.end(), [&](std::string_view marker) { return text.starts_with(marker); })) out += kJoiner;
  }
  return out += text;
}

std::string server_text(const GenerateRequest& request) {
  std::string text, plain;
  const auto flush = [&] {
    text += without_markers(plain);
    plain.clear();
  };
  for (const std::span<const Segment> segments : {request.earlier, std::span<const Segment>(request.prompt)}) {
    for (const Segment& segment : segments) {
      if (!segment.is_template) {
        plain += segment.text;
        continue;
      }
      flush();
      text += segment.text;
    }
  }
  flush();
  return text;
}

std::string_view begin_marker(std::string_view prompt) { return prompt.starts_with(kBegin) ? kBegin : std::string_view(); }

}  // namespace kontor::inference::remote
