#pragma once
// What expressions of a workflow see, and which of it is untrusted.

#include "agent/spec/expression.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

/// Names visible at the current step. Inner steps see outer ones; leaving a block removes what it added.
class StepScope {
 public:
  explicit StepScope(const Json& inputs) : inputs_(&inputs) {}

  /// `inputs`, `steps`, `item` inside loops, `result` while set.
  Scope lookup() const;
  void set_result(const std::string& id, Json value, bool untrusted);
  const Json* result_of(const std::string& id) const;
  /// Does a value with templates draw on untrusted results?
  bool draws_on_untrusted(const Json& value) const;

  /// A block (loop item, branch): steps added inside vanish at its end.
  std::size_t enter() const { return order_.size(); }
  void leave(std::size_t mark);
  void push_item(Json item, bool untrusted);
  void pop_item();

  const Json* check_result = nullptr;  ///< `result` in `check:`.

 private:
  bool text_draws_on_untrusted(std::string_view text) const;

  const Json* inputs_;
  Json steps_ = Json::object();
  std::vector<std::string> order_;
  std::map<std::string, bool> untrusted_;
  std::vector<std::pair<Json, bool>> items_;
};

}  // namespace kontor::agent
