#pragma once
// The life of a plugin's host process: confine it, load one library, answer calls until the connection ends.

namespace kontor::plugins {

/// Runs the process whose socket and library are the descriptors of frame.hpp. Returns the exit status; ends the process
/// at once when the other side is gone.
int serve_plugin();

}  // namespace kontor::plugins
