#pragma once
// What a run's sockets were judged to be, on its way to the journal: decisions are made on any thread, events are
// written by the one that has the run.

#include "base/json.hpp"
#include "tools/egress.hpp"

#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace kontor::agent {

/// Thread-safe. The same decision is told once, however often it is made.
class EgressBook {
 public:
  void add(const tools::EgressDecision& decision);
  /// What came since the last time, as data of `egress` events.
  std::vector<Json> take();

 private:
  std::mutex mutex_;
  std::set<std::string> seen_;
  std::vector<Json> new_;
};

}  // namespace kontor::agent
