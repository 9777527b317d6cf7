#include "base/stream_reader.hpp"
#include "tests/support/catch.hpp"

#include <string>
#include <vector>

using namespace kontor;

TEST_CASE("lines are the same however the bytes are cut", "[base]") {
  const std::string bytes = "one\n\r\ntwo\r\n\nthree\nfour";
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    LineReader reader(100);
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < bytes.size(); i += step) {
      REQUIRE(reader.feed(std::string_view(bytes).substr(i, step), [&](std::string_view line) { return lines.emplace_back(line), true; }));
    }
    CHECK(lines == std::vector<std::string>{"one", "two", "three"});
    CHECK(reader.pending_bytes() == 4);
  }
  LineReader small(3);
  CHECK(!small.feed("abcd", [](std::string_view) { return true; }));
}

TEST_CASE("events are the same however the bytes are cut", "[base]") {
  const std::string bytes = "\xEF\xBB\xBF: hi\r\nid: 7\ndata: a\r\ndata:b\n\nevent: x\nretry: 50\ndata\n\nid: 9\n\r\n:\n\ndata: cut";
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    SseReader reader(100);
    std::vector<SseEvent> events;
    for (std::size_t i = 0; i < bytes.size(); i += step) {
      REQUIRE(reader.feed(std::string_view(bytes).substr(i, step), [&](SseEvent event) { return events.push_back(std::move(event)), true; }));
    }
    REQUIRE(events.size() == 3);
    CHECK(events[0].data == "a\nb");
    CHECK(events[0].id == "7");
    CHECK(events[0].type == "message");
    CHECK(events[1].type == "x");
    CHECK(events[2].id == "9");
    CHECK(reader.retry_ms() == 50);
  }
  SseReader small(8);
  CHECK(!small.feed("data: 123456789\n", [](SseEvent) { return true; }));
}
