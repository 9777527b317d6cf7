// Tiny models with reference logits (float64, independent implementation): does the decoder compute what the file says?

#include "inference/cpu/kernels.hpp"
#include "inference/golden.hpp"

#include "base/json.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>

namespace kontor::inference {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// Values of a float32 .npy file of version 1.
std::vector<float> read_npy(const std::string& path) {
  const std::string bytes = read_file(path);
  if (bytes.size() < 10) return {};
  const std::size_t start = 10 + static_cast<unsigned char>(bytes[8]) + 256u * static_cast<unsigned char>(bytes[9]);
  std::vector<float> values((bytes.size() - start) / sizeof(float));
  std::memcpy(values.data(), bytes.data() + start, values.size() * sizeof(float));
  return values;
}

struct Distance {
  double nrmse = 0;    ///< Root mean square error over the standard deviation of the reference; the worst row.
  double max_abs = 0;
};

Distance distance(const std::vector<std::vector<float>>& rows, const std::vector<float>& reference) {
  Distance worst;
  const float* expected = reference.data();
  for (const auto& row : rows) {
    double mean = 0, variance = 0, error = 0;
    for (std::size_t i = 0; i < row.size(); ++i) mean += double{expected[i]} / static_cast<double>(row.size());
    for (std::size_t i = 0; i < row.size(); ++i) {
      const double d = double{row[i]} - double{expected[i]};
      variance += (double{expected[i]} - mean) * (double{expected[i]} - mean);
      error += d * d;
      worst.max_abs = std::isfinite(d) ? std::max(worst.max_abs, std::fabs(d)) : HUGE_VAL;
    }
    worst.nrmse = std::max(worst.nrmse, std::sqrt(error / variance));
    expected += row.size();
  }
  return worst;
}

std::vector<TokenId> ids_of(const Json& json) { return json.get<std::vector<TokenId>>(); }

GoldenInput input_of(const Json& model) {
  GoldenInput input;
  input.one = ids_of(model.at("sequences").at("seq1"));
  input.some = ids_of(model.at("sequences").at("seq17"));
  input.many = ids_of(model.at("sequences").at("seq130"));
  if (!model.contains("greedy")) return input;
  input.chunks = model.at("chunks").get<std::vector<std::int64_t>>();
  input.positions = model.at("rows").at("seq130_at").at("positions").get<std::vector<std::int64_t>>();
  return input;
}

/// Why the model's results are not within the tier, or "".
std::string judge(const GoldenOutput& output, const Json& model, const std::string& folder, const std::string& tier) {
  const Json& tolerance = model.at("tolerance").at(tier);
  const auto reference = read_npy(folder + model.at("reference").get<std::string>());
  if (reference.size() != output.rows.size() * output.rows.front().size()) return "reference has another shape";
  const Distance d = distance(output.rows, reference);
  std::ostringstream why;
  if (!(d.nrmse <= tolerance.at("nrmse").get<double>()) || !(d.max_abs <= tolerance.at("max_abs").get<double>()))
    why << "nrmse " << d.nrmse << " max " << d.max_abs << "; ";
  if (!model.contains("greedy")) return why.str();
  const auto expected = ids_of(model.at("greedy").at("ids"));
  const auto margins = model.at("greedy").at("margins").get<std::vector<double>>();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (margins[i] < 2 * tolerance.at("max_abs").get<double>()) break;
    if (output.greedy.at(i) != expected[i]) {
      why << "greedy token " << i << " is " << output.greedy[i] << ", not " << expected[i] << "; ";
      break;
    }
  }
  for (const auto& difference : output.differences) why << difference << " has other bits; ";
  return why.str();
}

void run_manifest(const std::string& name, const BackendOptions& options, bool exact) {
  const std::string shared = test::shared_dir();
  const std::string folder = shared + "/golden/";
  int passed = 0, failed = 0, skipped = 0;
  const auto manifest = shared.empty() ? Result<Json>(Json::object()) : parse_json(read_file(folder + "manifest.json"));
  REQUIRE(manifest.has_value());
  if (!manifest->contains("models")) return test::count_cases(name, 0, 0, 1);
  for (const Json& model : manifest->at("models")) {
    const auto id = model.at("id").get<std::string>();
    const std::string tier = exact ? "exact" : model.at("tolerance").contains("int8") ? "int8" : "half";
    const auto file = WeightFile::open(folder + model.at("file").get<std::string>());
    REQUIRE(file.has_value());
    auto backend = open_backend(*file, options);
    std::string why;
    if (!backend) {
      const Error error = backend.error();
      if (error.code == Errc::unsupported) {  // A block format that cannot be expanded yet; named, not hidden.
        std::cout << name << " " << id << " skipped: " << error.message << "\n";
        ++skipped;
        continue;
      }
      why = error.message;
    } else {
      const auto output = model.contains("greedy") ? run_golden(**backend, input_of(model))
                                                   : run_golden_embedding(**backend, *file, input_of(model));
      why = output ? judge(*output, model, folder, tier) : output.error().message;
    }
    why.empty() ? ++passed : ++failed;
    if (!why.empty()) std::cout << name << " " << id << ": " << why << "\n";
  }
  test::count_cases(name, passed, failed, skipped);
  REQUIRE(failed == 0);
}

}  // namespace

TEST_CASE("float32 arithmetic on expanded weights gives the reference logits", "[golden]") {
  run_manifest("golden-f32", {"cpu", 1, Compute::f32, ""}, true);
}

TEST_CASE("the reference mode holds with the scalar kernels and several threads", "[golden]") {
  run_manifest("golden-f32-scalar", {"cpu", 3, Compute::f32, "scalar"}, true);
}

TEST_CASE("every kernel set computes native weights within the tolerance of its tier", "[golden]") {
  for (const cpu::KernelSet* set : cpu::available_kernels())
    run_manifest("golden-native-" + std::string(set->name), {"cpu", 2, Compute::native, std::string(set->name)}, false);
}

}  // namespace kontor::inference
