// Inner packets: no view leads out of its packet, and whatever is answered is itself a packet with good checksums.
#include "base/result.h"
#include "packet/checksum.h"
#include "packet/icmp.h"
#include "packet/ip_view.h"

namespace {

using namespace penstock;

void check_answer(const std::optional<Packet>& answer, const IpView& about) {
  if (!answer) return;
  const auto view = parse_ip(answer->bytes());
  PENSTOCK_ASSERT(view && view->destination == about.source);
  const ByteView icmp = answer->bytes().subspan(view->header_size);
  const bool v4 = view->family == Family::ipv4;
  const std::uint32_t pseudo = v4 ? 0 : pseudo_header_sum(view->source, view->destination, kProtocolIcmp6, icmp.size());
  PENSTOCK_ASSERT(checksum_finish(checksum_add(icmp, pseudo)) == 0);
  // An error about an error, or about an answer of ours that is one, must not follow.
  const bool error = icmp[0] < 128 && !(v4 && icmp[0] == 0);
  const IpAddress gateway = v4 ? IpAddress::v4(0x0A640001) : *IpAddress::parse("fd00::1");
  if (error) PENSTOCK_ASSERT(!unreachable(*view, answer->bytes(), gateway, Unreachable::host));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > Packet::kMaxSize) return 0;
  // The length fields are mended, or nearly nothing would come past them.
  Packet packet = Packet::copy_of({data, size});
  const MutableByteView bytes = packet.mutable_bytes();
  if (size >= 20 && bytes[0] >> 4 == 4) store_be16(&bytes[2], static_cast<std::uint16_t>(size));
  if (size >= 40 && bytes[0] >> 4 == 6) store_be16(&bytes[4], static_cast<std::uint16_t>(size - 40));

  const auto raw = parse_ip({data, size});
  PENSTOCK_ASSERT(!raw || raw->total_size == size);
  const auto view = parse_ip(packet.bytes());
  if (!view) return 0;
  PENSTOCK_ASSERT(view->total_size == size && view->header_size <= size);
  const auto upper = upper_layer(packet.bytes(), *view);
  PENSTOCK_ASSERT(!upper || upper->offset <= size);
  ports_of(packet.bytes(), *view);

  const IpAddress gateway = view->family == Family::ipv4 ? IpAddress::v4(0x0A640001) : *IpAddress::parse("fd00::1");
  check_answer(unreachable(*view, packet.bytes(), gateway, Unreachable::prohibited), *view);
  check_answer(too_big(*view, packet.bytes(), gateway, 1280), *view);
  // With its checksum mended, so that echo requests are found.
  if (upper && size - upper->offset >= 8) {
    const MutableByteView icmp = bytes.subspan(upper->offset);
    store_be16(&icmp[2], 0);
    const std::uint32_t pseudo = view->family == Family::ipv4
                                     ? 0
                                     : pseudo_header_sum(view->source, view->destination, kProtocolIcmp6, icmp.size());
    store_be16(&icmp[2], checksum_finish(checksum_add(icmp, pseudo)));
  }
  check_answer(echo_reply(packet, *view), *view);
  return 0;
}
