#pragma once
// Calls that only read begin as soon as the model has written their arguments, while it writes the rest of the turn.
// Their results are used if the finished turn has exactly these calls; otherwise they are stopped and forgotten.

#include "agent/running_call.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace kontor::agent {

/// Of one turn. A call begins early when its tool has effect none, policy allows it whatever the calls before it return,
/// no rule of the policy could ask a person about it, its arguments are valid, and all calls before it in the turn began
/// early, too: what they read must not depend on an effect that is still to come.
class EarlyCalls {
 public:
  /// `place` of the turn ("STEP#TURN"); `labels`: of all that the model has read.
  EarlyCalls(RunContext& run, std::string place, tools::Labels labels) : run_(run), place_(std::move(place)), labels_(labels) {}
  /// Stops what was not used.
  ~EarlyCalls();
  EarlyCalls(const EarlyCalls&) = delete;
  EarlyCalls& operator=(const EarlyCalls&) = delete;

  /// The model has written call `index` of the turn. Not under the baton; does nothing where another thread has it.
  void written(std::size_t index, const std::string& tool, const std::string& arguments);

  /// The call, if it is this one; null if it did not begin. Under the baton.
  std::shared_ptr<RunningCall> take(std::size_t index, const std::string& tool, const Json& arguments);

 private:
  bool may_begin(const std::string& tool, const Json& arguments) const;

  RunContext& run_;
  const std::string place_;
  tools::Labels labels_;  ///< With those of the results of the calls before.
  std::vector<std::shared_ptr<RunningCall>> calls_;
  bool over_ = false;     ///< A call did not begin early, so none behind it may.
};

}  // namespace kontor::agent
