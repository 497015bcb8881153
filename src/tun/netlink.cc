#include "tun/netlink.h"

// net/if.h first: the kernel's own header then leaves out what both define.
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/ip.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace penstock::tun {
namespace {

// The kernel fills up to 32 KiB of a dump at a time, and no more.
constexpr std::size_t kBufferSize = 32768;
constexpr int kDumpAttempts = 5;
// RFC 4861 leaves the choice to the system; Linux gives a route without a metric this one (IP6_RT_PRIO_USER).
constexpr std::uint32_t kDefaultMetric6 = 1024;

template <typename Header>
Header* put_header(nlmsghdr* message) {
  return static_cast<Header*>(mnl_nlmsg_put_extra_header(message, sizeof(Header)));
}
template <typename Header>
const Header* header_of(const nlmsghdr* message) {
  return static_cast<const Header*>(mnl_nlmsg_get_payload(message));
}

// Calls visit(type, attribute) for every attribute from `first` up to `end`. libmnl's own loops are macros for C.
template <typename Visit>
void for_each_attribute(const void* first, const void* end, Visit visit) {
  const auto* at = static_cast<const nlattr*>(first);
  const auto left = [&] { return static_cast<int>(static_cast<const char*>(end) - reinterpret_cast<const char*>(at)); };
  for (; mnl_attr_ok(at, left()); at = mnl_attr_next(at)) visit(mnl_attr_get_type(at), at);
}
template <typename Header, typename Visit>
void for_each_attribute_of(const nlmsghdr* message, Visit visit) {
  for_each_attribute(mnl_nlmsg_get_payload_offset(message, sizeof(Header)), mnl_nlmsg_get_payload_tail(message), visit);
}
template <typename Visit>
void for_each_nested(const nlattr* nest, Visit visit) {
  const auto* first = static_cast<const char*>(mnl_attr_get_payload(nest));
  for_each_attribute(first, first + mnl_attr_get_payload_len(nest), visit);
}

void put_address(nlmsghdr* message, std::uint16_t type, const IpAddress& address) {
  mnl_attr_put(message, type, address.bytes().size(), address.bytes().data());
}
IpAddress address_in(const nlattr* attribute) {
  return IpAddress::from_bytes(
      {static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute)), mnl_attr_get_payload_len(attribute)});
}
bool fits(const nlattr* attribute, Family family) {
  return mnl_attr_get_payload_len(attribute) == (family == Family::ipv4 ? 4 : 16);
}

std::uint8_t native_family(Family family) { return family == Family::ipv4 ? AF_INET : AF_INET6; }

void read_tun_data(const nlattr* data, LinkInfo& link) {
  for_each_nested(data, [&](std::uint16_t type, const nlattr* value) {
    if (type == IFLA_TUN_TYPE) link.is_tap = mnl_attr_get_u8(value) == IFF_TAP;
    if (type == IFLA_TUN_PERSIST) link.persistent = mnl_attr_get_u8(value) != 0;
    if (type == IFLA_TUN_MULTI_QUEUE) link.multi_queue = mnl_attr_get_u8(value) != 0;
  });
}

LinkInfo read_link(const nlmsghdr* message) {
  const auto* header = header_of<ifinfomsg>(message);
  LinkInfo link{.index = header->ifi_index, .up = (header->ifi_flags & IFF_UP) != 0};
  const nlattr* data = nullptr;
  for_each_attribute_of<ifinfomsg>(message, [&](std::uint16_t type, const nlattr* value) {
    if (type == IFLA_IFNAME) link.name = mnl_attr_get_str(value);
    if (type == IFLA_MTU) link.mtu = static_cast<int>(mnl_attr_get_u32(value));
    if (type != IFLA_LINKINFO) return;
    for_each_nested(value, [&](std::uint16_t info_type, const nlattr* info) {
      if (info_type == IFLA_INFO_KIND) link.kind = mnl_attr_get_str(info);
      if (info_type == IFLA_INFO_DATA) data = info;
    });
  });
  if (link.kind == "tun" && data != nullptr) read_tun_data(data, link);
  return link;
}

