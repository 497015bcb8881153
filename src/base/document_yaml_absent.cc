// Stands in for document_yaml.cc where yaml-cpp is not to be had.
#include "base/document.h"

namespace penstock {

Result<Document> parse_yaml(std::string_view /*text*/, const std::string& name) {
  return fail(ErrorCode::invalid_argument, name + ": this build reads JSON; write the file as JSON and name it .json");
}

}  // namespace penstock
