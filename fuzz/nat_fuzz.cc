// Translation: whatever clients and the internet send, what leaves is a packet with one end exchanged, what is dropped
// is unchanged, what went out can be answered, every conversation of TCP that was begun ends once, and nothing is left
// when all has been silent.
//
// The input: messages of a control byte (bit 0: from outside; bit 1: of the other member; bit 2: what went out last is
// answered from where it went; bit 3: checksums are mended; bits 4 to 7: so many times 20 s pass, 15: what went out
// last was of a connection that is over), a size of two bytes, and that many bytes of a packet, whose header is mended.
// One member has a forward.
#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "egress/nat/nat.h"
#include "egress/nat/nat_testing.h"
#include "mend_header.h"
#include "packet/checksum.h"
#include "packet/super_packet.h"
#include "packet/tcp_segment.h"

namespace {

using namespace penstock;
using namespace penstock::egress;

IpAddress address(const char* text) { return IpAddress::parse(text).value(); }

bool same(ByteView a, ByteView b) { return std::ranges::equal(a, b); }

// The ends changed places, as of whoever answers; nothing where it is no packet that is answered so, as a RST, that a
// forward may send of what nobody knows.
std::optional<Packet> answer_to(const Packet& sent) {
  Packet answer = sent.clone();
  const IpView view = parse_ip(std::as_const(answer).bytes()).value();
  const auto at = translation_of(sent.bytes(), view);
  if (!at || at->ends.transport == Transport::echo) return std::nullopt;
  if (at->ends.transport == Transport::tcp && (sent.bytes()[at->offset + 13U] & kTcpRst) != 0) return std::nullopt;
  rewrite(answer, *at, Side::source, {view.destination, at->ends.destination});
  rewrite(answer, *at, Side::destination, {view.source, at->ends.source});
  return answer;
}

// Or no error would come past it, and no SYN.
void mend_checksums(Packet& packet, const IpView& view) {
  if (const auto tcp = transport_of(std::as_const(packet).bytes(), view); tcp && tcp->protocol == kProtocolTcp) {
    write_partial_checksum(packet.mutable_bytes(), *tcp);
    packet.offload.needs_checksum = true;
    return finish_checksum(packet);
  }
  const auto upper = upper_layer(std::as_const(packet).bytes(), view);
  if (!upper || (upper->protocol != kProtocolIcmp && upper->protocol != kProtocolIcmp6)) return;
  MutableByteView icmp = packet.mutable_bytes().subspan(upper->offset);
  if (icmp.size() < 4) return;
  store_be16(&icmp[2], 0);
  const std::uint32_t pseudo =
      view.family == Family::ipv6 ? pseudo_header_sum(view.source, view.destination, kProtocolIcmp6, icmp.size()) : 0;
  store_be16(&icmp[2], checksum_finish(checksum_add(icmp, pseudo)));
}

// What of TCP is remembered, by its ends outside.
class Conversations {
 public:
  // What has been told of is one of them.
  void hear(StandInPorts& ports) {
    for (const auto& ends : std::exchange(ports.told, {})) PENSTOCK_ASSERT(all_.erase(ends) == 1);
  }
  // A packet between these went out and passed: it is of one that is known, or begins one, or says no from a forward.
  void went(const Nat& nat, const Packet& packet, const TranslationView& at, const IpView& view) {
    if (at.ends.transport != Transport::tcp) return;
    const std::uint8_t flags = packet.bytes()[at.offset + 13U];
    const Endpoint outer{view.source, at.ends.source};
    const std::pair ends(outer, Endpoint{view.destination, at.ends.destination});
    const bool forward = nat.table().find_external(MappingTable::End::of(outer, Transport::tcp))->is_static;
    if (all_.contains(ends)) return;
    if (forward && (flags & kTcpRst) != 0) return;
    PENSTOCK_ASSERT((flags & kTcpSyn) != 0 && (flags & kTcpRst) == 0 && (forward || (flags & kTcpAck) == 0));
    all_.insert(ends);
  }
  // The gateway says so.
  void end(Nat& nat, StandInPorts& ports, const Packet& sent) {
    const IpView view = parse_ip(sent.bytes()).value();
    const auto at = translation_of(sent.bytes(), view);
    if (!at || at->ends.transport != Transport::tcp) return;
    const std::pair ends(Endpoint{view.source, at->ends.source}, Endpoint{view.destination, at->ends.destination});
    const std::size_t flows = nat.table().flows();
    nat.end_flow(ends.first, ends.second);
    PENSTOCK_ASSERT(nat.table().flows() == flows - all_.erase(ends) && ports.told.empty());
  }
  bool empty() const { return all_.empty(); }

 private:
  std::set<std::pair<Endpoint, Endpoint>> all_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ByteView input(data, size);
  ManualClock clock;
  StandInPorts ports({address("192.0.2.1"), address("2001:db8::1")}, 40000, 40007);
  Conversations conversations;
  {
    Nat nat({1, 2}, {.bounds = {.flows = 12, .flows_of_owner = 8}}, ports, clock.now());
    const Endpoint outside{address("192.0.2.1"), 443};
    ports.forwards.insert(outside);
    nat.forward(Transport::tcp, outside, {address("10.100.0.2"), 443});
    std::optional<Packet> went;
    while (input.size() > 3) {
      const std::uint8_t control = input[0];
      const std::size_t length = std::min<std::size_t>(load_be16(&input[1]), input.size() - 3);
      Packet packet = Packet::copy_of(input.subspan(3, length));
      input = input.subspan(3 + length);
      clock.advance(std::chrono::seconds(control >> 4) * 20);
      while (nat.expire(clock.now())) {
      }
      conversations.hear(ports);
      if ((control >> 4) == 15 && went) conversations.end(nat, ports, *went);
      fuzz::mend_header(packet.mutable_bytes());
      auto view = parse_ip(std::as_const(packet).bytes());
      if (!view) continue;
      if ((control & 8) != 0) mend_checksums(packet, *view);
      packet.source = {.slot = (control & 2U) != 0 ? 2U : 1U, .generation = 1};
      const Packet before = packet.clone();
      if ((control & 1) != 0) {
        const auto inbound = nat.translate_inbound(packet, *view, clock.now());
        PENSTOCK_ASSERT(inbound || same(packet.bytes(), before.bytes()));
        PENSTOCK_ASSERT(!inbound || nat.table().find(inbound->binding) != nullptr);
      } else {
        const auto outbound = nat.translate_outbound(packet, *view, clock.now());
        PENSTOCK_ASSERT(outbound || same(packet.bytes(), before.bytes()));
        conversations.hear(ports);
        if (outbound) {
          PENSTOCK_ASSERT(nat.table().find(outbound->binding) != nullptr);
          went = packet.clone();
          const IpView out = parse_ip(std::as_const(packet).bytes()).value();
          if (const auto at = translation_of(std::as_const(packet).bytes(), out))
            conversations.went(nat, packet, *at, out);
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
      PENSTOCK_ASSERT(nat.table().flows() <= 12 && nat.table().mappings() <= nat.table().flows() + 1);
      PENSTOCK_ASSERT(ports.held() + 1 == nat.table().mappings());
    }
    clock.advance(std::chrono::hours(3));
    while (nat.expire(clock.now())) {
    }
    conversations.hear(ports);
    PENSTOCK_ASSERT(nat.table().flows() == 0 && nat.table().mappings() == 1 && conversations.empty());
  }
  PENSTOCK_ASSERT(ports.held() == 0);
  return 0;
}
