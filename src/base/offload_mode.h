// How much of a packet's work is left to the machine's kernel and to the other side: vpn.offload.
#pragma once

#include <cstdint>

namespace penstock {

enum class OffloadMode : std::uint8_t {
  off,       // nothing: packets one at a time, with finished checksums
  gso,       // checksums and the super-packets of TCP
  uso,       // those of UDP besides, where the kernel has them (Linux 6.2)
  automatic  // as much as there is: today uso
};

}  // namespace penstock
