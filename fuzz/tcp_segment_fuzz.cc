// TCP segments of strangers: what is taken for one has all its parts within the packet, written again it is read as the
// same, and the reset that is owed to it is one that nobody owes a reset to.
//
// The input: the kind of super-packet, flags (bit 0: partial checksum; bit 1: IPv4's header checksum as it is; bit 2:
// TCP's checksum as it is), segment size (2 bytes), the packet.
#include <algorithm>
#include <memory>

#include "base/result.h"
#include "mend_header.h"
#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"
#include "packet/tcp_segment.h"

namespace {

using namespace penstock;

constexpr std::size_t kSaid = 4;

// No fuzzer finds a good checksum.
void mend_checksum(Packet& packet) {
  const auto view = parse_ip(packet.bytes());
  if (!view || view->protocol != kProtocolTcp) return;
  const auto at = transport_of(packet.bytes(), *view);
  if (!at) return;
  const MutableByteView tcp = packet.mutable_bytes().subspan(at->transport);
  store_be16(&tcp[16], 0);
  const auto sum = pseudo_header_sum(view->source, view->destination, kProtocolTcp, tcp.size());
  const auto whole = packet.offload.needs_checksum ? sum : checksum_finish(checksum_add(tcp, sum));
  store_be16(&tcp[16], static_cast<std::uint16_t>(whole));
}

bool is_good(const Packet& packet) {
  const auto view = parse_ip(packet.bytes());
  if (!view || !check_offload(packet.bytes(), *view, packet.offload)) return false;
  const auto at = transport_of(packet.bytes(), *view);
  return at && has_good_checksums(packet, *at);
}

// From memory that ends where the packet does.
std::optional<TcpView> parse_exactly(ByteView bytes, const IpView& view) {
  const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[bytes.size()]);
  std::ranges::copy(bytes, exact.get());
  return parse_tcp({exact.get(), bytes.size()}, view);
}

void check_same(const Packet& packet, const TcpHeader& header, ByteView payload) {
  PENSTOCK_ASSERT(is_good(packet));
  const auto view = parse_ip(packet.bytes());
  const auto tcp = parse_exactly(packet.bytes(), *view);
  PENSTOCK_ASSERT(tcp && header.from == (Endpoint{view->source, tcp->source}) &&
                  header.to == (Endpoint{view->destination, tcp->destination}));
  PENSTOCK_ASSERT(tcp->sequence == header.sequence && tcp->acknowledgement == header.acknowledgement &&
                  tcp->flags == header.flags && tcp->window == header.window && tcp->options == header.options);
  PENSTOCK_ASSERT(tcp->payload == tcp_headers_size(header) && tcp->payload_size == payload.size());
  PENSTOCK_ASSERT(std::ranges::equal(packet.bytes().subspan(tcp->payload), payload));
}

void check_rewriting(const TcpHeader& header, ByteView payload, std::size_t segment_size) {
  const std::size_t headers = tcp_headers_size(header);
  // Options of odd lengths take more room when they are aligned.
  if (headers + payload.size() > Packet::kMaxSize) return;
  constexpr std::uint8_t kAlone = kTcpSyn | kTcpRst | kTcpUrg;
  if ((header.flags & kAlone) != 0 || segment_size == 0) segment_size = Packet::kMaxSize;
  Packet packet = Packet::with_size(headers + payload.size());
  std::ranges::copy(payload, packet.mutable_bytes().begin() + static_cast<std::ptrdiff_t>(headers));
  write_tcp_headers(packet, header, segment_size);
  check_same(packet, header, payload);
  // Segments of a byte each would cost the fuzzer its time.
  if (segments_of(packet) > 100) return;
  PacketBatch parts;
  segment(std::move(packet), parts);
  for (const Packet& part : parts) PENSTOCK_ASSERT(is_good(part));
}

void check_reset(const Packet& packet, const IpView& view, const TcpView& tcp) {
  const auto reset = tcp_reset_for(packet, view);
  if (!reset) return;
  PENSTOCK_ASSERT((tcp.flags & kTcpRst) == 0 && is_good(packet) && is_good(*reset));
  const auto reset_view = parse_ip(reset->bytes());
  const auto parsed = parse_tcp(reset->bytes(), *reset_view);
  PENSTOCK_ASSERT(parsed && (parsed->flags & kTcpRst) != 0 && parsed->payload_size == 0);
  PENSTOCK_ASSERT(reset_view->source == view.destination && reset_view->destination == view.source);
  PENSTOCK_ASSERT(parsed->source == tcp.destination && parsed->destination == tcp.source);
  PENSTOCK_ASSERT(((parsed->flags ^ tcp.flags) & kTcpAck) != 0);
  PENSTOCK_ASSERT(!tcp_reset_for(*reset, *reset_view));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kSaid || size - kSaid > Packet::kMaxSize) return 0;
  Packet packet = Packet::copy_of(ByteView(data + kSaid, size - kSaid));
  packet.offload = {.gso = static_cast<Offload::Gso>(data[0] % 5),
                    .needs_checksum = (data[1] & 1) != 0,
                    .segment_size = load_be16(data + 2)};
  fuzz::mend_header(packet.mutable_bytes(), (data[1] & 2) == 0);
  if ((data[1] & 4) == 0) mend_checksum(packet);

  const auto view = parse_ip(packet.bytes());
  if (!view) return 0;
  const auto tcp = parse_exactly(packet.bytes(), *view);
  if (!tcp) return 0;
  PENSTOCK_ASSERT(tcp->payload + tcp->payload_size == packet.size());
  PENSTOCK_ASSERT(tcp->options.sack_count <= TcpOptions::kMostSacks);
  const TcpHeader header{.from = {view->source, tcp->source},
                         .to = {view->destination, tcp->destination},
                         .sequence = tcp->sequence,
                         .acknowledgement = tcp->acknowledgement,
                         .flags = tcp->flags,
                         .window = tcp->window,
                         .options = tcp->options};
  check_rewriting(header, packet.bytes().subspan(tcp->payload), packet.offload.segment_size);
  if (check_offload(packet.bytes(), *view, packet.offload)) check_reset(packet, *view, *tcp);
  return 0;
}
