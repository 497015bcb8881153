// What has come from a client and not yet gone to its server: in order, as far as the server's socket has no room, and
// behind gaps.
//
//   put() --> [in a row: take_front(), written()]   gap   [piece] gap [piece] --the gap is filled--> in a row
//
// Pieces are the packets that they came in, not copied; small ones are joined, so that whoever sends a byte a packet
// does not hold a buffer for each.
//
// Always true   each byte is held once; pieces behind gaps are in order and apart.
// Bounds        the caller's window; kMostGaps pieces behind gaps, and more are refused.
// Threads       one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "egress/tcp/sequence.h"
#include "packet/packet.h"
#include "packet/tcp_segment.h"

namespace penstock::egress {

class Arrivals {
 public:
  static constexpr std::size_t kMostGaps = 64;

  void start(Sequence next) { next_ = next; }
  // The first byte that is missing.
  Sequence next() const { return next_; }
  // A FIN takes a number of its own; all before it has arrived.
  void skip_fin() { ++next_; }

  // The bytes [at, at + size) of `packet` are those from `first` on, and lie within the window. False: refused.
  bool put(Sequence first, Packet&& packet, std::size_t at, std::size_t size);

  // In a row and not yet written.
  std::size_t waiting() const { return waiting_; }
  // Views of them, the oldest first, at most `into.size()`; how many.
  std::size_t front(std::span<ByteView> into) const;
  void written(std::size_t bytes);

  bool has_gaps() const { return !behind_.empty(); }
  // Behind gaps, the one that was added to last first (RFC 2018 section 4).
  std::size_t sacks(std::span<SackBlock> into) const;

  // Memory of the packets that are held.
  std::size_t footprint() const { return footprint_; }
  std::size_t memory() const { return (row_.capacity() + behind_.capacity()) * sizeof(Piece); }
  void clear();

 private:
  struct Piece {
    Packet packet;
    Sequence first = 0;
    std::uint32_t at = 0;
    std::uint32_t size = 0;

    ByteView bytes() const { return packet.bytes().subspan(at, size); }
    Sequence end() const { return first + size; }
    void cut_front(std::uint32_t bytes) {
      first += bytes;
      at += bytes;
      size -= bytes;
    }
  };

  void append(Piece&& piece);
  void put_behind(Piece&& piece);

  std::vector<Piece> row_;
  std::size_t head_ = 0;  // of row_: written before it
  std::vector<Piece> behind_;
  Sequence next_ = 0;
  Sequence latest_ = 0;  // the piece behind a gap that came last begins here or before
  std::size_t waiting_ = 0;
  std::size_t footprint_ = 0;
};

}  // namespace penstock::egress
