#include "tests/support/catch.hpp"
#include "tools/json_text.hpp"

#include <nlohmann/json.hpp>

#include <string>

using namespace kontor;
using tools::compact_json;

namespace {

std::string library_dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

TEST_CASE("compact text is what the library writes, also of what is not UTF-8", "[base][json]") {
  std::string every;
  for (int byte = 0; byte < 256; ++byte) every += static_cast<char>(byte);
  for (const auto& value : {Json(every), Json("plain"), Json("a\n\"b\"\\\t\r\b\f/"), Json("\x01"), Json("\x7f"), Json("caf\xC3\xA9"), Json("\xff and more than eight bytes"), Json(nullptr), Json(1.5), Json(-3),
                            Json::object(), Json::array(), Json{{"k\n", Json::array({1, Json{{"", Json::array()}}, false})}}}) {
    CHECK(compact_json(value) == library_dump(value));
  }
  for (std::size_t length = 0; length < 20; ++length) {
    for (const char special : {'"', '\\', '\n', '\x1f', '\x80', '\x7f', '!', '#', '[', ']', ' '}) {
      std::string text(20, 'x');
      text[length] = special;
      CHECK(compact_json(Json(text)) == library_dump(Json(text)));
    }
  }
}