// None for what is no unicast route: the kernel's local, broadcast, multicast and cached ones.
std::optional<Route> read_route(const nlmsghdr* message) {
  const auto* header = header_of<rtmsg>(message);
  if (header->rtm_type != RTN_UNICAST || (header->rtm_flags & RTM_F_CLONED) != 0) return std::nullopt;
  if (header->rtm_family != AF_INET && header->rtm_family != AF_INET6) return std::nullopt;
  const Family family = header->rtm_family == AF_INET ? Family::ipv4 : Family::ipv6;
  IpAddress destination = family == Family::ipv4 ? IpAddress() : IpAddress::from_bytes(std::array<std::uint8_t, 16>{});
  Route route{.table = header->rtm_table};
  for_each_attribute_of<rtmsg>(message, [&](std::uint16_t type, const nlattr* value) {
    if (type == RTA_DST && fits(value, family)) destination = address_in(value);
    if (type == RTA_OIF) route.index = static_cast<int>(mnl_attr_get_u32(value));
    if (type == RTA_PRIORITY) route.metric = mnl_attr_get_u32(value);
    if (type == RTA_GATEWAY && fits(value, family)) route.via = address_in(value);
    if (type == RTA_TABLE) route.table = mnl_attr_get_u32(value);
  });
  if (route.table == RT_TABLE_LOCAL) return std::nullopt;
  route.destination = Prefix(destination, header->rtm_dst_len);
  return route;
}

std::uint32_t effective_metric(const Route& route) {
  return route.metric.value_or(route.destination.is_v4() ? 0 : kDefaultMetric6);
}

// The words of an extended acknowledgement, which follow the error and, unless it was capped, the request.
std::string extended_words(const nlmsghdr* message) {
  std::string words;
  if ((message->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return words;
  const auto* error = header_of<nlmsgerr>(message);
  std::size_t offset = sizeof(nlmsgerr);
  if ((message->nlmsg_flags & NLM_F_CAPPED) == 0) offset += mnl_nlmsg_get_payload_len(&error->msg);
  for_each_attribute(mnl_nlmsg_get_payload_offset(message, offset), mnl_nlmsg_get_payload_tail(message),
                     [&](std::uint16_t type, const nlattr* value) {
                       if (type == NLMSGERR_ATTR_MSG) words = mnl_attr_get_str(value);
                     });
  return words;
}

std::unexpected<Error> refusal(const std::string& what, int error, const std::string& words) {
  auto refused = fail_errno(what, error);
  if (!words.empty()) refused.error().message += " (" + words + ")";
  if (error == EPERM) refused.error().message += ": this needs CAP_NET_ADMIN; run as root";
  if (error == ESRCH || error == EADDRNOTAVAIL) refused.error().code = ErrorCode::not_found;
  return refused;
}

}  // namespace

std::string LinkInfo::describe() const {
  if (kind == "tun" && is_tap) return "a TAP device (Ethernet frames, not IP packets)";
  if (kind == "tun" && multi_queue) return "a multi-queue TUN device";
  if (kind == "tun") return persistent ? "a persistent TUN device" : "a TUN device";
  return kind.empty() ? "a network interface of this machine" : "an interface of kind " + kind;
}

std::string InterfaceAddress::to_string() const { return address.to_string() + "/" + std::to_string(prefix_length); }

std::string Route::to_string() const {
  std::string text = destination.to_string();
  if (via) text += " via " + via->to_string();
  if (metric) text += " metric " + std::to_string(*metric);
  if (table != kMainTable) text += " table " + std::to_string(table);
  return text;
}

Result<std::unique_ptr<Netlink>> Netlink::create() {
  mnl_socket* socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
  if (socket == nullptr) return fail_errno("cannot open a netlink socket", errno);
  std::unique_ptr<Netlink> netlink(new Netlink(socket));
  if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) return fail_errno("cannot bind a netlink socket", errno);
  // Both are improvements where the kernel has them: words for errors, and dumps of one interface's routes only.
  int on = 1;
  static_cast<void>(mnl_socket_setsockopt(socket, NETLINK_EXT_ACK, &on, sizeof on));
  static_cast<void>(mnl_socket_setsockopt(socket, NETLINK_GET_STRICT_CHK, &on, sizeof on));
  return netlink;
}

Netlink::Netlink(mnl_socket* socket) : socket_(socket), buffer_(kBufferSize) {}

Netlink::~Netlink() { mnl_socket_close(socket_); }

nlmsghdr* Netlink::start_request(std::uint16_t type, std::uint16_t flags) {
  nlmsghdr* request = mnl_nlmsg_put_header(buffer_.data());
  request->nlmsg_type = type;
  request->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  request->nlmsg_seq = ++sequence_;
  return request;
}

