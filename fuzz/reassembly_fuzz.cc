// Fragments: whatever comes, bounds hold, every fragment is in the reassembler, in a whole or counted once, and a whole
// is a packet that is no fragment.
//
// The input: steps of a header (owner, what to do, size, in a byte each) and as many bytes of a packet, whose lengths
// are mended. A step with the highest bit in its second byte lets time pass instead.
#include <algorithm>

#include "base/result.h"
#include "packet/checksum.h"
#include "packet/fragment_view.h"
#include "packet/reassembly.h"

namespace {

using namespace penstock;

constexpr Reassembler::Limits kLimits{.bytes = 8192, .datagrams = 8, .owner_bytes = 4096, .owner_datagrams = 4};

void check_whole(const Packet& whole, SessionId sender) {
  const auto view = parse_ip(whole.bytes());
  PENSTOCK_ASSERT(view.has_value());
  PENSTOCK_ASSERT(read_fragment(whole.bytes(), *view).kind == FragmentView::Kind::no_fragment);
  const auto upper = upper_layer(whole.bytes(), *view);
  PENSTOCK_ASSERT(!upper || !upper->fragment);
  PENSTOCK_ASSERT(whole.source == sender && whole.offload == Offload{});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ByteView rest(data, size);
  Reassembler reassembler(kLimits, {.first = 1, .second = 2});
  TimePoint now{std::chrono::hours(1)};
  std::uint64_t added = 0;
  std::uint64_t passed = 0;
  std::uint64_t in_wholes = 0;
  while (rest.size() >= 3) {
    const SessionId owner{.slot = rest[0] % 4U, .generation = rest[0] % 4U};
    const std::uint8_t action = rest[1];
    const std::size_t length = std::min<std::size_t>(rest[2] * std::size_t{action & 0x40 ? 8U : 1U}, rest.size() - 3);
    if ((action & 0x80) != 0) {
      now += std::chrono::seconds(action & 0x3F);
      if ((action & 0x40) != 0) reassembler.expire(now);
      rest = rest.subspan(3);
      continue;
    }
    Packet packet = Packet::copy_of(rest.subspan(3, length));
    rest = rest.subspan(3 + length);
    const MutableByteView bytes = packet.mutable_bytes();
    if (length >= 20 && bytes[0] >> 4 == 4) store_be16(&bytes[2], static_cast<std::uint16_t>(length));
    if (length >= 40 && bytes[0] >> 4 == 6) store_be16(&bytes[4], static_cast<std::uint16_t>(length - 40));
    const auto view = parse_ip(packet.bytes());
    if (!view) continue;
    packet.source = owner;

    const auto kind = read_fragment(packet.bytes(), *view).kind;
    ++added;
    const auto losses_before = reassembler.losses();
    const auto whole = reassembler.add(std::move(packet), *view, now);
    if (kind == FragmentView::Kind::no_fragment) PENSTOCK_ASSERT(whole && reassembler.losses() == losses_before);
    if (kind == FragmentView::Kind::atomic) PENSTOCK_ASSERT(whole.has_value());
    if (kind == FragmentView::Kind::malformed) PENSTOCK_ASSERT(!whole);
    if (whole) {
      check_whole(*whole, owner);
      if (kind != FragmentView::Kind::fragment)
        ++passed;
      else
        ++in_wholes;  // and as many more as it had pieces: that is what must be left over below
    }
    PENSTOCK_ASSERT(reassembler.size_bytes() <= kLimits.bytes && reassembler.datagrams() <= kLimits.datagrams);
  }
  now += Reassembler::kPatience;
  reassembler.expire(now);
  PENSTOCK_ASSERT(reassembler.memory() == 0 && reassembler.datagrams() == 0 && !reassembler.next_expiry());
  const auto losses = reassembler.losses();
  const std::uint64_t lost =
      losses.malformed + losses.overlapped + losses.timed_out + losses.too_many + losses.duplicates;
  const std::uint64_t merged = added - passed - lost;
  PENSTOCK_ASSERT(added >= passed + lost && merged >= 2 * in_wholes &&
                  merged <= in_wholes * Reassembler::kMaxFragments);
  return 0;
}
