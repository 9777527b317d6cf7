#pragma once
// Prompts as one text, for servers that make the tokens themselves.

#include "inference/text_model.hpp"

#include <string>
#include <string_view>

namespace kontor::inference::remote {

/// Text of users, tools and files as it is sent: a word joiner (U+2060) stands behind the "<" of everything a server
/// could take for a control token. A local model needs none of this, because its tokens are made here.
std::string without_markers(std::string_view text);

/// The prompt of the request. Template text stays as it is; everything else loses its markers, also those that are
/// spread over neighbouring segments.
std::string server_text(const GenerateRequest& request);

/// The token that begins a prompt of the family; "" where there is none. Most servers put it in front themselves.
std::string_view begin_marker(std::string_view prompt);

}  // namespace kontor::inference::remote
