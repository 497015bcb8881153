// The outside of a translator: carries packets from and to its outer ends.
//
//   Nat --[packets from outer ends]--> ExternalGateway --> sockets of this machine, or a device of its own address
//   Nat <--[packets to outer ends]---- ExternalGateway <-- the internet
//
// What travels here are whole IP packets, so that whoever stands outside can be exchanged: sockets without any
// privilege (socket_gateway.h), a packet device, a tunnel of somebody else's. Super-packets and partial checksums
// travel too.
//
//   STOPPED --start()--> RUNNING --stop()--> STOPPED
//
// Threads     those of the Nat.
// Ownership   borrows Inside from start() to stop().
#pragma once

#include <vector>

#include "base/result.h"
#include "egress/nat/external_ports.h"
#include "packet/packet.h"

namespace penstock::egress {

struct OutboundPacket {
  Packet packet;
  Binding binding;  // of the mapping whose outer end it comes from
};

class ExternalGateway {
 public:
  class Inside {
   public:
    // Packets to outer ends, whole and with true headers, and ICMP errors about what came from them; leaves `batch`
    // empty.
    virtual void from_outside(PacketBatch& batch) = 0;

   protected:
    ~Inside() = default;
  };

  virtual ~ExternalGateway() = default;

  virtual Result<void> start(Inside& inside) = 0;
  // Takes every packet and leaves `batch` empty. What cannot be sent is dropped there and counted; what the sender
  // should know of it comes back by Inside as an ICMP error.
  virtual void send_outbound(std::vector<OutboundPacket>& batch) = 0;
  virtual void stop() = 0;
};

}  // namespace penstock::egress
