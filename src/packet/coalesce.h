// Puts packets that follow each other in a flow together into super-packets (GRO in software), for a receiver to whom
// one large packet costs less than many small ones: a TUN device.
//
//   [a1, b1, a2, ack, a3, b2]  --coalesce()-->  [a1 a2 a3, b1 b2, ack]
//
// Theory of operation
// -------------------
// A packet with payload opens a run of its flow; the next one of the flow that continues it joins; any other packet of
// the flow ends the run. What joined is copied together when the run ends, and stands where its first packet stood. A
// run of one packet is that packet, untouched: neither copied nor summed. To continue a run is
//
//   of one flow       the same addresses, ports and protocol, and metadata (who sent it, who answers, may_fragment)
//   adjacent          TCP: the next sequence number; IPv4: the next identification, or don't-fragment, with which
//                     identifications mean nothing (RFC 6864 section 4.1)
//   alike             the same TTL, traffic class, flow label, IPv4 flags; TCP: the same acknowledgement, window and
//                     options, no flag but ACK and PSH
//   of one size       each segment like those before, the last may be shorter and ends the run; so does PSH
//   intact            good checksums: a bad one stays as it is, since otherwise a good one would take its place
//   within bounds     64 KiB - 1 altogether, and kMaxTcpSegments or kMaxUdpSegments
//
// IPv4 options, fragments and extension headers never join. A super-packet joins with the segments that it stands for.
//
// Always true    segment() of what comes out is what segment() of what came in is, byte by byte (but for IPv4
//                identifications without meaning), and in the same order within each flow
//                (WhatIsCoalescedComesApartAgainByteByByte). Packets of other flows may overtake: a packet whose flow
//                cannot be told, as a fragment's, ends all runs.
// Memory         a run's packet comes from the free list of buffers; a Coalescer keeps a number for each packet of the
//                largest batch it saw. At most kOpenRuns runs at a time: one more ends the oldest.
// Threads        one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "packet/packet.h"
#include "packet/super_packet.h"

namespace penstock {

class Coalescer {
 public:
  static constexpr std::size_t kOpenRuns = 32;

  // `kinds`: the super-packets that the receiver takes. UDP only where its kernel segments it (USO).
  explicit Coalescer(GsoKinds kinds = {}) : kinds_(kinds) {}
  void set_kinds(GsoKinds kinds) { kinds_ = kinds; }

  // Merges in place; what joined another packet leaves the batch, which becomes shorter.
  void coalesce(PacketBatch& batch);

 private:
  // One packet as its run sees it.
  struct Candidate;
  struct Run {
    TransportView at;  // the same for all in it
    Offload::Gso kind = Offload::Gso::none;
    bool verified = false;  // the first packet's checksums are good
    bool push = false;
    bool complete = false;  // nothing may follow
    std::uint16_t segment_size = 0;
    std::uint32_t flow_hash = 0;
    std::uint32_t first = 0;  // places in the batch
    std::uint32_t last = 0;
    std::uint32_t next_sequence = 0;
    std::uint16_t next_identification = 0;
    std::uint32_t segments = 0;
    std::size_t size = 0;  // of the super-packet
  };

  void take(PacketBatch& batch, std::uint32_t place);
  Run* find(const PacketBatch& batch, const Candidate& candidate);
  static bool continues(const Run& run, const PacketBatch& batch, const Candidate& candidate);
  void join(Run& run, PacketBatch& batch, const Candidate& candidate);
  void open(PacketBatch& batch, const Candidate& candidate);
  static void advance(Run& run, const Packet& packet, const Candidate& candidate);
  void end(Run& run, PacketBatch& batch);
  void end_all(PacketBatch& batch);
  Packet merge(const Run& run, PacketBatch& batch) const;

  GsoKinds kinds_;
  std::array<Run, kOpenRuns> runs_;
  std::size_t open_ = 0;  // runs_[0..open_) are open
  bool merged_ = false;
  std::vector<std::uint32_t> next_;  // by place: the place of the packet behind it in its run
};

}  // namespace penstock
