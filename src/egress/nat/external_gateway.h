// The outside of a translator: carries packets from and to its outer ends.
//
//   Nat --[packets from outer ends]--> ExternalGateway --> sockets of this machine, or a device of its own address
//   Nat <--[packets to outer ends]---- ExternalGateway <-- the internet
//
// What travels here are whole IP packets, so that whoever stands outside can be exchanged: sockets without any
// privilege (socket_gateway.h), a packet device, a tunnel of somebody else's. Super-packets and partial checksums
// travel too.
//
// Credit      whoever stands outside and can wait (a connection whose bytes lie in a socket) asks what the queue of its
//             client takes before it makes packets (router/port.h). A client is named by its outer end, as everywhere
//             here.
//
//   STOPPED --start()--> RUNNING --stop()--> STOPPED
//
// Threads     those of the Nat.
// Ownership   borrows Inside from start() to stop().
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "egress/nat/external_ports.h"
#include "packet/packet.h"
#include "router/port.h"
#include "router/port_id.h"

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
    // A conversation of TCP is over, and nothing more of it will come. For a gateway that ends connections and so
    // knows; one that carries packets leaves it to the timeouts. May release() the outer end inside; nothing happens
    // where none such is remembered.
    virtual void closed(const Endpoint& external, const Endpoint& remote) = 0;

    // What may be sent now to whoever has this outer end without a loss in a queue of ours, in bytes of
    // Packet::footprint(); SIZE_MAX where no such queue is known: on another shard, or where nobody has it, so that
    // nobody waits for somebody who is gone.
    virtual std::size_t credit(const Endpoint& external, Transport transport) = 0;
    // `waiter` is told once there is credit again, or never, where credit() knows no queue or whoever has it goes. The
    // name of where it waits, for cancel_wait(), which does nothing where that is gone.
    virtual router::PortId wait_for_credit(const Endpoint& external, Transport transport,
                                           router::CreditWaiter& waiter) = 0;
    virtual void cancel_wait(router::PortId port, router::CreditWaiter& waiter) = 0;

   protected:
    ~Inside() = default;
  };

  virtual ~ExternalGateway() = default;

  virtual Result<void> start(Inside& inside) = 0;
  // Takes every packet and leaves `batch` empty. What cannot be sent is dropped there and counted; what the sender
  // should know of it comes back by Inside as an ICMP error.
  virtual void send_outbound(std::vector<OutboundPacket>& batch) = 0;
  // Whoever has these conversations of TCP (outer end, remote end) was away, and can be reached again: for a gateway
  // that ends connections, which need not wait out its timers.
  virtual void reached(std::span<const std::pair<Endpoint, Endpoint>> /*conversations*/) {}
  // Ends all conversations of TCP that it has, and tells both ends: the gateway goes.
  virtual void end_connections() {}
  virtual void stop() = 0;
};

}  // namespace penstock::egress