Netlink::Answer Netlink::exchange(nlmsghdr* request, const Visitor& visit) {
  const std::uint32_t sequence = request->nlmsg_seq;
  if (mnl_socket_sendto(socket_, request, request->nlmsg_len) < 0) return {.error = errno};
  bool changed_meanwhile = false;
  while (true) {
    const ssize_t received = mnl_socket_recvfrom(socket_, buffer_.data(), buffer_.size());
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) return {.error = errno};
    int left = static_cast<int>(received);
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer_.data()); mnl_nlmsg_ok(message, left);
         message = mnl_nlmsg_next(message, &left)) {
      // The rest of an answer to an earlier request, which was given up.
      if (message->nlmsg_seq != sequence) continue;
      if ((message->nlmsg_flags & NLM_F_DUMP_INTR) != 0) changed_meanwhile = true;
      if (message->nlmsg_type == NLMSG_DONE) {
        const int error = mnl_nlmsg_get_payload_len(message) >= sizeof(int) ? -*header_of<int>(message) : 0;
        return {.error = error == 0 && changed_meanwhile ? EAGAIN : error};
      }
      if (message->nlmsg_type == NLMSG_ERROR)
        return {.error = -header_of<nlmsgerr>(message)->error, .words = extended_words(message)};
      if (visit) visit(message);
    }
  }
}

Netlink::Answer Netlink::dump(const std::function<nlmsghdr*()>& start, const std::function<void()>& restart,
                              const Visitor& visit) {
  Answer answer;
  for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
    restart();
    answer = exchange(start(), visit);
    if (answer.error != EAGAIN) break;
  }
  return answer;
}

// --- Links

Result<std::optional<LinkInfo>> Netlink::find_link(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ) return std::nullopt;
  nlmsghdr* request = start_request(RTM_GETLINK, NLM_F_ACK);
  put_header<ifinfomsg>(request);
  mnl_attr_put_strz(request, IFLA_IFNAME, name.c_str());
  std::optional<LinkInfo> link;
  const Answer answer = exchange(request, [&](const nlmsghdr* message) { link = read_link(message); });
  if (answer.error == ENODEV) return std::nullopt;
  if (answer.error != 0) return refusal("cannot look up interface " + name, answer.error, answer.words);
  return link;
}

std::string Netlink::label(int index) {
  nlmsghdr* request = start_request(RTM_GETLINK, NLM_F_ACK);
  put_header<ifinfomsg>(request)->ifi_index = index;
  std::string name = std::to_string(index);
  exchange(request, [&](const nlmsghdr* message) { name = read_link(message).name; });
  return "interface " + name;
}

nlmsghdr* Netlink::start_link_request(int index, std::uint32_t flags, std::uint32_t flags_mask) {
  nlmsghdr* request = start_request(RTM_NEWLINK, NLM_F_ACK);
  auto* header = put_header<ifinfomsg>(request);
  header->ifi_index = index;
  header->ifi_flags = flags;
  header->ifi_change = flags_mask;
  return request;
}

Result<void> Netlink::set_mtu(int index, int mtu) {
  nlmsghdr* request = start_link_request(index, 0, 0);
  mnl_attr_put_u32(request, IFLA_MTU, static_cast<std::uint32_t>(mtu));
  const Answer answer = exchange(request);
  if (answer.error == 0) return {};
  return refusal(label(index) + ": cannot set the MTU to " + std::to_string(mtu), answer.error, answer.words);
}

Result<void> Netlink::set_up(int index) {
  const Answer answer = exchange(start_link_request(index, IFF_UP, IFF_UP));
  if (answer.error == 0) return {};
  return refusal(label(index) + ": cannot bring it up", answer.error, answer.words);
}

Result<void> Netlink::set_down(int index) {
  const Answer answer = exchange(start_link_request(index, 0, IFF_UP));
  if (answer.error == 0) return {};
  return refusal(label(index) + ": cannot take it down", answer.error, answer.words);
}

Result<void> Netlink::delete_link(int index) {
  nlmsghdr* request = start_request(RTM_DELLINK, NLM_F_ACK);
  put_header<ifinfomsg>(request)->ifi_index = index;
  const Answer answer = exchange(request);
  if (answer.error == 0) return {};
  return refusal(label(index) + ": cannot delete it", answer.error, answer.words);
}

