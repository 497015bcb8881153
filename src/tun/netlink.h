// Links, addresses and routes of one network namespace, asked for and changed through rtnetlink (rtnetlink(7)).
//
// Every call is synchronous: it returns when the kernel has done it, or with the kernel's own words (extended
// acknowledgements) in a message that names the interface and the address or route. Nothing is remembered here;
// interface.h keeps what was configured.
//
// Always true    a Netlink speaks for the namespace of the thread that created it, whatever that thread does later.
// Threads        one at a time.
// Units          an MTU counts bytes of IP packet; a prefix length counts bits.
// Refusals       not_found (no such interface, address or route), permission_denied (no CAP_NET_ADMIN, or IPv6 is
//                disabled), address_in_use (it exists already: the message says where), otherwise as errno says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.h"
#include "base/result.h"

struct mnl_socket;
struct nlmsghdr;  // NOLINT(readability-identifier-naming): the kernel's

namespace penstock::tun {

// An interface as the kernel describes it.
struct LinkInfo {
  int index = 0;
  std::string name;
  std::string kind;  // "tun" (TUN and TAP alike), "veth", "dummy", "bridge", ...; empty for hardware and loopback
  bool up = false;   // as configured by somebody, whether or not there is a carrier
  int mtu = 0;

  // Only where kind is "tun".
  bool is_tap = false;
  bool persistent = false;
  bool multi_queue = false;

  // "a TAP device", "a veth interface": for messages.
  std::string describe() const;
};

// An address on an interface with the length of its connected prefix: 10.100.0.1/24.
struct InterfaceAddress {
  IpAddress address;
  int prefix_length = 0;

  Prefix connected_prefix() const { return {address, prefix_length}; }
  std::string to_string() const;
  friend auto operator<=>(const InterfaceAddress&, const InterfaceAddress&) = default;
};

// A unicast route. On an interface without neighbours, as a TUN is, `via` stays empty.
struct Route {
  static constexpr std::uint32_t kMainTable = 254;  // RT_TABLE_MAIN

  Prefix destination;
  int index = 0;                        // of the interface it leaves by
  std::optional<std::uint32_t> metric;  // lower wins; without one the kernel's default: 0 for IPv4, 1024 for IPv6
  std::optional<IpAddress> via;
  std::uint32_t table = kMainTable;

  // "10.8.0.0/16 via 192.0.2.1 metric 50": without the interface.
  std::string to_string() const;
  friend auto operator<=>(const Route&, const Route&) = default;
};

class Netlink {
 public:
  static Result<std::unique_ptr<Netlink>> create();
  ~Netlink();
  Netlink(const Netlink&) = delete;
  Netlink& operator=(const Netlink&) = delete;

  // Links.
  Result<std::optional<LinkInfo>> find_link(const std::string& name);
  Result<void> set_mtu(int index, int mtu);
  Result<void> set_up(int index);
  Result<void> set_down(int index);
  Result<void> delete_link(int index);
  // What a point-to-point tunnel wants before it is up: no IPv6 link-local address made up by the kernel, whose
  // router solicitations would go down the tunnel, and an IPv4 address whose elder in the same subnet is removed takes
  // its place instead of vanishing with it (promote_secondaries).
  Result<void> set_tunnel_defaults(int index);

  // Addresses. An IPv6 address is usable at once: no duplicate address detection (RFC 4862 section 5.4). An IPv4
  // address brings the broadcast address of its subnet along.
  Result<void> add_address(int index, const IpAddress& address, int prefix_length);
  Result<void> remove_address(int index, const IpAddress& address, int prefix_length);
  // Both families, in the kernel's order.
  Result<std::vector<InterfaceAddress>> addresses(int index);

  // Routes. Adding never replaces: a route to the same prefix with the same metric is address_in_use.
  Result<void> add_route(const Route& route);
  Result<void> remove_route(const Route& route);
  // The unicast routes of all tables that leave by `index`, connected ones included; `metric` is always set, except
  // for an IPv4 route that has none.
  Result<std::vector<Route>> routes(int index);

 private:
  // What the kernel said to one request: an errno (0: done) and, where it has some, words of its own.
  struct Answer {
    int error = 0;
    std::string words;
  };
  using Visitor = std::function<void(const nlmsghdr*)>;

  explicit Netlink(mnl_socket* socket);
  // A request in buffer_, to be completed with its family's header and attributes and given to exchange().
  nlmsghdr* start_request(std::uint16_t type, std::uint16_t flags);
  nlmsghdr* start_link_request(int index, std::uint32_t flags, std::uint32_t flags_mask);
  nlmsghdr* start_address_request(std::uint16_t type, std::uint16_t flags, int index, const InterfaceAddress& address);
  nlmsghdr* start_route_request(std::uint16_t type, std::uint16_t flags, const Route& route);
  // Sends a request and shows each message of the answer to `visit`. Overwrites buffer_, the request with it.
  Answer exchange(nlmsghdr* request, const Visitor& visit = {});
  // The answer in full: asks again where the kernel says that the tables changed while they were read.
  Answer dump(const std::function<nlmsghdr*()>& start, const std::function<void()>& restart, const Visitor& visit);

  // "interface tun0", for messages.
  std::string label(int index);
  // Where the route that could not be added goes now: " via 192.0.2.1 on interface eth0", or nothing.
  std::string holder_of(const Route& route);
  // By every interface where `index` is 0.
  Result<std::vector<Route>> routes_of(Family family, int index);

  mnl_socket* socket_;
  std::uint32_t sequence_ = 0;
  std::vector<std::uint8_t> buffer_;
};

}  // namespace penstock::tun
