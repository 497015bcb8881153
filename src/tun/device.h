// A TUN device as the data path sees it: whole IP packets in, whole IP packets out, and nothing ever blocks.
// Super-packets (packet/super_packet.h) come out of it and go into it where the kernel makes and takes them.
//
//   the kernel's routing  --read()-->   the exit or the client
//                         <--write()--
//
// A seam: device_linux.h opens the kernel's device, fake_device.h is one in memory for tests of other rooms. Addresses,
// routes and MTU are not set here but by interface.h.
//
// Always true    a packet is handed out once and whole, and in the kernel's order. check_offload() says yes to
//                each that has an offload; others are IP as far as the kernel says so, for the reader to parse.
// Readiness      handle() becomes readable when packets wait, and also when the device has gone, so that the next
//                read() says so. Writing never waits: there is nothing to watch for.
// Ownership      the Device owns its handle; a Watch on the handle must be destroyed before the Device.
// Threads        one at a time: the loop that watches the handle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/event_loop.h"
#include "base/offload_mode.h"
#include "base/result.h"
#include "packet/packet.h"

namespace penstock::tun {

struct DeviceCounters {
  std::uint64_t disbelieved = 0;    // packets of the kernel's, dropped: what it said of them did not fit them
  std::uint64_t refused_whole = 0;  // super-packets that the kernel did not take whole and got in segments
};

class Device {
 public:
  // Closes. A device that this process created vanishes with it, and so do its addresses and routes.
  virtual ~Device() = default;

  // Appends packets that are waiting to `into` and returns how many: at most `max_packets`, and none more once they
  // have `max_bytes` together, which the last may exceed. 0: nothing now (or what there was is counted as disbelieved;
  // handle() tells). Refusal: closed, the device has been deleted and will give nothing more.
  virtual Result<std::size_t> read(PacketBatch& into, std::size_t max_packets, std::size_t max_bytes) = 0;

  // Hands one packet to the kernel, of any kind that check_offload() says yes to: what the kernel does not take whole
  // is cut or segmented here. Uses the packet up: afterwards it may be in pieces or empty. False: the kernel refused it
  // or a part of it (the interface is down or gone, the packet is not IP, memory is short) and the caller counts a
  // drop.
  virtual bool write(Packet& packet) = 0;
  // The same of a packet that is not a Packet, if nothing has to be done to it first: spares the copy of a large one.
  // False: nothing was written, and a copy of it is for write().
  virtual bool write_as_it_lies(ByteView packet, const Offload& offload) = 0;

  // The super-packets that write() hands over whole. It may lose a kind when the kernel refuses the first one of it.
  virtual GsoKinds takes() const = 0;
  virtual DeviceCounters counters() const = 0;

  virtual NativeHandle handle() const = 0;
  // The interface's name and number as they were when the device was opened.
  virtual const std::string& name() const = 0;
  virtual int index() const = 0;
};

}  // namespace penstock::tun
