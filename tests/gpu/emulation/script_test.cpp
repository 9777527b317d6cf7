// tests/gpu/run with stand-ins for the machine: the script's own way through failures, whatever the programs do.

#include "base/json.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

using namespace kontor;
namespace fs = std::filesystem;

namespace {

void program(const fs::path& path, const std::string& body) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << "#!/bin/sh\n" << body;
  fs::permissions(path, fs::perms::owner_all);
}

struct Folder {
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "kontor-gpu-script-XXXXXX").string();
    made = ::mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(made); }
  const fs::path& path() const { return made; }
  fs::path made;
};

/// A folder of programs and a PATH with a driver's program in front.
class Machine {
 public:
  Machine() {
    program(folder_.path() / "bin/nvidia-smi", "case \"$*\" in *compute_cap*) exit 1;; esac\necho 'Stand-in GPU, 999.1'\n");
    program(built() / "tests/gpu_bench", "[ $1 = roofline ] && echo '{\"copy_gb_per_second\": 4000, \"matrix_tflops\": 700}'\n[ $1 = search ] && echo 'no json'\n"
                                         "[ $1 = sampling ] && { echo broken >&2; exit 3; }\nexit 0\n");
    program(built() / "tests/test_cuda", "sleep 600\n");
    program(built() / "kontor", "case \"$*\" in *7b*q8_0*) echo '[{\"test\": \"tg32\"}]';; *) echo '[{\"test\": \"tg32\", \"depth\": 2048, \"sequences\": 1, \"gb_per_second\": 3000,"
                                " \"gflops\": 100, \"device_seconds_per_token\": 0.009, \"tokens_per_second\": {\"median\": 100}}]';; esac\n");
  }
  fs::path built() const { return folder_.path() / "built"; }
  /// Exit status of the script.
  int run(const std::string& options) const {
    const std::string command = "PATH=" + (folder_.path() / "bin").string() + ":$PATH " KONTOR_SOURCE_DIR "/tests/gpu/run --built " + built().string() + " " + options +
                                " " + report_path().string() + " >" + (folder_.path() / "out").string() + " 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  Json report() const {
    std::ifstream in(report_path());
    return Json::parse(in);
  }

 private:
  fs::path report_path() const { return folder_.path() / "report.json"; }
  Folder folder_;
};

Json step(const Json& report, const std::string& name) {
  for (const Json& s : report["steps"])
    if (s["name"] == name) return s;
  return {};
}

}  // namespace

TEST_CASE("parts of the device's script that fail, hang or print nonsense hold no other up", "[script]") {
  if (std::system("python3 -c '' 2>/dev/null") != 0) return test::count_cases("gpu script", 0, 0, 1);
  const Machine machine;
  CHECK(machine.run("--scale 0.02 --only tests,roofline") == 1);
  const Json report = machine.report();
  CHECK(report["gpu"] == "Stand-in GPU");
  CHECK(report["driver"] == "999.1");
  CHECK(step(report, "tests")["error"] == "out of time");
  CHECK(step(report, "roofline")["outcome"] == "passed");
  CHECK(machine.run("--budget 0 --only tests,roofline") == 0);
  CHECK(step(machine.report(), "roofline")["error"] == "no time left");
  fs::remove(machine.built() / "tests/test_cuda");
  CHECK(machine.run("--budget 570 --only tests,roofline,search,sampling,r1-distill-qwen-7b") == 1);
  const Json whole = machine.report();
  CHECK(step(whole, "tests")["outcome"] == "left out");
  CHECK(step(whole, "tests")["error"].get<std::string>().find("test_cuda is not there") != std::string::npos);
  CHECK(step(whole, "roofline")["outcome"] == "passed");
  CHECK(step(whole, "search")["error"].get<std::string>().find("no JSON") != std::string::npos);
  CHECK(step(whole, "sampling")["error"].get<std::string>().find("broken") != std::string::npos);
  CHECK(step(whole, "r1-distill-qwen-7b-q4_k_m")["outcome"] == "passed");
  REQUIRE(whole["problems"].size() == 1);
  CHECK(whole["problems"][0].get<std::string>().find("7b-q8_0: KeyError('tokens_per_second')") != std::string::npos);
  CHECK(whole["benchmarks"].size() >= 4);
  CHECK(whole["figures"][0]["bandwidth_fraction"] == 0.75);
  CHECK(whole["figures"][0]["outside_kernels_fraction"].get<double>() > 0.09);
  test::count_cases("gpu script", 3, 0);
}
