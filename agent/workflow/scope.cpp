#include "agent/workflow/scope.hpp"

namespace kontor::agent {
namespace {

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

}  // namespace

Scope StepScope::lookup() const {
  return [this](std::string_view name) -> const Json* {
    if (name == "inputs") return inputs_;
    if (name == "steps") return &steps_;
    if (name == "item" && !items_.empty()) return &items_.back().first;
    if (name == "result") return check_result;
    return nullptr;
  };
}

void StepScope::set_result(const std::string& id, Json value, tools::Labels labels) {
  if (!steps_.contains(id)) order_.push_back(id);
  steps_[id] = std::move(value);
  labels_[id] = labels;
}

const Json* StepScope::result_of(const std::string& id) const {
  const auto found = steps_.find(id);
  return found == steps_.end() ? nullptr : &*found;
}

void StepScope::leave(std::size_t mark) {
  while (order_.size() > mark) {
    steps_.erase(order_.back());
    labels_.erase(order_.back());
    order_.pop_back();
  }
}

void StepScope::push_item(Json item, tools::Labels labels) { items_.emplace_back(std::move(item), labels); }
void StepScope::pop_item() { items_.pop_back(); }

tools::Labels StepScope::labels_of(const Json& value) const {
  if (value.is_string()) return labels_of_text(value.get_ref<const std::string&>());
  tools::Labels labels;
  if (!value.is_structured()) return labels;
  for (const auto& member : value) labels |= labels_of(member);
  return labels;
}

tools::Labels StepScope::labels_of_text(std::string_view text) const {
  tools::Labels labels;
  if (text.find("${") == std::string_view::npos) return labels;
  // Words anywhere in the text count, also in literals: too careful is the safe side.
  for (std::size_t at = 0; at < text.size();) {
    if (!is_word(text[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && is_word(text[end])) ++end;
    const auto word = text.substr(at, end - at);
    at = end;
    if (word == "item" && !items_.empty()) labels |= items_.back().second;
    if (word == "inputs") labels |= inputs_labels_;
    if (word != "steps") continue;
    std::size_t name_end = end + 1;
    while (name_end < text.size() && is_word(text[name_end])) ++name_end;
    if (end < text.size() && text[end] == '.' && name_end > end + 1) {
      const auto found = labels_.find(std::string(text.substr(end + 1, name_end - end - 1)));
      if (found != labels_.end()) labels |= found->second;
    } else {
      for (const auto& [id, some] : labels_) labels |= some;
    }
  }
  return labels;
}

}  // namespace kontor::agent
