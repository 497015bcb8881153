// The buffers that all datagram sockets of a loop receive into, one after another, so that an idle socket holds none.
//
//   | headroom | datagram 0 ...      | headroom | datagram 1 ...      |  ...  kSlots of them
//
// Each slot takes the largest datagram there is, and the kernel fills as many as are waiting in one call. Memory of a
// slot that nothing large was ever received into is never touched, so the arena takes 2 MiB of addresses and, while
// only plain datagrams come, some 150 KiB of memory. What is in front of a datagram may be written: room for the IP and
// UDP headers that make a packet of it.
//
// Ownership   what receive() and take_errors() return lives here, until the next of either with this arena.
// Threads     one at a time: one arena a loop.
#pragma once

#include <cstddef>
#include <memory>

#include "base/bytes.h"

namespace penstock::net {

class DatagramArena {
 public:
  static constexpr std::size_t kSlots = 32;
  static constexpr std::size_t kHeadroom = 64;
  // The largest that UDP can carry, and what the kernel puts together at most.
  static constexpr std::size_t kSlotSize = 65536;

  DatagramArena();
  ~DatagramArena();
  DatagramArena(const DatagramArena&) = delete;
  DatagramArena& operator=(const DatagramArena&) = delete;

  // Allocated once. Defined in datagram_socket.cc, where the system's types are known.
  struct Slots;
  Slots& slots() { return *slots_; }

 private:
  std::unique_ptr<Slots> slots_;
};

}  // namespace penstock::net
