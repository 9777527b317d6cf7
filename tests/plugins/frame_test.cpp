#include "plugins/host/frame.hpp"
#include "tests/support/catch.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

using namespace kontor;
using namespace kontor::plugins;

namespace {

Frame sample(std::uint64_t call, std::size_t bytes) { return {FrameKind::result, call, {std::string(bytes, 'x'), "", "y"}}; }

bool same(const Frame& a, const Frame& b) { return a.kind == b.kind && a.call == b.call && a.fields == b.fields; }

}  // namespace

TEST_CASE("frames are read alike however their bytes arrive", "[frame]") {
  const std::vector<Frame> sent = {sample(1, 0), sample(0xFFFFFFFFFFFFFFFF, 300), {FrameKind::quit, 0, {}}, sample(3, 200'000)};
  std::string bytes;
  for (const auto& frame : sent) bytes += encode(frame).value();
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{4096}, bytes.size()}) {
    FrameParser parser;
    std::vector<Frame> got;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      parser.feed(std::string_view(bytes).substr(at, piece));
      for (auto frame = parser.next().value(); frame; frame = parser.next().value()) got.push_back(std::move(*frame));
    }
    REQUIRE(got.size() == sent.size());
    for (std::size_t i = 0; i < sent.size(); ++i) CHECK(same(got[i], sent[i]));
    CHECK(parser.empty());
  }
}

TEST_CASE("what is no frame is refused", "[frame]") {
  const std::string good = encode(sample(1, 3)).value();
  const auto refused = [](const std::string& bytes) {
    FrameParser parser;
    parser.feed(bytes);
    return parser.next().has_error();
  };
  CHECK_FALSE(refused(good));
  CHECK(refused(std::string("\x01\x00\x00\x00", 4)));            // shorter than a frame can be
  CHECK(refused(std::string("\xff\xff\xff\xff", 4)));            // longer than one may be; refused before the bytes come
  for (const std::size_t at : {std::size_t{13}, std::size_t{14}, std::size_t{21}}) {  // fields, size of the first, of the second
    std::string bad = good;
    bad[at] = '\x7f';
    CHECK(refused(bad));
  }
  std::string longer = good;  // bytes behind the last field
  longer[0] = static_cast<char>(longer[0] + 1);
  CHECK(refused(longer + "z"));
}

TEST_CASE("a frame longer than the bound is not made", "[frame]") {
  CHECK(encode({FrameKind::result, 1, {std::string(kFrameBytesMax, 'x')}}).error().kind == "frame_size");
  CHECK(encode({FrameKind::result, 1, std::vector<std::string>(17)}).has_error());
}

TEST_CASE("a reader takes what is there and waits for the rest", "[frame]") {
  int pair[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  FrameReader reader(pair[0]);
  CHECK_FALSE(reader.receive().value());  // nothing there, and no waiting
  const auto frame = sample(5, 1'000'000);
  std::thread writer([&] { (void)send_bytes(pair[1], encode(frame).value()); ::close(pair[1]); });
  CHECK(same(reader.next().value(), frame));
  CHECK(reader.next().error().kind == "closed");
  writer.join();
  ::close(pair[0]);
}
