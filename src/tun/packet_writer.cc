#include "tun/packet_writer.h"

#include <cerrno>
#include <utility>

#include "packet/super_packet.h"
#include "tun/vnet_header.h"

namespace penstock::tun {
namespace {

std::size_t most_segments(Offload::Gso gso) {
  const bool udp = gso == Offload::Gso::udp4 || gso == Offload::Gso::udp6;
  return udp ? kMaxUdpSegments : kMaxTcpSegments;
}

}  // namespace

bool PacketWriter::write(Packet& packet) {
  if (packet.empty()) return false;
  // Also where it is segmented at once: a hostile segment size is not to cost memory for all segments together.
  const std::size_t most = most_segments(packet.offload.gso);
  return write_within_bound(packet, (segments_of(packet) + most - 1) / most, most);
}

// `pieces` of `most` segments each, but for the last. By halves: to take one piece after the other off the front would
// copy the rest of it a thousand times.
bool PacketWriter::write_within_bound(Packet& packet, std::size_t pieces, std::size_t most) {
  if (pieces == 1) return write_piece(packet);
  const std::size_t half = pieces / 2;
  Packet front = split_front(packet, half * most);
  const bool taken = write_within_bound(front, half, most);
  return write_within_bound(packet, pieces - half, most) && taken;
}

bool PacketWriter::write_as_it_lies(ByteView packet, const Offload& offload) {
  if (!with_header_ || packet.empty() || !takes_.has(offload.gso)) return false;
  if (offload.gso != Offload::Gso::none) {
    const std::size_t segments = segments_of(packet, offload);
    if (segments == 1 || segments > most_segments(offload.gso)) return false;
  }
  if (sink_(make_vnet_header(packet, offload), packet) != 0) return false;
  if (offload.gso != Offload::Gso::none) taken_.add(offload.gso);
  return true;
}

bool PacketWriter::write_piece(Packet& piece) {
  const Offload::Gso kind = piece.offload.gso;
  if (kind != Offload::Gso::none && segments_of(piece) == 1) {
    piece.offload.gso = Offload::Gso::none;
    piece.offload.segment_size = 0;
  }
  if (piece.offload.gso == Offload::Gso::none) return hand_over(piece) == 0;
  if (!takes_.has(kind)) return write_in_segments(piece);

  const int error = hand_over(piece);
  if (error == 0) taken_.add(kind);
  if (error != EINVAL) return error == 0;
  ++refused_whole_;
  if (!taken_.has(kind)) takes_.remove(kind);
  return write_in_segments(piece);
}

bool PacketWriter::write_in_segments(Packet& piece) {
  segments_.clear();
  segment(std::move(piece), segments_);
  bool taken = true;
  for (Packet& packet : segments_) taken = hand_over(packet) == 0 && taken;
  segments_.clear();
  return taken;
}

int PacketWriter::hand_over(Packet& packet) {
  if (with_header_) return sink_(make_vnet_header(packet.bytes(), packet.offload), packet.bytes());
  finish_checksum(packet);
  return sink_({}, packet.bytes());
}

}  // namespace penstock::tun
