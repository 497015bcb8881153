// A lease as a client may send it: any text is refused or opened, and what opens seals to the same text again.
//
// Random text never gets past the HMAC, so an input whose first byte is odd is first sealed as if by the gateway: its
// bytes are then what the parser behind the HMAC sees.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "auth/lease_ticket.h"
#include "base/digest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using penstock::auth::TicketSealer;
  constexpr TicketSealer::Key kKey{1, 2, 3};
  static const TicketSealer sealer(kKey);

  const penstock::ByteView input(data, size);
  std::string text(penstock::as_text(input));
  if (size > 0 && data[0] % 2 == 1) {
    std::vector<std::uint8_t> bytes(input.begin(), input.end());
    const auto mac = penstock::hmac_sha256(kKey, bytes);
    bytes.insert(bytes.end(), mac.begin(), mac.end());
    text = penstock::base64url_encode(bytes);
  }
  const auto ticket = sealer.open(text);
  if (ticket && sealer.seal(*ticket) != text) std::abort();
  return 0;
}
