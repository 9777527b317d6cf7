#include "inference/cpu/cores.hpp"
#include "tests/support/catch.hpp"

#include <filesystem>
#include <fstream>

using kontor::inference::cpu::available_cores;
namespace fs = std::filesystem;

namespace {

/// Files of /proc and /sys in a folder of their own.
struct FakeRoot {
  explicit FakeRoot(const std::string& name) : path(fs::path(KONTOR_BINARY_DIR) / "tests" / name) { fs::remove_all(path); }
  ~FakeRoot() { fs::remove_all(path); }
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((path / file).parent_path());
    std::ofstream(path / file) << text << "\n";
  }
  std::string root() const { return path.string() + "/"; }
  fs::path path;
};

}  // namespace

TEST_CASE("two threads of one core count once") {
  FakeRoot fake("cores_siblings");
  for (int i = 0; i < 1024; ++i) fake.write("sys/devices/system/cpu/cpu" + std::to_string(i) + "/topology/thread_siblings_list", "0-1023");
  CHECK(available_cores(fake.root()) == 1);
}

TEST_CASE("the quota of a control group or of one above it limits the number of threads") {
  FakeRoot fake("cores_quota");
  fake.write("proc/self/cgroup", "0::/outer/inner");
  fake.write("sys/fs/cgroup/outer/inner/cpu.max", "max 100000");
  const int without = available_cores(fake.root());
  CHECK(without >= 1);
  fake.write("sys/fs/cgroup/outer/cpu.max", "50000 100000");
  CHECK(available_cores(fake.root()) == 1);
  fake.write("sys/fs/cgroup/outer/cpu.max", "nonsense");
  CHECK(available_cores(fake.root()) == without);
}
