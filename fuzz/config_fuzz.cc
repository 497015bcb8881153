// Any bytes as a configuration: as both kinds of file, for both readers, and as the value of a --set. Every input takes
// every way, so that one corpus serves them all.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/document.h"
#include "config/client_config.h"
#include "config/server_config.h"
#include "config/token_record.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace penstock;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const UserEnvironment kUser;
  for (const std::string file : {"fuzz.yaml", "fuzz.json"}) {
    (void)server_config_from_text(text, file, {}, kUser);
    (void)client_config_from_text(text, file, {}, kUser);
    // What was read once is written and read again as the same.
    if (const auto tokens = token_file_from_text(text, file)) {
      PENSTOCK_ASSERT(token_file_from_text(token_file_text(*tokens), "fuzz.json") == *tokens);
    }
  }
  const std::vector<std::string> overrides = {std::string(text), "auth.tokens=" + std::string(text)};
  for (const std::string& one : overrides) (void)server_config_from_text("{}", "fuzz.json", {&one, 1}, kUser);
  return 0;
}
