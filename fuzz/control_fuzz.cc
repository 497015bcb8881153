// Control messages: what is read can be written, and reads back as the same.
#include "base/bytes.h"
#include "protocol/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace penstock;
  const auto message = protocol::parse_control(as_text({data, size}));
  if (!message) {
    PENSTOCK_ASSERT(!message.error().message.empty() && message.error().message.size() < 400);
    return 0;
  }
  const std::string json = protocol::to_json(*message);
  const auto again = protocol::parse_control(json);
  PENSTOCK_ASSERT(again);
  PENSTOCK_ASSERT(protocol::to_json(*again) == json);
  return 0;
}
