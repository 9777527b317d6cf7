#include "tools/tool.hpp"

namespace kontor::tools {

std::string_view to_string(Effect effect) {
  switch (effect) {
    case Effect::none: return "none";
    case Effect::idempotent: return "idempotent";
    case Effect::once: return "once";
  }
  return "unknown";
}

}  // namespace kontor::tools
