// A TUN device as the data path sees it: whole IP packets in, whole IP packets out, and nothing ever blocks.
//
//   the kernel's routing  --read()-->   the exit or the client
//                         <--write()--
//
// A seam: device_linux.h opens the kernel's device, fake_device.h is one in memory for tests of other rooms. Addresses,
// routes and MTU are not set here but by interface.h.
//
// Always true    a packet is handed out once and whole, and in the kernel's order.
// Readiness      handle() becomes readable when packets wait, and also when the device has gone, so that the next
//                read() says so. Writing never waits: there is nothing to watch for.
// Ownership      the Device owns its handle; a Watch on the handle must be destroyed before the Device.
// Threads        one at a time: the loop that watches the handle.
#pragma once

#include <cstddef>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "packet/packet.h"

namespace penstock::tun {

class Device {
 public:
  // Closes. A device that this process created vanishes with it, and so do its addresses and routes.
  virtual ~Device() = default;

  // Appends up to `max` packets that are waiting to `into` and returns how many; 0: nothing now. Refusal: closed, the
  // device has been deleted and will give nothing more.
  virtual Result<std::size_t> read(PacketBatch& into, std::size_t max) = 0;

  // Hands one packet to the kernel. False: the kernel refused this one (the interface is down or gone, the packet is
  // not IP, memory is short) and the caller counts a drop.
  virtual bool write(const Packet& packet) = 0;

  virtual NativeHandle handle() const = 0;
  // The interface's name and number as they were when the device was opened.
  virtual const std::string& name() const = 0;
  virtual int index() const = 0;
};

}  // namespace penstock::tun
