#pragma once
// What models had computed when a run stopped, in files beside the journal: who resumes the run need not compute it
// again. The files are derived data; without them a run resumes all the same.

#include "base/error.hpp"

#include <string>

namespace kontor::agent {

/// FOLDER/kv/RUN.MODEL.kv, with a hash in place of the model's name.
std::string parked_state_file(const std::string& folder, const std::string& run, const std::string& model);

/// Creates FOLDER/kv for its owner only. Errors: io.
Result<void> make_parked_state_folder(const std::string& folder);

/// Removes all files of a run.
void remove_parked_state(const std::string& folder, const std::string& run);

}  // namespace kontor::agent
