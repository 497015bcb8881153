// The outside as a packet device: what is translated leaves as packets of addresses of our own, which whoever stands
// behind the device brings on (a kernel that forwards or masquerades them, later a tunnel of somebody else's).
//
//   Nat --send_outbound()--> PacketGateway --write--> tun::Device --> whoever routes the outer addresses there
//   Nat <--from_outside()-- [ IP? -> whole? ] <--read-- tun::Device <--
//
// Nothing is invented and nothing forgotten on the way: identifications, options, flow labels, quoted packets pass as
// they are, which sockets cannot say of themselves (socket_gateway.h). The numbers that the outer ends have are those
// of numbered_ports.h.
//
//   STOPPED --start()--> READING --stop()--> STOPPED
//                           '--the device is gone--> LOST: nothing comes in any more, what is sent is refused
//
// Whole       what comes in fragments is put together (RFC 4787 REQ-14), since only the first has ports. IPv6 that came
//             in fragments from its sender goes out in fragments again, of 1280 bytes: no router on the way may cut it
//             (RFC 8200 section 5). IPv4 is cut by whoever needs it smaller.
// TCP         passes as everything else does: no connection ends here, so nothing is said of one that is over, nobody's
//             credit is asked for, and what is remembered of it goes with its timeouts.
// Offloads    super-packets and partial checksums go to the device as they are; it cuts what it does not take whole.
// Ownership   borrows loop, device and random, which outlive it; Inside from start() to stop().
// Threads     its loop's.
// Not here    making and configuring the device, and who routes what into it (tun/).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/event_loop.h"
#include "base/random.h"
#include "egress/nat/external_gateway.h"
#include "packet/reassembly.h"
#include "tun/device.h"

namespace penstock::egress {

class PacketGateway final : public ExternalGateway {
 public:
  // Packets and bytes read in one turn, so that a busy device does not starve the sockets.
  static constexpr std::size_t kBatch = 256;
  static constexpr std::size_t kBatchBytes = std::size_t{256} * 1024;

  // Of what comes in, and all of it is one owner's.
  static constexpr Reassembler::Limits kFragments{
      .bytes = std::size_t{4} << 20, .datagrams = 1024, .owner_bytes = std::size_t{4} << 20, .owner_datagrams = 1024};

  struct Counters {
    std::uint64_t refused = 0;    // packets that the device did not take, in segments
    std::uint64_t stopped = 0;    // packets that were sent while this was not running, in segments
    std::uint64_t malformed = 0;  // from the device, and no IP
  };

  // `lost` is called once, from the loop, when the device is gone. `random` is for IPv6 identifications (RFC 7739).
  PacketGateway(EventLoop& loop, tun::Device& device, Random& random, const FlowHashKey& fragments,
                std::move_only_function<void(Error)> lost);
  ~PacketGateway() override;

  Result<void> start(Inside& inside) override;
  void send_outbound(std::vector<OutboundPacket>& batch) override;
  void stop() override;

  const Counters& counters() const { return counters_; }
  const Reassembler::Losses& fragment_losses() const { return fragments_.losses(); }

 private:
  void read_turn();
  void come_in(Packet&& packet);
  void expire_fragments();
  void write(Packet& packet);
  void write_in_fragments(Packet& packet);

  EventLoop* loop_;
  tun::Device* device_;
  Random* random_;
  std::move_only_function<void(Error)> lost_;
  Inside* inside_ = nullptr;
  std::unique_ptr<Watch> watch_;
  Reassembler fragments_;
  Timer expiry_;
  PacketBatch read_;
  PacketBatch whole_;
  Counters counters_;
};

}  // namespace penstock::egress
