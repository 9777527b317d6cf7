#pragma once
// The conversation as the planner keeps it; agent/dialect turns it into a model's prompt format and back.

#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace kontor::agent {

enum class Role { system, user, assistant, tool };

/// A call the model asked for. `arguments` is an object; `raw_arguments` the text it was read from, when known.
struct ToolCall {
  std::string id;
  std::string name;
  Json arguments = Json::object();
  std::string raw_arguments;
};

struct Message {
  Role role = Role::user;
  std::string content;
  std::string reasoning;             ///< Assistant only; what stood inside <think>.
  std::vector<ToolCall> calls;       ///< Assistant only.
  std::string call_id;               ///< Tool only: the call this answers.
  std::string name;                  ///< Tool only: the tool's name.
  bool trusted = true;               ///< Label of the source, kept with the text.
  std::vector<int> tokens;           ///< Assistant only: ids the turn was generated as (empty when unknown).
  std::string generated_text;        ///< Assistant only: the raw text those ids spell, without the pre-fill.
};

/// Whether a turn may make calls: as the model likes, it has to, only of one tool and it has to, or not at all.
enum class ToolChoice { automatic, required, named, none };

/// A tool as the model is told about it.
struct ToolSchema {
  std::string name;
  std::string description;
  Json parameters = Json::object();  ///< JSON Schema of the argument object.
};

}  // namespace kontor::agent
