#include "inference/device_choice.hpp"
#include "tests/support/catch.hpp"

#include <regex>
#include <string>
#include <vector>

using namespace kontor::inference;

TEST_CASE("a device is read as people write it, and by the pattern alike", "[device]") {
  using Kind = DeviceChoice::Kind;
  struct Good {
    const char* text;
    Kind kind;
    std::vector<int> numbers;
  };
  const std::regex pattern{std::string(kDevicePattern)};
  for (const Good& good : {Good{"auto", Kind::automatic, {}}, {"cpu", Kind::cpu, {}}, {"cuda", Kind::cuda, {}}, {"cuda:0", Kind::cuda, {0}},
                           {"cuda:1,0", Kind::cuda, {1, 0}}, {"cuda:10,2,7", Kind::cuda, {10, 2, 7}},
                           {"cuda:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", Kind::cuda, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}}) {
    INFO(good.text);
    const auto choice = parse_device(good.text);
    REQUIRE(choice.has_value());
    CHECK(choice->kind == good.kind);
    CHECK(choice->numbers == good.numbers);
    CHECK(std::regex_match(good.text, pattern));
  }
  CHECK(parse_device("").value().kind == Kind::automatic);
  for (const char* bad : {"gpu", "CUDA", "cuda:", "cuda:,", "cuda:0,", "cuda:,0", "cuda:-1", "cuda:+1", "cuda: 0", "cuda:0 ", "cuda:1234", "cuda:99999999999999999999",
                          "cuda:0;1", "cuda:a", "cuda0", "cpu:0", "auto,", "cuda:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"}) {
    INFO(bad);
    const auto choice = parse_device(bad);
    REQUIRE(!choice);
    CHECK(choice.error().kind == "bad_device");
    CHECK(choice.error().message.find("known are auto, cpu, cuda") != std::string::npos);
    CHECK(!std::regex_match(bad, pattern));
  }
  const auto twice = parse_device("cuda:0,1,0");
  REQUIRE(!twice);
  CHECK(twice.error().message.find("twice") != std::string::npos);
}
