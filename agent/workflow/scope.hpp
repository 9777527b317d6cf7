#pragma once
// What expressions of a workflow see, and which labels it carries.

#include "agent/spec/expression.hpp"
#include "base/json.hpp"
#include "tools/labels.hpp"

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::agent {

/// Names visible at the current step. Inner steps see outer ones; leaving a block removes what it added.
class StepScope {
 public:
  explicit StepScope(const Json& inputs, tools::Labels labels = {}) : inputs_(&inputs), inputs_labels_(labels) {}

  /// `inputs`, `steps`, `item` inside loops, `result` while set.
  Scope lookup() const;
  void set_result(const std::string& id, Json value, tools::Labels labels);
  const Json* result_of(const std::string& id) const;
  /// Labels of everything that the templates in a value name.
  tools::Labels labels_of(const Json& value) const;

  /// A block (loop item, branch): steps added inside vanish at its end.
  std::size_t enter() const { return order_.size(); }
  void leave(std::size_t mark);
  void push_item(Json item, tools::Labels labels);
  void pop_item();

  const Json* check_result = nullptr;  ///< `result` in `check:`.

 private:
  tools::Labels labels_of_text(std::string_view text) const;

  const Json* inputs_;
  tools::Labels inputs_labels_;
  Json steps_ = Json::object();
  std::vector<std::string> order_;
  std::map<std::string, tools::Labels> labels_;
  std::vector<std::pair<Json, tools::Labels>> items_;
};

}  // namespace kontor::agent
