// What a client has of what was sent to it, beyond what it has acknowledged in a row, and what of the rest is lost
// (RFC 2018, RFC 6675).
//
//    una                 sent up to                      lost_end()     nxt
//     |  lost, sent again  |  lost  |#sacked#|  lost  |#####|   .........   |
//                          ^ next_hole()                      on their way
//
// Lost        below lost_end() all that was not SACKed is lost. It is moved by SACKs (more than two segments' worth of
//             bytes above have arrived, RFC 6675 section 4, IsLost), by duplicate ACKs of a client without SACK
//             (RFC 6582: one segment), and by a timeout (everything).
// Sent again  from the front, each hole once; who loses a segment twice waits for the timeout.
// Bounds      kMostRanges; what a client SACKs beyond is passed over, which costs a retransmission.
// Memory      12 bytes a range, none while nothing is out of order.
// Threads     one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "egress/tcp/sequence.h"
#include "packet/tcp_segment.h"

namespace penstock::egress {

class Scoreboard {
 public:
  static constexpr std::size_t kMostRanges = 128;
  static constexpr std::uint32_t kDuplicates = 3;  // RFC 5681 section 3.2, RFC 6675 DupThresh

  // Everything before `una` has arrived.
  void start(Sequence una);
  void acknowledged(Sequence una);
  // True where it says something new. Blocks outside of [una, nxt] are passed over: D-SACK (RFC 2883), or nonsense.
  bool sacked(std::span<const SackBlock> blocks, Sequence una, Sequence nxt);
  // What arrived above it makes this much lost; true where that is more than before.
  bool find_lost(std::uint32_t segment);
  // Of a client without SACK: the segment at the front is lost.
  void lose_first(Sequence una, std::uint32_t segment, Sequence nxt);
  // Nothing was heard: all of it is to be sent again, but for what was SACKed. `forget`: that too, for who SACKed and
  // then does not acknowledge may have thrown it away (RFC 2018 section 8).
  void lose_all(Sequence una, Sequence nxt, bool forget);
  // Nothing is lost after all.
  void lose_nothing(Sequence una);

  // What is lost and was not sent again, the first of it in a row.
  std::optional<SackBlock> next_hole() const;
  void sent_again(Sequence end) { again_ = end; }

  // Bytes that are on their way, of [una, nxt).
  std::uint32_t in_flight(Sequence una, Sequence nxt) const;
  bool any_sacked() const { return !ranges_.empty(); }
  bool anything_lost(Sequence una) const { return is_after(lost_end_, una); }
  Sequence lost_end() const { return lost_end_; }
  std::size_t memory() const { return ranges_.capacity() * sizeof(SackBlock); }

 private:
  // Of [from, to) what was not SACKed.
  std::uint32_t unsacked(Sequence from, Sequence to) const;

  std::vector<SackBlock> ranges_;  // in order, apart from each other
  std::uint32_t sacked_bytes_ = 0;
  Sequence lost_end_ = 0;
  Sequence again_ = 0;  // what is lost before it was sent again
};

}  // namespace penstock::egress
