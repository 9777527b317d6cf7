// Joules of GPUs: a library with the driver's functions stands in for it.

#include "agent/energy_meter.hpp"
#include "agent/ledger.hpp"
#include "tests/agent/bank_run.hpp"

#include <stdlib.h>

#include <chrono>
#include <thread>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

const std::string kFake = std::string(KONTOR_BINARY_DIR) + "/tests/libfake_nvml.so";

/// A variable of the environment for as long as it lives.
struct Variable {
  Variable(const char* name, const std::string& value) : name(name) { ::setenv(name, value.c_str(), 1); }
  ~Variable() { ::unsetenv(name); }
  const char* name;
};

std::string kind_of(const std::string& library) {
  const auto meter = GpuMeter::open(library);
  return meter ? "" : meter.error().kind;
}

}  // namespace

TEST_CASE("the energy counters of GPUs are read, and add up", "[agent][energy]") {
  const Variable count("FAKE_NVML_COUNT", "2");
  Variable energy("FAKE_NVML_ENERGY", "1000");
  auto opened = GpuMeter::open(kFake);
  REQUIRE(opened.has_value());
  GpuMeter& meter = **opened;
  REQUIRE(meter.gpus().size() == 2);
  CHECK(meter.gpus()[1].name == "Test GPU 2");
  CHECK(meter.gpus()[1].source == "energy counter");
  CHECK(meter.measures());
  CHECK(!meter.is_estimate());
  CHECK(meter.read().joules == Approx(0));
  ::setenv("FAKE_NVML_ENERGY", "3000", 1);  // The second has twice as much on its counter.
  CHECK(meter.read().joules == Approx(6));
  ::setenv("FAKE_NVML_ENERGY", "-15", 1);   // Lost meanwhile.
  CHECK(meter.read().joules == Approx(6));
  ::setenv("FAKE_NVML_ENERGY", "500", 1);   // Begun again.
  CHECK(meter.read().joules == Approx(6));
  ::setenv("FAKE_NVML_ENERGY", "1500", 1);
  CHECK(meter.read().joules == Approx(9));
}

TEST_CASE("where a GPU has no counter, its power is read, and that is an estimate", "[agent][energy]") {
  const Variable energy("FAKE_NVML_ENERGY", "-3"), power("FAKE_NVML_POWER", "200000"), busy("FAKE_NVML_BUSY", "50");
  auto opened = GpuMeter::open(kFake);
  REQUIRE(opened.has_value());
  CHECK((*opened)->is_estimate());
  CHECK((*opened)->gpus()[0].source == "power");
  const auto began = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const auto reading = (*opened)->read();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  CHECK(reading.joules >= 200 * 0.05);
  CHECK(reading.joules <= 200 * (seconds + 1));
  CHECK(reading.busy_seconds >= 0.5 * 0.05);
  CHECK(reading.busy_seconds <= 0.5 * (seconds + 1));
  CHECK(reading.joules == Approx(reading.busy_seconds * 400));
}

TEST_CASE("what cannot be read is said, and costs nothing", "[agent][energy]") {
  CHECK(kind_of("no-such-library.so") == "no_nvml");
  CHECK(kind_of(std::string(KONTOR_BINARY_DIR) + "/tests/libfake_nvml_old.so") == "nvml");
  CHECK(GpuMeter::open(std::string(KONTOR_BINARY_DIR) + "/tests/libfake_nvml_old.so").error().message.find("nvmlDeviceGetTotalEnergyConsumption") != std::string::npos);
  {
    const Variable count("FAKE_NVML_COUNT", "0");
    CHECK(kind_of(kFake) == "no_nvml");
  }
  {
    const Variable count("FAKE_NVML_COUNT", "-999");
    CHECK(kind_of(kFake) == "nvml");
  }
  {
    // A library that was never asked before: what works is kept for the life of the process.
    Folder folder;
    const std::string other = folder.path + "/libother.so";
    std::filesystem::copy_file(kFake, other);
    {
      const Variable init("FAKE_NVML_INIT", "9");
      const auto meter = GpuMeter::open(other);
      REQUIRE(!meter.has_value());
      CHECK(meter.error().message.find("Driver Not Loaded") != std::string::npos);
    }
    CHECK(kind_of(other).empty());
  }
  const Variable energy("FAKE_NVML_ENERGY", "-3");
  auto opened = GpuMeter::open(kFake);
  REQUIRE(opened.has_value());
  CHECK(!(*opened)->measures());
  CHECK((*opened)->gpus()[0].source == "nothing (Not Supported)");
  CHECK((*opened)->read().joules == 0);
  EnergyMeter meter({"/nothing", 8.0, kFake});
  CHECK(meter.gpus() == nullptr);
  CHECK(!meter.gpu_problem().message.empty());
}

TEST_CASE("only GPUs that the process may use are counted", "[agent][energy]") {
  const Variable count("FAKE_NVML_COUNT", "3");
  const auto names = [](const char* visible) {
    const Variable variable("CUDA_VISIBLE_DEVICES", visible);
    std::string out;
    if (const auto meter = GpuMeter::open(kFake))
      for (const auto& gpu : (*meter)->gpus()) out += gpu.name + ";";
    return out;
  };
  CHECK(names("0,2") == "Test GPU 1;Test GPU 3;");
  CHECK(names("GPU-second") == "Test GPU 2;");
  CHECK(names("1,-1,2") == "Test GPU 2;");
  CHECK(names("") == "");
  CHECK(names("9") == "");
}

TEST_CASE("a run books the joules of its GPUs, step by step", "[agent][energy]") {
  const Variable library("KONTOR_NVML", kFake), busy("FAKE_NVML_BUSY", "100");
  Variable energy("FAKE_NVML_ENERGY", "1000");
  Setup setup;
  setup.yaml = std::string(kHead) + "workflow: [{id: look, tool: bank.balance, with: {amount: 1}}]\n";
  setup.bank.during_call = [] { ::setenv("FAKE_NVML_ENERGY", "6000", 1); };
  const RunReport report = setup.start();
  REQUIRE(report.status == "done");
  CHECK(report.ledger.joules_gpu == Approx(5));
  CHECK(report.ledger.joules >= 5);
  CHECK(report.ledger.gpu_busy_seconds > 0);
  double outcome = 0;
  const auto events = setup.journal()->events(report.id);
  for (const auto& event : *events) {
    if (event.type == "call_outcome") outcome = ledger_from_json(event.data.at("spent")).joules_gpu;
  }
  CHECK(outcome == Approx(5));
  // As it goes into JSON and back.
  CHECK(ledger_from_json(to_json(report.ledger)).joules_gpu == Approx(5));
  CHECK(!to_json(Ledger()).contains("joules_gpu"));
}
