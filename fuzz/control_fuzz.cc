// Control messages: what is read can be written, and reads back as the same; what is refused is refused in one line.
#include <algorithm>

#include "base/bytes.h"
#include "protocol/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace penstock;
  const auto message = protocol::parse_control(as_text({data, size}));
  if (!message) {
    const std::string& words = message.error().message;
    PENSTOCK_ASSERT(!words.empty() && words.size() < 400);
    // They are logged and sent back.
    PENSTOCK_ASSERT(std::ranges::none_of(words, [](char c) { return static_cast<unsigned char>(c) < 0x20; }));
    return 0;
  }
  const std::string json = protocol::to_json(*message);
  const auto again = protocol::parse_control(json);
  PENSTOCK_ASSERT(again);
  PENSTOCK_ASSERT(protocol::to_json(*again) == json);
  return 0;
}
