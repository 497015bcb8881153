#include "net/outer_address.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "net/socket_address.h"

namespace penstock::net {
namespace {

// Well inside the internet, and no address that a machine has blocked as a bogon: a.root-servers.net.
constexpr const char* kFar4 = "198.41.0.4";
constexpr const char* kFar6 = "2001:503:ba3e::2:30";

constexpr int kReadsPerTurn = 64;

}  // namespace

std::optional<IpAddress> outer_address(Family family) {
  const bool v4 = family == Family::ipv4;
  const FileDescriptor fd(::socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return std::nullopt;
  const SocketAddress far(Endpoint{IpAddress::parse(v4 ? kFar4 : kFar6).value(), 53});
  if (::connect(fd.get(), far.get(), far.size) != 0) return std::nullopt;
  const IpAddress local = local_endpoint(fd.get()).address;
  if (local.family() != family || local.is_unspecified() || local.is_loopback()) return std::nullopt;
  return local;
}

Result<std::unique_ptr<AddressWatch>> AddressWatch::create(EventLoop& loop, std::function<void()> changed) {
  FileDescriptor fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!fd) return fail_errno("watching the addresses of this machine", errno);
  sockaddr_nl groups{};
  groups.nl_family = AF_NETLINK;
  groups.nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&groups), sizeof groups) != 0)
    return fail_errno("watching the addresses of this machine", errno);
  return std::unique_ptr<AddressWatch>(new AddressWatch(loop, std::move(fd), std::move(changed)));
}

AddressWatch::AddressWatch(EventLoop& loop, FileDescriptor fd, std::function<void()> changed)
    : fd_(std::move(fd)), changed_(std::move(changed)), settle_(loop), watch_(loop.watch(fd_.get())) {
  watch_->when_readable([this] { read_turn(); });
}

// What has changed is not read out of the messages but looked up afterwards: some may have been lost (ENOBUFS).
void AddressWatch::read_turn() {
  std::array<char, 8192> message{};
  for (int i = 0; i < kReadsPerTurn; ++i) {
    if (::recv(fd_.get(), message.data(), message.size(), MSG_DONTWAIT) < 0 && errno != ENOBUFS) break;
  }
  if (!settle_.running()) settle_.start(kSettle, [this] { changed_(); });
  watch_->when_readable([this] { read_turn(); });
}

}  // namespace penstock::net
