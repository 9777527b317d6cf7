#pragma once
// OpenAPI documents (3.0 and 3.1): operations as tools. Documents come from strangers; every part is bounded, and references lead
// to the document's own components only.

#include "tools/tool.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// A parameter of an operation and how it is written into a request.
struct ApiParameter {
  std::string name;   ///< In the request.
  std::string key;    ///< In the arguments of the tool.
  enum class Place { path, query, header } place = Place::query;
  enum class Style { simple, form, deep_object, json } style = Style::form;
  bool explode = false;
};

struct ApiOperation {
  std::string name;      ///< A function name: the operationId, or method and path.
  std::string method;    ///< GET, PUT, POST, DELETE, PATCH
  std::string path;      ///< With {name} for path parameters; begins with '/'.
  std::string body_key;  ///< Of the arguments; "" when there is no body.
  std::string body_type; ///< Media type.
  std::vector<ApiParameter> parameters;
  ToolSpec spec;         ///< Its name is `name`, without a group.
};

struct ApiDocument {
  std::string server;    ///< URL of the first server, or "" when it has none that is absolute and without variables.
  std::vector<ApiOperation> operations;
};

/// The operations that one of the globs in `only` names; all when it is empty. Errors: unsupported (another version, a
/// reference to elsewhere, a style or media type that is not written), malformed, limit; with the JSON pointer in `where`.
Result<ApiDocument> read_api_document(const Json& document, const std::vector<std::string>& only = {});

/// Path and query ("/pets/7?tag=a") for checked arguments. Errors: usage, naming the argument.
Result<std::string> api_target(const ApiOperation& operation, const Json& arguments);

/// The body of a request: JSON, plain text, or the fields of a form (a list is a field several times). Errors: usage.
Result<std::string> api_body(const ApiOperation& operation, const Json& body);

/// Text of one value as a header has it. Errors: usage.
Result<std::string> api_header(const ApiParameter& parameter, const Json& value);

}  // namespace kontor::tools
