// Hands packets to the kernel in the largest form that it takes: whole super-packets, or the packets they stand for.
//
//   super-packet --more segments than a kernel takes?--> halved until the pieces are within the bound, each:
//       kind taken     --> [header | piece] in one write;  EINVAL --> segment(), one write each
//       kind not taken --> segment(), one write each
//   other packet       --> its checksum left to the kernel where it can, finished here else; one write
//
// A super-packet of a single segment is none: it goes as an ordinary packet, and no kernel sees an odd segment_size.
//
// EINVAL         The header is built here from headers that were checked, so a refusal speaks of the kernel and not of
//                the packet. A kind that is refused before one of it was ever taken is not tried again; of a kind that
//                was taken before, the next one is tried whole, so that no single packet slows all others down.
// Always true    what is written is what was handed in: the same packets, in the same order.
// Not here       the descriptor (device_linux.cc): a Sink, so that tests stand in for the kernel.
// Threads        one at a time.
#pragma once

#include <cstdint>
#include <functional>

#include "base/bytes.h"
#include "packet/packet.h"

namespace penstock::tun {

class PacketWriter {
 public:
  // Hands over one packet behind its virtio_net_hdr, which is empty where the device has none; 0 or an errno.
  using Sink = std::function<int(ByteView header, ByteView packet)>;

  // A device without a header does no work for us.
  static PacketWriter plain(Sink sink) { return {std::move(sink), false, {}}; }
  // With a virtio_net_hdr: checksums, and the super-packets of these kinds.
  static PacketWriter with_offloads(Sink sink, GsoKinds takes) { return {std::move(sink), true, takes}; }

  // Anything that check_offload() says yes to; it may be in pieces and without an offload afterwards. False: the kernel
  // refused it, or a part of it.
  bool write(Packet& packet);
  // The same of a packet that is not a Packet, where nothing has to be done to it first. False: something has, or the
  // kernel refused it; then a copy of it is for write().
  bool write_as_it_lies(ByteView packet, const Offload& offload);

  GsoKinds takes() const { return takes_; }
  // How many super-packets of a kind that it takes the kernel refused, so that they went in segments.
  std::uint64_t refused_whole() const { return refused_whole_; }

 private:
  PacketWriter(Sink sink, bool with_header, GsoKinds takes)
      : sink_(std::move(sink)), with_header_(with_header), takes_(takes) {}

  bool write_within_bound(Packet& packet, std::size_t pieces, std::size_t most);
  bool write_piece(Packet& piece);
  bool write_in_segments(Packet& piece);
  int hand_over(Packet& packet);

  Sink sink_;
  bool with_header_;
  GsoKinds takes_;
  GsoKinds taken_;  // kinds that the kernel has taken already
  std::uint64_t refused_whole_ = 0;
  PacketBatch segments_;
};

}  // namespace penstock::tun