Result<void> Netlink::set_tunnel_defaults(int index) {
  nlmsghdr* request = start_link_request(index, 0, 0);
  nlattr* families = mnl_attr_nest_start(request, IFLA_AF_SPEC);
  nlattr* family = mnl_attr_nest_start(request, AF_INET);
  nlattr* settings = mnl_attr_nest_start(request, IFLA_INET_CONF);
  mnl_attr_put_u32(request, IPV4_DEVCONF_PROMOTE_SECONDARIES, 1);
  mnl_attr_nest_end(request, settings);
  mnl_attr_nest_end(request, family);
  mnl_attr_nest_end(request, families);
  if (const Answer answer = exchange(request); answer.error != 0)
    return refusal(label(index) + ": cannot set how addresses are replaced", answer.error, answer.words);

  request = start_link_request(index, 0, 0);
  families = mnl_attr_nest_start(request, IFLA_AF_SPEC);
  family = mnl_attr_nest_start(request, AF_INET6);
  mnl_attr_put_u8(request, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  mnl_attr_nest_end(request, family);
  mnl_attr_nest_end(request, families);
  // EAFNOSUPPORT: no IPv6 here, so nothing would be made up.
  if (const Answer answer = exchange(request); answer.error != 0 && answer.error != EAFNOSUPPORT)
    return refusal(label(index) + ": cannot turn off link-local addresses", answer.error, answer.words);
  return {};
}

// --- Addresses

nlmsghdr* Netlink::start_address_request(std::uint16_t type, std::uint16_t flags, int index,
                                         const InterfaceAddress& address) {
  nlmsghdr* request = start_request(type, flags);
  auto* header = put_header<ifaddrmsg>(request);
  header->ifa_family = native_family(address.address.family());
  header->ifa_prefixlen = static_cast<std::uint8_t>(address.prefix_length);
  header->ifa_flags = address.address.is_v6() ? IFA_F_NODAD : 0;
  header->ifa_index = static_cast<std::uint32_t>(index);
  put_address(request, IFA_LOCAL, address.address);
  put_address(request, IFA_ADDRESS, address.address);
  // The kernel delivers broadcasts without it; programs that ask for the interface's broadcast address need it. A /31
  // has none (RFC 3021).
  if (address.address.is_v4() && address.prefix_length <= 30)
    put_address(request, IFA_BROADCAST, address.connected_prefix().last());
  return request;
}

Result<void> Netlink::add_address(int index, const IpAddress& address, int prefix_length) {
  const InterfaceAddress added{address, prefix_length};
  const Answer answer =
      exchange(start_address_request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, index, added));
  if (answer.error == 0) return {};
  const std::string name = label(index);
  if (answer.error == EEXIST)
    return fail(ErrorCode::address_in_use, name + " already has the address " + address.to_string());
  const std::string what = name + ": cannot add the address " + added.to_string();
  // An address is refused with EACCES where disable_ipv6 is set, with the others where the kernel runs without IPv6.
  if (address.is_v6() && (answer.error == EACCES || answer.error == EOPNOTSUPP || answer.error == EAFNOSUPPORT))
    return fail(ErrorCode::permission_denied,
                what + ": IPv6 is disabled on this system; enable it (sysctl net.ipv6.conf.all.disable_ipv6=0 and " +
                    "net.ipv6.conf.default.disable_ipv6=0, and no ipv6.disable=1 at boot), or use IPv4 only");
  return refusal(what, answer.error, answer.words);
}

Result<void> Netlink::remove_address(int index, const IpAddress& address, int prefix_length) {
  const InterfaceAddress removed{address, prefix_length};
  const Answer answer = exchange(start_address_request(RTM_DELADDR, NLM_F_ACK, index, removed));
  if (answer.error == 0) return {};
  return refusal(label(index) + ": cannot remove the address " + removed.to_string(), answer.error, answer.words);
}

Result<std::vector<InterfaceAddress>> Netlink::addresses(int index) {
  std::vector<InterfaceAddress> found;
  const auto start = [&] {
    nlmsghdr* request = start_request(RTM_GETADDR, NLM_F_DUMP);
    put_header<ifaddrmsg>(request)->ifa_index = static_cast<std::uint32_t>(index);
    return request;
  };
  const auto visit = [&](const nlmsghdr* message) {
    const auto* header = header_of<ifaddrmsg>(message);
    if (static_cast<int>(header->ifa_index) != index) return;
    if (header->ifa_family != AF_INET && header->ifa_family != AF_INET6) return;
    const Family family = header->ifa_family == AF_INET ? Family::ipv4 : Family::ipv6;
    // IFA_LOCAL is ours; IFA_ADDRESS is the peer's on a point-to-point link, and the only one that IPv6 has else.
    std::optional<IpAddress> local;
    std::optional<IpAddress> address;
    for_each_attribute_of<ifaddrmsg>(message, [&](std::uint16_t type, const nlattr* value) {
      if (type == IFA_LOCAL && fits(value, family)) local = address_in(value);
      if (type == IFA_ADDRESS && fits(value, family)) address = address_in(value);
    });
    if (local || address) found.push_back({local ? *local : *address, header->ifa_prefixlen});
  };
  const Answer answer = dump(start, [&] { found.clear(); }, visit);
  if (answer.error != 0) return refusal(label(index) + ": cannot list its addresses", answer.error, answer.words);
  return found;
}

