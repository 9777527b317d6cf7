#include "agent/egress_book.hpp"

#include <nlohmann/json.hpp>

#include <utility>

namespace kontor::agent {
namespace {

constexpr std::size_t kDecisionsMax = 1000;  // A journal stays linear in the steps, whatever hosts a model thinks up.

}  // namespace

void EgressBook::add(const tools::EgressDecision& decision) {
  const std::string key = decision.who + "\n" + decision.host + "\n" + std::to_string(decision.port) + "\n" + decision.rule;
  const std::lock_guard lock(mutex_);
  if (seen_.size() >= kDecisionsMax || !seen_.insert(key).second) return;
  Json data{{"who", decision.who}, {"host", decision.host}, {"port", decision.port}, {"allowed", decision.allowed}, {"rule", decision.rule}};
  if (!decision.address.empty()) data["address"] = decision.address;
  new_.push_back(std::move(data));
}

std::vector<Json> EgressBook::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(new_, {});
}

}  // namespace kontor::agent
