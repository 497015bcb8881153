// The client's end of the virtual network on this machine: an interface with addresses and routes that packets go
// through. A seam: linux/ has the TUN device, windows/ will have Wintun, tests have one in memory.
//
// Threads     the client's loop.
#pragma once

#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "packet/packet.h"

namespace penstock::client {

struct TunnelSettings {
  // Each with the length of its subnet, which the machine routes to the interface.
  std::vector<std::pair<IpAddress, int>> addresses;
  std::vector<Prefix> routes;  // more prefixes to send into the tunnel
  // Subnets behind this machine: packets to them come out of the tunnel, and the machine is to forward them.
  std::vector<Prefix> sites;
  int mtu = 0;  // bytes
  friend bool operator==(const TunnelSettings&, const TunnelSettings&) = default;
};

class Tunnel {
 public:
  virtual ~Tunnel() = default;

  // What is wanted now; what is already so stays untouched. The message of a refusal names the setting.
  virtual Result<void> configure(const TunnelSettings& settings) = 0;
  // The interface's own, in bytes: what was configured, unless somebody set another.
  virtual int mtu() const = 0;
  // Appends packets that the machine wants sent: at most `max_packets`, and none more once they have `max_bytes`
  // together. 0: none now. Refusal: the interface is gone.
  virtual Result<std::size_t> read(PacketBatch& into, std::size_t max_packets, std::size_t max_bytes) = 0;
  // Takes super-packets and partial checksums too. Uses the packet up: afterwards it may be in pieces or empty. False:
  // the machine refused it or a part of it.
  virtual bool write(Packet& packet) = 0;
  // The same of a packet that is not a Packet, if nothing has to be done to it first. False: nothing was written, and a
  // copy of it is for write().
  virtual bool write_as_it_lies(ByteView packet, const Offload& offload) = 0;
  // The super-packets that write() hands to the machine whole.
  virtual GsoKinds takes() const = 0;
  // Runs `task` once, as soon as read() has something to say.
  virtual void when_readable(Task task) = 0;
};

}  // namespace penstock::client
