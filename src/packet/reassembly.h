// Puts fragments of inner packets together again, for whoever must see a datagram whole (RFC 791 section 3.2, RFC 8200
// section 4.5).
//
//   add() --> malformed by itself: gone, the others stay
//         --> no fragment, or all of a datagram in one (RFC 6946) --------------------------------> the whole
//         --> OPEN --last gap closed--------------------------------------------------------------> the whole
//              |-----overlap, contradiction, too many pieces--> DEAD --its time--> forgotten
//              |-----its time, or room is needed--------------------------------> forgotten
//
// Theory of operation
//
// Datagram    what has one source, destination, identification, IPv4 protocol and owner. The owner is the session that
//             sent the fragments (Packet::source): two clients that write the same numbers do not meet, and nobody puts
//             a piece into another's datagram. Packets without a session, from outside, have one owner together.
// Whole       what is known about the first fragment to arrive stays known about the whole; nothing is left undone in
//             it. IPv4 takes its header from the fragment at offset 0, with length and checksum made anew, neither
//             "don't fragment" nor "more fragments". IPv6 takes what stands before the fragment header from there, and
//             the fragment header itself goes; it may_fragment again. A mark of congestion on any piece is one on the
//             whole; where its sender would not understand, the datagram dies (RFC 3168 section 5.3).
// Overlap     kills the datagram, with all of it that is still to come (RFC 5722 section 4; IPv4 too, where nobody
//             honest has overlaps that differ either). An exact duplicate is ignored (RFC 8200 section 4.5).
// Malformed   a fragment that ends behind the largest packet there is; one that is not the last and no multiple of 8
//             bytes; one of no bytes; a first one without all headers, to the end of that of TCP, UDP or ICMP (RFC 1858
//             section 3, RFC 7112 section 5), for those are what is judged by; another fragment header behind the
//             first; two ends of one datagram, which kills that.
// Time        a datagram has kPatience from its first fragment on. RFC 8200 section 4.5 says 60 s, RFC 1122 section
//             3.3.2 from 60 to 120; RFC 4963 section 3 shows why, with identifications of 16 bits, that mixes up
//             datagrams. Those still missing something after half a minute are rare, and Linux has the same for IPv4.
// Bounds      memory and number of datagrams, in all and for each owner. Who is over its own bound loses its own oldest
//             datagram. Over the bound of all it is the oldest of the owner that has most of what is short, and of
//             those that have as much the sender's own. So nobody loses anything to an owner that has more.
//
// Always true    after add(): size_bytes() <= Limits::bytes, datagrams() <= Limits::datagrams, likewise of each owner;
//                what it returned is no fragment; every fragment is in here, in a whole, or counted once in Losses
//                (reassembly_test.cc).
// Memory         a fragment counts with what it holds (Packet::footprint), at least 256 bytes. Beside it 56 bytes for
//                each fragment, 116 for each datagram and 44 for each owner, as many as there were at once, doubling.
//                None before the first fragment, nor after an expire() that finds nothing waiting; in between only
//                growing allocates.
// Cost           a keyed hash, and a step for each fragment of the datagram that lies behind the new one: for those
//                that come in order none. Over the bound of all a step for each owner.
// Ownership      add() takes the packet.
// Threads        one.
// Not here       telling the sender in ICMP; checksums of what is carried, and of IPv4 headers.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "packet/flow_hash.h"
#include "packet/ip_view.h"
#include "packet/packet.h"

namespace penstock {

class Reassembler {
 public:
  static constexpr Duration kPatience = std::chrono::seconds(30);
  // The largest datagram has 54 at an MTU of 1280.
  static constexpr std::size_t kMaxFragments = 64;

  struct Limits {
    std::size_t bytes = std::size_t{16} << 20;
    std::size_t datagrams = 2048;
    std::size_t owner_bytes = std::size_t{1} << 20;
    std::size_t owner_datagrams = 128;
  };

  // Fragments that did not become part of a whole.
  struct Losses {
    std::uint64_t malformed = 0;
    std::uint64_t overlapped = 0;
    std::uint64_t timed_out = 0;
    std::uint64_t too_many = 0;    // a bound was exceeded
    std::uint64_t duplicates = 0;  // of one that is there: nothing was lost
    friend bool operator==(const Losses&, const Losses&) = default;
  };

  // Each limit is at least 1.
  Reassembler(const Limits& limits, const FlowHashKey& key);
  ~Reassembler();
  Reassembler(const Reassembler&) = delete;
  Reassembler& operator=(const Reassembler&) = delete;

  // The whole datagram, if `fragment` was what it lacked; what is no fragment as it is. `view` is of `fragment`, which
  // has no offload; of the whole it is to be made anew. Times of calls never go back.
  std::optional<Packet> add(Packet&& fragment, const IpView& view, TimePoint now);

  // Forgets datagrams whose time is over, at most 64; gives back all memory where nothing waits. For about once a
  // second: add() does a little of it too, and completes nothing whose time is over.
  void expire(TimePoint now);
  // When expire() has something to do; nothing while nothing waits.
  std::optional<TimePoint> next_expiry() const;

  // DEAD ones too.
  std::size_t datagrams() const;
  // The memory that fragments hold.
  std::size_t size_bytes() const;
  // Beside that of fragments.
  std::size_t memory() const;

  const Losses& losses() const { return losses_; }
  // Since the last time they were taken.
  Losses take_losses() { return std::exchange(losses_, {}); }

 private:
  struct State;

  Limits limits_;
  FlowHashKey key_;
  Losses losses_;
  std::unique_ptr<State> state_;
};

}  // namespace penstock
