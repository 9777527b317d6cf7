#pragma once
// One declared tool of a live plugin as a Tool of the registry.

#include "plugins/host/instance.hpp"
#include "tools/talking_tool.hpp"

#include <cstddef>
#include <memory>
#include <string>

namespace kontor::plugins {

/// `index`: of the tool in the instance's declaration. Thread-safe, as Tool asks for.
std::shared_ptr<tools::Tool> make_plugin_tool(std::shared_ptr<Instance> instance, std::size_t index, tools::ToolSpec spec);

/// A request of the feature kontor.requests/1; `Declaration::requests` lists the methods. The value of the result is the
/// result object. Blocks.
tools::ToolResult request_plugin(Instance& instance, const std::string& method, const Json& params, const tools::CallContext& context,
                                 const tools::Talk& talk);

}  // namespace kontor::plugins
