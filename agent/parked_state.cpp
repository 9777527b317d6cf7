#include "agent/parked_state.hpp"

#include "base/hash.hpp"

#include <filesystem>

namespace kontor::agent {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kHashCharacters = 12;

}  // namespace

std::string parked_state_file(const std::string& folder, const std::string& run, const std::string& model) {
  return folder + "/kv/" + run + "." + sha256_hex(model).substr(0, kHashCharacters) + ".kv";
}

Result<void> make_parked_state_folder(const std::string& folder) {
  std::error_code code;
  fs::create_directories(folder + "/kv", code);
  if (!code) fs::permissions(folder + "/kv", fs::perms::owner_all, code);
  if (code) return fail(Errc::io, "cannot create " + folder + "/kv: " + code.message(), "parked_state");
  return {};
}

void remove_parked_state(const std::string& folder, const std::string& run) {
  std::error_code code;
  for (fs::directory_iterator file(folder + "/kv", code), end; !code && file != end; file.increment(code)) {
    if (file->path().filename().string().rfind(run + ".", 0) != 0) continue;
    std::error_code ignored;
    fs::remove(file->path(), ignored);
  }
}

}  // namespace kontor::agent
