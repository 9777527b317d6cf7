#pragma once
// One declared tool of a live plugin as a Tool of the registry.

#include "plugins/host/instance.hpp"
#include "tools/tool.hpp"

#include <cstddef>
#include <memory>

namespace kontor::plugins {

/// `index`: of the tool in the instance's declaration. Thread-safe, as Tool asks for.
std::shared_ptr<tools::Tool> make_plugin_tool(std::shared_ptr<Instance> instance, std::size_t index, tools::ToolSpec spec);

}  // namespace kontor::plugins
