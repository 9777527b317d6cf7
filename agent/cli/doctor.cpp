// `kontor doctor`: what this machine offers, what is missing, and how to get it; with an agent file also whether the
// servers of its models answer.

#include "agent/assembly.hpp"
#include "agent/cli/command.hpp"
#include "agent/cli/run_support.hpp"
#include "agent/cli/shared_options.hpp"
#include "agent/endpoint/endpoint.hpp"
#include "agent/energy_meter.hpp"
#include "base/json.hpp"
#include "inference/backend.hpp"
#include "inference/cpu/bandwidth.hpp"
#include "inference/cpu/cores.hpp"
#include "inference/cpu/kernels.hpp"
#include "plugins/host/process.hpp"
#include "tools/builtin/optional_parts.hpp"

#include <nlohmann/json.hpp>

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace kontor::agent::cli {
namespace {

struct Finding {
  std::string area;
  bool ok;
  std::string text;
  std::string fix;  ///< Empty when nothing is to be done.
};

std::string first_value(const char* path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const auto colon = line.find(':');
    const auto start = colon == std::string::npos ? std::string::npos : line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

Finding cpu() {
  const std::string name = first_value("/proc/cpuinfo", "model name");
  const std::string flags = " " + first_value("/proc/cpuinfo", "flags") + " ";
  std::string features;
  for (const char* feature : {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8"}) {
    if (flags.find(std::string(" ") + feature + " ") != std::string::npos) features += (features.empty() ? "" : " ") + std::string(feature);
  }
  utsname machine{};
  uname(&machine);
  std::string text = std::to_string(std::thread::hardware_concurrency()) + " cores, " +
                     (name.empty() ? std::string(machine.machine) : name) + (features.empty() ? "" : ", " + features) + "; kernels " + std::string(inference::cpu::best_kernels().name);
  return {"cpu", true, std::move(text), {}};
}

Finding memory() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  const std::string available = first_value("/proc/meminfo", "MemAvailable");
  return {"memory", true,
          std::to_string(static_cast<long long>(pages) * page >> 20) + " MiB, " +
              std::to_string(std::strtoll(available.c_str(), nullptr, 10) >> 10) + " MiB available", {}};
}

/// Decoding reads every weight for each token: this over the bytes of a model is the most tokens a second.
Finding bandwidth() {
  const int cores = inference::cpu::available_cores();
  std::string text;
  for (const int threads : {1, cores}) {
    const double rate = inference::cpu::measure_read_bandwidth(threads);
    if (rate == 0) return {"bandwidth", false, "no memory to measure it with", {}};
    char part[64];
    std::snprintf(part, sizeof part, "%s%.1f GB/s with %d %s", text.empty() ? "reads " : ", ", rate / 1e9, threads, threads == 1 ? "thread" : "threads");
    text += part;
    if (cores == 1) break;
  }
  return {"bandwidth", true, std::move(text), {}};
}

Finding gpu() {
  if (const int devices = inference::cuda_device_count(); devices > 0) {
    return {"gpu", true, std::to_string(devices) + (devices == 1 ? " GPU" : " GPUs") + " that models can run on", {}};
  }
  if (access("/proc/driver/nvidia/version", R_OK) == 0) {
    return {"gpu", false, "an NVIDIA driver is loaded, but this build has no use of it: models run on the CPU", "build with the CUDA Toolkit (docs/gpu.md)"};
  }
  return {"gpu", false, "no NVIDIA driver: models run on the CPU", {}};
}

Finding energy() {
  const std::string counter = "/sys/class/powercap/intel-rapl:0/energy_uj";
  const EnergyMeter meter;
  if (const std::size_t packages = meter.packages(); packages > 0) {
    return {"energy", true, "RAPL counters of " + std::to_string(packages) + (packages == 1 ? " package" : " packages") + " are readable: joules of the processor are measured", {}};
  }
  if (access(counter.c_str(), F_OK) == 0) return {"energy", false, "RAPL counters exist but only root may read them: joules of the processor are estimated", "sudo chmod a+r " + counter};
  return {"energy", false, "no energy counters (virtual machine?): joules of the processor are estimated and marked so", {}};
}

Finding gpu_energy() {
  const EnergyMeter meter;
  const GpuMeter* gpus = meter.gpus();
  if (!gpus) return {"gpu energy", false, "no joules of GPUs: " + meter.gpu_problem().message, {}};
  std::string text;
  for (const auto& gpu : gpus->gpus()) text += (text.empty() ? "" : ", ") + gpu.name + " by its " + gpu.source;
  return {"gpu energy", true, "NVML: " + text + (gpus->is_estimate() ? " (power is read now and then: an estimate, marked so)" : ""), {}};
}

/// What plugins and programs are confined with, as the plugins' host process finds it.
std::vector<Finding> sandbox() {
  const auto offer = plugins::sandbox_offer();
  if (!offer) return {{"sandbox", false, "plugins in processes of their own cannot be started: " + offer.error().message, "install kontor-plugin-host beside kontor"}};
  const bool all = offer->namespaces == plugins::Namespaces::all;
  return {offer->landlock > 0 ? Finding{"landlock", true, "ABI " + std::to_string(offer->landlock), {}}
                              : Finding{"landlock", false, "not offered by this kernel: plugins in processes of their own are refused",
                                        "boot with \"landlock\" among the lsm= modules (Linux 5.13 or later), or accept weaker walls with KONTOR_PLUGIN_SANDBOX=partial"},
          {"seccomp", offer->seccomp, offer->seccomp ? "available" : "not offered by this kernel", {}},
          {"namespaces", all, all ? "plugins get mounts, network, IPC and processes of their own"
                                  : offer->namespaces == plugins::Namespaces::shared_processes ? "plugins get mounts, network and IPC of their own, not processes: " + offer->missing
                                                                                               : "plugins get none of their own, Landlock and seccomp hold them: " + offer->missing,
           all ? "" : "allow user namespaces (sysctl user.max_user_namespaces; kernel.apparmor_restrict_unprivileged_userns=0), or, in a container, an unmasked /proc"}};
}

Finding huge_pages() {
  std::ifstream in("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string mode;
  std::getline(in, mode);
  const bool ok = mode.find("[always]") != std::string::npos || mode.find("[madvise]") != std::string::npos;
  return {"huge pages", ok, mode.empty() ? "unknown" : "transparent huge pages: " + mode,
          ok ? "" : "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"};
}

/// What tools load only when they need it.
std::vector<Finding> libraries() {
  std::vector<Finding> findings;
  for (const auto& part : tools::optional_parts()) {
    const std::string packages = "apt-get install " + part.package;
    findings.push_back(part.found ? Finding{"library", true, part.name + ": " + part.purpose, {}} : Finding{"library", false, "no " + part.name + ", which " + part.purpose + " need", packages});
  }
  return findings;
}

Finding endpoint(ModelSpec model, const Spec& spec, const std::map<std::string, std::string>& secrets, const tools::Egress& egress) {
  if (auto given = give_key(model, spec, secrets); !given) return {"endpoint", false, given.error().message, "set the secret"};
  model.egress = egress.named("models." + model.name);
  const auto opened = open_endpoint_model(model);
  if (!opened) return {"endpoint", false, "model '" + model.name + "': " + opened.error().message, "see docs/endpoints.md"};
  const auto& info = (*opened)->info();
  return {"endpoint", true, "model '" + model.name + "' at " + model.endpoint + ": " + model.endpoint_model + ", prompts of " + info.dialect +
                                (info.context > 0 ? ", context of " + std::to_string(info.context) : std::string()), {}};
}

struct Options {
  std::string file;
  bool airgap = false, json = false;
};

int report(const Options& options) {
  std::vector<Finding> findings;
  if (!options.file.empty()) {
    const auto file = find_agent_file(options.file);
    if (!file) return report_error(file.error());
    const auto spec = read_spec(*file);
    if (!spec) return kUsage;
    auto secrets = load_secrets(*spec);
    if (!secrets) return report_error(secrets.error());
    const auto egress = build_egress(spec->policy, options.airgap);
    if (!egress) return report_error(egress.error());
    for (const auto& model : spec->models) {
      if (!model.endpoint.empty()) findings.push_back(endpoint(model, *spec, *secrets, *egress));
    }
  }
  for (Finding (*const find)() : {cpu, memory, bandwidth, gpu, huge_pages, energy, gpu_energy}) findings.push_back(find());
  for (auto& finding : libraries()) findings.push_back(std::move(finding));
  for (auto& finding : sandbox()) findings.push_back(std::move(finding));
  const bool json = options.json;
  if (json) {
    Json document = Json::object();
    document["version"] = KONTOR_VERSION;
    document["findings"] = Json::array();
    for (const auto& finding : findings) {
      document["findings"].push_back(
          Json{{"area", finding.area}, {"ok", finding.ok}, {"text", finding.text}, {"fix", finding.fix}});
    }
    print_json(document.dump());
    return kDone;
  }
  std::printf("kontor %s\n", KONTOR_VERSION);
  for (const auto& finding : findings) {
    std::printf("  %s %-11s %s\n", finding.ok ? "+" : "-", finding.area.c_str(), finding.text.c_str());
    if (!finding.fix.empty()) std::printf("    %-11s fix: %s\n", "", finding.fix.c_str());
  }
  return kDone;
}

const Verb verb{"doctor", "what this machine offers: devices, CPU features, energy counters, sandbox",
                [](CLI::App& app) -> Action {
                  auto options = std::make_shared<Options>();
                  app.add_option("FILE", options->file, "an agent file: do the servers of its models answer?");
                  add_airgap_flag(app, options->airgap);
                  app.add_flag("--json", options->json, "print one JSON document");
                  return [options] { return report(*options); };
                }};

}  // namespace
}  // namespace kontor::agent::cli