// --- Routes

nlmsghdr* Netlink::start_route_request(std::uint16_t type, std::uint16_t flags, const Route& route) {
  nlmsghdr* request = start_request(type, flags);
  auto* header = put_header<rtmsg>(request);
  header->rtm_family = native_family(route.destination.family());
  header->rtm_dst_len = static_cast<std::uint8_t>(route.destination.length());
  header->rtm_table = route.table < 256 ? static_cast<std::uint8_t>(route.table) : std::uint8_t{RT_TABLE_COMPAT};
  if (type == RTM_NEWROUTE) {
    header->rtm_protocol = RTPROT_STATIC;
    header->rtm_type = RTN_UNICAST;
    header->rtm_scope = route.destination.is_v4() && !route.via ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  } else {
    // Matches any scope; protocol and type, being zero, match any too.
    header->rtm_scope = RT_SCOPE_NOWHERE;
  }
  put_address(request, RTA_DST, route.destination.address());
  mnl_attr_put_u32(request, RTA_OIF, static_cast<std::uint32_t>(route.index));
  mnl_attr_put_u32(request, RTA_TABLE, route.table);
  if (route.metric) mnl_attr_put_u32(request, RTA_PRIORITY, *route.metric);
  if (route.via) put_address(request, RTA_GATEWAY, *route.via);
  return request;
}

Result<void> Netlink::add_route(const Route& route) {
  const Answer answer = exchange(start_route_request(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, route));
  if (answer.error == 0) return {};
  const std::string what = label(route.index) + ": cannot add the route " + route.to_string();
  if (answer.error == EEXIST) return fail(ErrorCode::address_in_use, what + ": it exists already" + holder_of(route));
  return refusal(what, answer.error, answer.words);
}

Result<void> Netlink::remove_route(const Route& route) {
  const Answer answer = exchange(start_route_request(RTM_DELROUTE, NLM_F_ACK, route));
  if (answer.error == 0) return {};
  return refusal(label(route.index) + ": cannot remove the route " + route.to_string(), answer.error, answer.words);
}

Result<std::vector<Route>> Netlink::routes(int index) {
  PENSTOCK_TRY(auto found, routes_of(Family::ipv4, index));
  PENSTOCK_TRY(auto found6, routes_of(Family::ipv6, index));
  found.insert(found.end(), found6.begin(), found6.end());
  return found;
}

Result<std::vector<Route>> Netlink::routes_of(Family family, int index) {
  std::vector<Route> found;
  const auto start = [&] {
    nlmsghdr* request = start_request(RTM_GETROUTE, NLM_F_DUMP);
    put_header<rtmsg>(request)->rtm_family = native_family(family);
    if (index != 0) mnl_attr_put_u32(request, RTA_OIF, static_cast<std::uint32_t>(index));
    return request;
  };
  const auto visit = [&](const nlmsghdr* message) {
    // The kernel filters by interface only where it checks strictly, and answers for another family where it has no
    // IPv6: look at every route.
    auto route = read_route(message);
    if (route && route->destination.family() == family && (index == 0 || route->index == index))
      found.push_back(*route);
  };
  const Answer answer = dump(start, [&] { found.clear(); }, visit);
  // Without IPv6 there are no IPv6 routes.
  if (answer.error == EOPNOTSUPP && family == Family::ipv6) return found;
  if (answer.error != 0) return refusal(label(index) + ": cannot list its routes", answer.error, answer.words);
  return found;
}

std::string Netlink::holder_of(const Route& route) {
  const auto all = routes_of(route.destination.family(), 0);
  if (!all) return {};
  const auto same = std::ranges::find_if(*all, [&](const Route& other) {
    return other.destination == route.destination && other.table == route.table &&
           effective_metric(other) == effective_metric(route);
  });
  if (same == all->end()) return {};
  const std::string via = same->via ? " via " + same->via->to_string() : "";
  return same->index == 0 ? via : via + " on " + label(same->index);
}

}  // namespace penstock::tun
