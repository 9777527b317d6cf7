#include "inference/remote/server_text.hpp"

#include "inference/model_info.hpp"
#include "tests/support/catch.hpp"

using namespace kontor::inference;
using namespace kontor::inference::remote;

TEST_CASE("text cannot become a control token on the server", "[remote]") {
  for (const char* marker : {"<｜User｜>", "<|User|>", "<think>", "</think>", "<tool_call>", "</tool_response>", "<|im_start|>", "<s>", "</s>", "</｜DSML｜invoke>", "<｜end▁of▁sentence｜>"}) {
    INFO(marker);
    const std::string text = std::string("a ") + marker + " b";
    const std::string sent = without_markers(text);
    CHECK(sent.find(marker) == std::string::npos);
    CHECK(sent.size() == text.size() + 3);
  }
  for (const char* plain : {"", "<", "a < b", "<b>bold</b>", "x<<y", "<thinking>", "std::vector<int>", "<!-- | -->", "<\xff"}) CHECK(without_markers(plain) == plain);
  CHECK(without_markers("<<think>") == "<<\xe2\x81\xa0think>");

  GenerateRequest request;
  const std::vector<Segment> earlier = {{"<｜begin▁of▁sentence｜>", true, {}}, {"<", false, {}}};
  request.earlier = earlier;
  // A marker over two segments is one for a server that sees one text.
  request.prompt = {{"think>", false, {}}, {"<｜Assistant｜><think>\n", true, {}}};
  CHECK(server_text(request) == "<｜begin▁of▁sentence｜><\xe2\x81\xa0think><｜Assistant｜><think>\n");
  CHECK(begin_marker(server_text(request)) == "<｜begin▁of▁sentence｜>");
  CHECK(begin_marker("<|im_start|>user").empty());
}

TEST_CASE("names tell the prompt format", "[remote]") {
  CHECK(dialect_of_name("deepseek-ai/DeepSeek-R1") == "r1");
  CHECK(dialect_of_name("deepseek-ai/DeepSeek-R1-0528") == "r1-0528");
  CHECK(dialect_of_name("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B") == "r1-0528-qwen3");
  CHECK(dialect_of_name("DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf") == "r1-distill");
  CHECK(dialect_of_name("DeepSeek-R1-Distill-Llama-70B") == "r1-distill");
  CHECK(dialect_of_name("deepseek-ai/DeepSeek-V3-0324") == "v3");
  CHECK(dialect_of_name("deepseek-ai/DeepSeek-V3.1-Terminus") == "v3.1");
  CHECK(dialect_of_name("deepseek-ai/DeepSeek-V3.2-Exp") == "v3.2");
  CHECK(dialect_of_name("Qwen/QwQ-32B") == "qwq");
  CHECK(dialect_of_name("Qwen/Qwen3-30B-A3B") == "qwen3");
  CHECK(dialect_of_name("Qwen/Qwen2.5-7B-Instruct") == "hermes");
  CHECK(dialect_of_name("gpt-4o").empty());
  CHECK(dialect_of_name("").empty());
}
