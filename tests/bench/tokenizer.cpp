// bench_tokenizer TOKENIZER [-r RUNS] TEXT_FILE...: loads a tokenizer (GGUF, tokenizer.json or folder) and encodes each
// file as a whole. Prints JSON: processor seconds of the load, and for each file bytes, tokens and the median of the
// processor seconds. Files named @letter, @spaces, @emoji and @random are made up: 1 MB each of one letter, of spaces, of
// emoji, and of random letters without a place to cut.

#include "inference/tokenizer.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace {

using kontor::Json;
using kontor::inference::Tokenizer;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::string read_text(const std::string& name) {
  constexpr std::size_t kBytes = 1'000'000;
  if (name == "@letter") return std::string(kBytes, 'a');
  if (name == "@spaces") return std::string(kBytes, ' ');
  std::string out;
  if (name == "@emoji") {
    while (out.size() < kBytes) out += "\xf0\x9f\x98\x80";
    return out;
  }
  if (name == "@random") {
    std::mt19937 random(1);
    while (out.size() < kBytes) out.push_back(static_cast<char>('a' + random() % 26));
    return out;
  }
  std::ifstream in(name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

kontor::Result<Tokenizer> load(const std::string& path) {
  if (!path.ends_with(".gguf")) return Tokenizer::from_json_file(path);
  const auto file = kontor::inference::WeightFile::open(path);
  if (!file) return file.error();
  return Tokenizer::create(*file);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  int runs = 5;
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "-r" && i + 1 < argc) runs = std::stoi(argv[++i]);
    else names.emplace_back(argv[i]);
  }
  if (names.empty()) return 2;
  std::vector<double> loads;
  for (int i = 0; i < std::min(runs, 3); ++i) {
    const double start = cpu_seconds();
    if (const auto again = load(names[0]); !again) {
      std::cerr << again.error() << "\n";
      return 1;
    }
    loads.push_back(cpu_seconds() - start);
  }
  const Tokenizer tokenizer = load(names[0]).value();
  Json out{{"load_seconds", median(loads)}, {"texts", Json::object()}};
  for (std::size_t i = 1; i < names.size(); ++i) {
    const std::string text = read_text(names[i]);
    std::vector<double> seconds;
    std::size_t tokens = 0;
    for (int run = 0; run < runs; ++run) {
      const double start = cpu_seconds();
      tokens = tokenizer.encode(text, true).size();
      seconds.push_back(cpu_seconds() - start);
    }
    const double middle = median(seconds);
    out["texts"][names[i]] = {{"bytes", text.size()}, {"tokens", tokens}, {"seconds", middle}, {"mb_per_second", static_cast<double>(text.size()) / 1e6 / middle}};
  }
  std::cout << out.dump() << "\n";
  return 0;
}
