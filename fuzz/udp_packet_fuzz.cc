// UDP packets of strangers: what is taken for one has a payload within the packet, and each datagram of it makes a
// packet that is read as the same.
//
// The input: the kind of super-packet, flags (bit 0: partial checksum; bit 1: IPv4's header checksum as it is; bit 2:
// UDP's checksum as it is), segment size (2 bytes), the packet.
#include <algorithm>

#include "base/result.h"
#include "mend_header.h"
#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"
#include "packet/udp_packet.h"

namespace {

using namespace penstock;

constexpr std::size_t kSaid = 4;

// No fuzzer finds a good checksum.
void mend_checksum(Packet& packet) {
  const auto view = parse_ip(packet.bytes());
  if (!view || view->protocol != kProtocolUdp) return;
  const auto at = transport_of(packet.bytes(), *view);
  if (!at) return;
  const MutableByteView udp = packet.mutable_bytes().subspan(at->transport);
  const std::size_t length = load_be16(&udp[4]);
  store_be16(&udp[6], 0);
  const auto sum = pseudo_header_sum(view->source, view->destination, kProtocolUdp, length);
  store_be16(&udp[6], checksum_finish(checksum_add(udp.first(length), sum)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kSaid || size - kSaid > Packet::kMaxSize) return 0;
  Packet packet = Packet::copy_of(ByteView(data + kSaid, size - kSaid));
  packet.offload = {.gso = static_cast<Offload::Gso>(data[0] % 5),
                    .needs_checksum = (data[1] & 1) != 0,
                    .segment_size = load_be16(data + 2)};
  fuzz::mend_header(packet.mutable_bytes(), (data[1] & 2) == 0);
  if ((data[1] & 4) == 0 && !packet.offload.needs_checksum) mend_checksum(packet);

  const auto udp = read_udp(packet);
  if (!udp) return 0;
  PENSTOCK_ASSERT(udp->from.address.family() == udp->to.address.family());
  const ByteView bytes = packet.bytes();
  PENSTOCK_ASSERT(udp->payload.data() >= bytes.data() &&
                  udp->payload.data() + udp->payload.size() <= bytes.data() + bytes.size());
  std::size_t total = 0;
  std::size_t datagrams = 0;
  udp->for_each_datagram([&](ByteView datagram) {
    total += datagram.size();
    if (++datagrams > 64) return;
    const Packet made = make_udp(udp->from, udp->to, datagram);
    const auto again = read_udp(made);
    PENSTOCK_ASSERT(again && again->from == udp->from && again->to == udp->to && again->segment_size == 0);
    PENSTOCK_ASSERT(std::ranges::equal(again->payload, datagram));
  });
  PENSTOCK_ASSERT(total == udp->payload.size() && datagrams == segments_of(packet));
  return 0;
}
