// Opens a TUN device of the Linux kernel through /dev/net/tun.
//
// What stands under the name decides what happens:
//
//   nothing                               a TUN is created; the kernel removes it when the Device is closed
//   a persistent TUN that nobody holds    it is used, and stays when the Device is closed
//   a TUN that somebody holds             refused, naming the process where /proc shows it
//   a TAP, a multi-queue TUN, or no TUN   refused, saying what it is
//
// Packets are bare IP (IFF_NO_PI). With offloads each has a virtio_net_hdr in front (vnet_header.h): the kernel's TCP
// then hands out, and takes, 64 KiB in one system call. A kernel without IFF_VNET_HDR works as OffloadMode::off, one
// without UDP super-packets (before 6.2) as OffloadMode::gso.
//
// A persistent device keeps what its last holder set, so all of it is set anew: size and byte order of the header, and
// the offloads; those are turned off again in the end (unless a system call filter forbids it by then), for whoever
// comes next and does not ask for the header.
//
// Threads     the device is made in the network namespace of the calling thread.
// Refusals    invalid_argument (the name), not_found (no /dev/net/tun), permission_denied (no CAP_NET_ADMIN),
//             address_in_use (the name is taken). Each message names vpn.interface_name or vpn.tun and the way out.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tun/device.h"

namespace penstock::tun {

struct DeviceOptions {
  std::string name;
  OffloadMode offload = OffloadMode::automatic;
};

Result<std::unique_ptr<Device>> open_device(const DeviceOptions& options);

// Whether Linux and its tools take `name` for an interface: 1 to 15 printable ASCII characters, none of them a space,
// '/', ':' or '%', and not ".", "..", "all" or "default" (those two name every interface under /proc/sys/net).
Result<void> check_interface_name(std::string_view name);

}  // namespace penstock::tun
