// Translation: whatever clients and the internet send, what leaves is a packet with one end exchanged, what is dropped
// is unchanged, what went out can be answered, and nothing is left when all has been silent.
//
// The input: messages of a control byte (bit 0: from outside; bit 1: of the other member; bit 2: what went out last is
// answered from where it went; bit 3: an ICMP checksum is mended; bits 4 to 7: so many times 20 s pass), a size of two
// bytes, and that many bytes of a packet, whose header is mended.
#include <algorithm>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "egress/nat/nat.h"
#include "egress/nat/nat_testing.h"
#include "mend_header.h"
#include "packet/checksum.h"
#include "packet/super_packet.h"

namespace {

using namespace penstock;
using namespace penstock::egress;

IpAddress address(const char* text) { return IpAddress::parse(text).value(); }

bool same(ByteView a, ByteView b) { return std::ranges::equal(a, b); }

// The ends changed places, as of whoever answers; nothing where it is no packet that is answered so.
std::optional<Packet> answer_to(const Packet& sent) {
  Packet answer = sent.clone();
  const IpView view = parse_ip(std::as_const(answer).bytes()).value();
  const auto at = translation_of(sent.bytes(), view);
  if (!at || at->ends.transport != Transport::udp) return std::nullopt;
  rewrite(answer, *at, Side::source, {view.destination, at->ends.destination});
  rewrite(answer, *at, Side::destination, {view.source, at->ends.source});
  return answer;
}

// Or no error would come past it.
void mend_icmp(Packet& packet, const IpView& view) {
  const auto upper = upper_layer(std::as_const(packet).bytes(), view);
  if (!upper || (upper->protocol != kProtocolIcmp && upper->protocol != kProtocolIcmp6)) return;
  MutableByteView icmp = packet.mutable_bytes().subspan(upper->offset);
  if (icmp.size() < 4) return;
  store_be16(&icmp[2], 0);
  const std::uint32_t pseudo =
      view.family == Family::ipv6 ? pseudo_header_sum(view.source, view.destination, kProtocolIcmp6, icmp.size()) : 0;
  store_be16(&icmp[2], checksum_finish(checksum_add(icmp, pseudo)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ByteView input(data, size);
  ManualClock clock;
  StandInPorts ports({address("192.0.2.1"), address("2001:db8::1")}, 40000, 40007);
  {
    Nat nat({1, 2}, {.bounds = {.flows = 12, .flows_of_owner = 8}}, ports, clock.now());
    std::optional<Packet> went;
    while (input.size() > 3) {
      const std::uint8_t control = input[0];
      const std::size_t length = std::min<std::size_t>(load_be16(&input[1]), input.size() - 3);
      Packet packet = Packet::copy_of(input.subspan(3, length));
      input = input.subspan(3 + length);
      clock.advance(std::chrono::seconds(control >> 4) * 20);
      while (nat.expire(clock.now())) {
      }
      fuzz::mend_header(packet.mutable_bytes());
      auto view = parse_ip(std::as_const(packet).bytes());
      if (!view) continue;
      if ((control & 8) != 0) mend_icmp(packet, *view);
      packet.source = {.slot = (control & 2U) != 0 ? 2U : 1U, .generation = 1};
      const Packet before = packet.clone();
      if ((control & 1) != 0) {
        const auto inbound = nat.translate_inbound(packet, *view, clock.now());
        PENSTOCK_ASSERT(inbound || same(packet.bytes(), before.bytes()));
        PENSTOCK_ASSERT(!inbound || nat.table().find(inbound->binding) != nullptr);
      } else {
        const auto outbound = nat.translate_outbound(packet, *view, clock.now());
        PENSTOCK_ASSERT(outbound || same(packet.bytes(), before.bytes()));
        if (outbound) {
          PENSTOCK_ASSERT(nat.table().find(outbound->binding) != nullptr);
          went = packet.clone();
        }
      }
      const auto after = parse_ip(std::as_const(packet).bytes());
      PENSTOCK_ASSERT(after && after->total_size == view->total_size);
      if ((control & 4) != 0 && went) {
        auto answer = answer_to(*went);
        const bool fresh = (control & 1) == 0 && answer && same(packet.bytes(), went->bytes());
        if (answer) {
          const IpView answered = parse_ip(std::as_const(*answer).bytes()).value();
          const bool came = nat.translate_inbound(*answer, answered, clock.now()).has_value();
          PENSTOCK_ASSERT(came || !fresh);
        }
      }
      PENSTOCK_ASSERT(nat.table().flows() <= 12 && nat.table().mappings() <= nat.table().flows());
      PENSTOCK_ASSERT(ports.held() == nat.table().mappings());
    }
    clock.advance(std::chrono::hours(1));
    while (nat.expire(clock.now())) {
    }
    PENSTOCK_ASSERT(nat.table().flows() == 0 && nat.table().mappings() == 0);
  }
  PENSTOCK_ASSERT(ports.held() == 0);
  return 0;
}
