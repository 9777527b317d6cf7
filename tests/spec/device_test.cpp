// Where a model runs: words, or GPUs by number.

#include "agent/spec/spec.hpp"

#include "tests/support/catch.hpp"

namespace {

/// Kind of the first diagnostic, or the model's device.
std::string device(const std::string& line) {
  const std::string text = "kontor: 1\nname: x\nmodels:\n  m:\n    path: m.gguf\n    " + line + "\nagents:\n  a: {model: m, instruction: Work.}\n";
  const auto checked = kontor::agent::check_text(text, "x.yaml", KONTOR_SOURCE_DIR);
  return checked.spec ? checked.spec->models.front().device : checked.diagnostics.front().kind;
}

}  // namespace

TEST_CASE("a model's device is a word or GPUs by number", "[check]") {
  CHECK(device("seed: 1") == "auto");
  CHECK(device("device: cpu") == "cpu");
  CHECK(device("device: cuda") == "cuda");
  CHECK(device("device: cuda:1") == "cuda:1");
  CHECK(device("device: cuda:0,1") == "cuda:0,1");
  CHECK(device("device: 'cuda:1,0,2'") == "cuda:1,0,2");
  CHECK(device("device: gpu") == "unknown-value");
  CHECK(device("device: cuda:0,0") == "unknown-value");
  CHECK(device("device: 'cuda:'") == "unknown-value");
  CHECK(device("device: 0") == "wrong-type");
}
