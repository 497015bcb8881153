// The header in front of a packet from a TUN device: whatever it says, nothing outside of the packet is touched, and in
// it nothing but the checksum that is finished. What is believed agrees with the packet's own headers, and the header
// that is built from them says the same.
//
// The input: whether the packet's lengths are mended (bit 0), the header, the packet.
#include <algorithm>
#include <vector>

#include "base/result.h"
#include "mend_header.h"
#include "packet/checksum.h"
#include "packet/super_packet.h"
#include "tun/vnet_header.h"

namespace {

using namespace penstock;
using tun::kVnetHeaderSize;

constexpr std::size_t kSaid = 1 + kVnetHeaderSize;

// As large as it is and no larger, so that the sanitizer sees a byte too far.
using Bytes = std::vector<std::uint8_t>;

std::size_t load_le16(ByteView header, std::size_t at) { return header[at] | std::size_t{header[at + 1]} << 8; }

// `before`: with another sum in place of the checksum, which covers all from `start` on.
void check_finished(const Bytes& packet, const Bytes& before, std::size_t start, std::size_t offset) {
  const std::size_t at = start + offset;
  PENSTOCK_ASSERT(at + 2 <= packet.size());
  const std::uint16_t left = load_be16(&before[at]);
  const std::uint16_t checksum = load_be16(&packet[at]);
  PENSTOCK_ASSERT(checksum != 0);
  // At an odd offset no word of the sum is in the field.
  const ByteView covered = ByteView(packet).subspan(start);
  if (offset % 2 == 0) PENSTOCK_ASSERT(checksum_finish(checksum_add(covered, left)) == 0);
  Bytes undone = packet;
  store_be16(&undone[at], left);
  PENSTOCK_ASSERT(undone == before);
}

void check_believed(Bytes& packet, const Offload& offload) {
  const auto view = parse_ip(packet);
  PENSTOCK_ASSERT(offload == Offload{} || (view && check_offload(packet, *view, offload)));
  const Bytes before = packet;
  const tun::VnetHeader header = tun::make_vnet_header(packet, offload);
  PENSTOCK_ASSERT(tun::take_vnet_header(header, packet) == offload && packet == before);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kSaid || size - kSaid > Packet::kMaxSize) return 0;
  const Bytes header(data + 1, data + kSaid);
  Bytes packet(data + kSaid, data + size);
  if ((data[0] & 1) != 0) fuzz::mend_header(packet);
  const Bytes before = packet;
  const auto offload = tun::take_vnet_header(header, packet);
  const bool asked = (header[0] & 1) != 0;
  if (asked && offload == Offload{}) {
    check_finished(packet, before, load_le16(header, 6), load_le16(header, 8));
  } else {
    PENSTOCK_ASSERT(packet == before);
  }
  if (offload) check_believed(packet, *offload);
  return 0;
}
