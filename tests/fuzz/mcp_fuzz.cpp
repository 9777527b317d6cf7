// What MCP servers and clients send: lines, event streams, messages, definitions, results, challenges, addresses.

#include "base/stream_reader.hpp"
#include "tools/mcp/client.hpp"
#include "tools/mcp/content.hpp"
#include "tools/mcp/event_log.hpp"
#include "tools/mcp/headers.hpp"
#include "tools/mcp/http_client.hpp"
#include "tools/mcp/oauth.hpp"
#include "tools/mcp/pins.hpp"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

using namespace kontor;
using namespace kontor::tools::mcp;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

/// However the bytes are cut, the lines and events are the same.
void read_in_pieces(std::string_view bytes, std::size_t step) {
  constexpr std::size_t kMax = 4096;
  std::vector<std::string> lines[2], events[2];
  bool good[2] = {true, true};
  for (int run = 0; run < 2; ++run) {
    LineReader line_reader(kMax);
    SseReader event_reader(kMax);
    const std::size_t piece = run == 0 ? bytes.size() + 1 : step;
    bool lines_good = true;
    for (std::size_t i = 0; i < bytes.size(); i += piece) {
      lines_good = lines_good && line_reader.feed(bytes.substr(i, piece), [&](std::string_view line) { return lines[run].emplace_back(line), true; });
      good[run] = good[run] && event_reader.feed(bytes.substr(i, piece), [&](SseEvent event) { return events[run].push_back(event.type + "\n" + event.data), true; });
    }
    require(line_reader.pending_bytes() <= kMax);
  }
  require(lines[0] == lines[1]);
  require(good[0] == good[1] && events[0] == events[1]);
}

void read_message(std::string_view text) {
  const auto message = parse_message(text);
  if (!message) return;
  // What was read can be written, and is read as the same.
  const std::string again = message->kind == Message::Kind::request        ? write_request(message->id, message->method, message->body)
                            : message->kind == Message::Kind::notification ? write_notification(message->method, message->body)
                            : message->kind == Message::Kind::result       ? write_result(message->id, message->body)
                                                                           : write_error(message->id, message->error);
  require(again.find('\n') == std::string::npos);
  const auto back = parse_message(again);
  require(back && back->kind == message->kind && back->method == message->method && back->id == message->id);
  result_of(message->body);
  problem_of_definition(message->body);
  argument_headers(object_at(message->body, "inputSchema"), message->body);
  compare_pins({message->body}, {message->body});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  read_in_pieces(bytes, data[0] % 64 + 1u);
  read_message(bytes);
  read_challenge({std::string(bytes)});
  StreamShelf shelf;
  const auto log = shelf.open();
  if (const auto place = shelf.find(bytes); place.log) require(place.log == log && log->after(place.number, 0).messages.empty());
  if (const auto url = parse_url(bytes)) require(parse_url(url->text()).has_value());
  if (const auto value = from_header_value(bytes)) require(from_header_value(header_value(*value)) == *value);
  return 0;
}
