// Addresses, prefixes and endpoints: what is read prints, and reads again as the same; and a strict reader of the
// system's agrees on what an address is.
#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/ip.h"

namespace {

using namespace penstock;

// inet_pton() is as strict as we are: no leading zeros, no shorthand, no zone.
std::optional<IpAddress> by_the_system(const std::string& text) {
  std::array<std::uint8_t, 16> bytes{};
  if (text.find('\0') != std::string::npos) return std::nullopt;
  if (inet_pton(AF_INET, text.c_str(), bytes.data()) == 1) return IpAddress::from_bytes(ByteView(bytes).first(4));
  if (inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) return IpAddress::from_bytes(bytes);
  return std::nullopt;
}

template <typename Value>
void check_prints_as_read(const Value& value) {
  const std::string printed = value.to_string();
  const auto again = Value::parse(printed);
  PENSTOCK_ASSERT(again && *again == value && again->to_string() == printed);
}

void check_address(const std::string& text) {
  const auto address = IpAddress::parse(text);
  const auto expected = by_the_system(text);
  PENSTOCK_ASSERT(address.has_value() == expected.has_value());
  if (!address) return;
  PENSTOCK_ASSERT(*address == *expected && IpAddress::from_bytes(address->bytes()) == *address);
  check_prints_as_read(*address);
  PENSTOCK_ASSERT(!address->is_v4() || address->to_string() == text);
  PENSTOCK_ASSERT(address->unmapped().unmapped() == address->unmapped());
  const IpAddress next = address->plus(1);
  PENSTOCK_ASSERT(next < *address || next.distance_from(*address) == 1);
}

void check_prefix(const std::string& text) {
  const auto prefix = Prefix::parse(text);
  if (!prefix) {
    // The prefix that was probably meant is one.
    const std::string& message = prefix.error().message;
    const std::size_t meant = message.rfind("did you mean ");
    if (message.ends_with('?') && meant != std::string::npos) {
      PENSTOCK_ASSERT(Prefix::parse(message.substr(meant + 13, message.size() - meant - 14)));
    }
    return;
  }
  check_prints_as_read(*prefix);
  PENSTOCK_ASSERT(prefix->contains(prefix->address()) && prefix->contains(prefix->last()));
  PENSTOCK_ASSERT(prefix->contains(*prefix) && prefix->overlaps(Prefix::host(prefix->last())));
  PENSTOCK_ASSERT(Prefix(prefix->last(), prefix->length()) == *prefix);
  const IpAddress behind = prefix->last().plus(1);
  PENSTOCK_ASSERT(behind < prefix->last() || !prefix->contains(behind));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(as_text({data, size}));
  check_address(text);
  check_prefix(text);
  if (const auto endpoint = Endpoint::parse(text)) {
    check_prints_as_read(*endpoint);
    PENSTOCK_ASSERT(endpoint->address.is_v6() || endpoint->to_string() == text);
  }
  return 0;
}
