#pragma once
// Phase "schema": keys, types, values, paths and files of an agent file.

#include "agent/spec/project.hpp"

namespace kontor::agent {

void check_shape(Project& project);

/// The action keys of a step, in the order they are looked for.
inline constexpr std::string_view kStepActions[] = {"tool", "agent", "for_each", "switch", "approval", "fail", "wait", "procedure"};
/// The action of a step that has exactly one, else "".
std::string_view step_action(const Yaml& step);

/// Does the value fit an input's type? Empty when it does, else what was expected.
std::string unfit_input(const Yaml& value, std::string_view type);

/// Reads an output schema or pin file that stands at `value` and reports what is wrong with it.
void check_schema_file(Project& project, const SourceFile& file, const Yaml& value);
void check_pin_file(Project& project, const SourceFile& file, const Yaml& value);

/// Reads the OpenAPI document of an `openapi` entry, reports what is wrong with it, and notes its operations. `owner`: where
/// the entry's name stands.
void check_api_file(Project& project, const SourceFile& file, const Yaml& entry, std::size_t owner);

/// The file whose path stands at `value`, at most `most` + 1 bytes of it. nullopt: it was reported, here or as a path.
std::optional<std::string> read_beside(Project& project, const SourceFile& file, const Yaml& value, std::size_t most);

}  // namespace kontor::agent
