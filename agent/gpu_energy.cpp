#include "agent/gpu_energy.hpp"

#include "base/clock.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>

namespace kontor::agent {

/// The functions of NVML that are used here, declared as its manual has them.
struct Nvml {
  using Device = void*;
  struct Utilization {
    unsigned gpu, memory;  // per cent
  };
  void* library = nullptr;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*error_text)(int) = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*by_index)(unsigned, Device*) = nullptr;
  int (*by_uuid)(const char*, Device*) = nullptr;
  int (*name)(Device, char*, unsigned) = nullptr;
  int (*energy)(Device, unsigned long long*) = nullptr;  // mJ since the driver was loaded
  int (*power)(Device, unsigned*) = nullptr;             // mW
  int (*utilization)(Device, Utilization*) = nullptr;

  ~Nvml() {
    if (shutdown) shutdown();
    if (library) dlclose(library);
  }
};

namespace {

constexpr const char* kLibrary = "libnvidia-ml.so.1";
constexpr unsigned kGpusMax = 64;

Error no_nvml(const std::string& why) { return fail(Errc::not_found, why, "no_nvml"); }

template <class Function>
bool load(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

Result<std::shared_ptr<const Nvml>> load_nvml(const std::string& path) {
  auto nvml = std::make_shared<Nvml>();
  nvml->library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!nvml->library) return no_nvml(path + " cannot be loaded: there is no NVIDIA driver, or it is not where libraries are looked for");
  const char* missing = nullptr;
  const auto need = [&](const char* name, auto& function) {
    if (!load(nvml->library, name, function) && !missing) missing = name;
  };
  int (*shutdown)() = nullptr;  // Only for what was initialised.
  need("nvmlInit_v2", nvml->init);
  need("nvmlShutdown", shutdown);
  need("nvmlErrorString", nvml->error_text);
  need("nvmlDeviceGetCount_v2", nvml->count);
  need("nvmlDeviceGetHandleByIndex_v2", nvml->by_index);
  need("nvmlDeviceGetHandleByUUID", nvml->by_uuid);
  need("nvmlDeviceGetName", nvml->name);
  need("nvmlDeviceGetTotalEnergyConsumption", nvml->energy);
  need("nvmlDeviceGetPowerUsage", nvml->power);
  need("nvmlDeviceGetUtilizationRates", nvml->utilization);
  if (missing) return fail(Errc::unsupported, path + " has no " + missing + "; a newer NVIDIA driver has it", "nvml");
  if (const int code = nvml->init(); code != 0) return fail(Errc::unsupported, std::string("the NVIDIA driver does not answer: ") + nvml->error_text(code), "nvml");
  nvml->shutdown = shutdown;
  return std::shared_ptr<const Nvml>(std::move(nvml));
}

/// Loaded once for as long as the process lives: starting NVML takes a while.
Result<std::shared_ptr<const Nvml>> shared_nvml(const std::string& path) {
  static std::mutex mutex;
  static auto* const loaded = new std::map<std::string, std::shared_ptr<const Nvml>>();
  const std::lock_guard lock(mutex);
  if (const auto found = loaded->find(path); found != loaded->end()) return found->second;
  auto nvml = load_nvml(path);
  if (nvml) (*loaded)[path] = *nvml;
  return nvml;
}

std::string library_path() {
  const char* named = std::getenv("KONTOR_NVML");
  return named && *named ? named : kLibrary;
}

/// Handles of the GPUs that this process may use.
Result<std::vector<Nvml::Device>> visible(const Nvml& nvml) {
  std::vector<Nvml::Device> devices;
  const char* words = std::getenv("CUDA_VISIBLE_DEVICES");
  Nvml::Device device = nullptr;
  if (!words) {
    unsigned count = 0;
    if (const int code = nvml.count(&count); code != 0) return fail(Errc::unsupported, std::string("the NVIDIA driver does not say how many GPUs there are: ") + nvml.error_text(code), "nvml");
    for (unsigned i = 0; i < std::min(count, kGpusMax); ++i)
      if (nvml.by_index(i, &device) == 0) devices.push_back(device);
    return devices;
  }
  const std::string list = words;
  for (std::size_t at = 0; at <= list.size() && devices.size() < kGpusMax;) {
    const auto comma = std::min(list.find(',', at), list.size());
    const std::string word = list.substr(at, comma - at);
    at = comma + 1;
    unsigned index = 0;
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), index);
    const bool number = code == std::errc() && end == word.data() + word.size();
    // As CUDA reads it: what stands behind a word that is no GPU does not count.
    if ((number ? nvml.by_index(index, &device) : nvml.by_uuid(word.c_str(), &device)) != 0) break;
    devices.push_back(device);
  }
  return devices;
}

}  // namespace

Result<std::unique_ptr<GpuMeter>> GpuMeter::open(const std::string& library) {
  auto nvml = shared_nvml(library.empty() ? library_path() : library);
  if (!nvml) return nvml.error();
  auto devices = visible(**nvml);
  if (!devices) return devices.error();
  if (devices->empty()) return no_nvml("there is no GPU that may be used");
  std::unique_ptr<GpuMeter> meter(new GpuMeter(*nvml));
  for (auto* device : *devices) meter->add(device);
  meter->read_ns_ = system_clock().steady_ns();
  return meter;
}

GpuMeter::~GpuMeter() = default;

void GpuMeter::add(void* handle) {
  std::array<char, 96> name{};
  Gpu gpu;
  gpu.name = nvml_->name(handle, name.data(), static_cast<unsigned>(name.size() - 1)) == 0 ? std::string(name.data()) : "GPU";
  Device device;
  device.handle = handle;
  unsigned long long millijoules = 0;
  unsigned milliwatts = 0;
  const int counter = nvml_->energy(handle, &millijoules);
  if (counter == 0) {
    device.has_counter = true;
    device.last_millijoules = millijoules;
    gpu.source = "energy counter";
  } else if (nvml_->power(handle, &milliwatts) == 0) {
    device.has_power = true;
    device.last_watts = milliwatts / 1000.0;
    gpu.source = "power";
    estimate_ = true;
  } else {
    gpu.source = std::string("nothing (") + nvml_->error_text(counter) + ")";
  }
  measures_ = measures_ || device.has_counter || device.has_power;
  gpus_.push_back(std::move(gpu));
  devices_.push_back(device);
}

GpuMeter::Reading GpuMeter::read() {
  const std::int64_t now = system_clock().steady_ns();
  const double seconds = static_cast<double>(now - read_ns_) / 1e9;
  read_ns_ = now;
  for (auto& device : devices_) {
    unsigned long long millijoules = 0;
    unsigned milliwatts = 0;
    if (device.has_counter && nvml_->energy(device.handle, &millijoules) == 0) {
      // A driver that was loaded again begins at zero.
      if (millijoules >= device.last_millijoules) sum_.joules += static_cast<double>(millijoules - device.last_millijoules) / 1000.0;
      device.last_millijoules = millijoules;
    } else if (device.has_power && nvml_->power(device.handle, &milliwatts) == 0) {
      const double watts = milliwatts / 1000.0;
      sum_.joules += (watts + device.last_watts) / 2 * seconds;
      device.last_watts = watts;
    }
    Nvml::Utilization use{};
    if (nvml_->utilization(device.handle, &use) == 0) sum_.busy_seconds += std::min(use.gpu, 100u) / 100.0 * seconds;
  }
  return sum_;
}

}  // namespace kontor::agent
