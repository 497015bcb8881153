#include "net/control_messages.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <time.h>

// After time.h, whose timespec it uses.
#include <linux/errqueue.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/ip.h"
#include "base/result.h"

namespace penstock::net {
namespace {

class Writer {
 public:
  explicit Writer(SendControl& control) : control_(control) {}

  template <typename T>
  void put(int level, int type, const T& value) {
    PENSTOCK_ASSERT(used_ + CMSG_SPACE(sizeof(T)) <= SendControl::kSize);
    cmsghdr header{};
    header.cmsg_len = CMSG_LEN(sizeof(T));
    header.cmsg_level = level;
    header.cmsg_type = type;
    std::memcpy(control_.bytes + used_, &header, sizeof header);
    std::memcpy(control_.bytes + used_ + CMSG_LEN(0), &value, sizeof value);
    used_ += CMSG_SPACE(sizeof(T));
  }
  std::size_t used() const { return used_; }

 private:
  SendControl& control_;
  std::size_t used_ = 0;
};

std::size_t size_of(const cmsghdr* header) { return header->cmsg_len - CMSG_LEN(0); }

template <typename T>
std::optional<T> value_of(const cmsghdr* header) {
  if (size_of(header) < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, CMSG_DATA(header), sizeof value);
  return value;
}

// The kernel writes some small numbers as a byte and others as an int.
int number_of(const cmsghdr* header) {
  if (const auto number = value_of<int>(header)) return *number;
  if (const auto number = value_of<std::uint16_t>(header)) return *number;
  if (const auto number = value_of<std::uint8_t>(header)) return *number;
  return 0;
}

IpAddress address_of(const in_addr& address) { return IpAddress::v4(ntohl(address.s_addr)); }

IpAddress address_of(const in6_addr& address) {
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), &address, bytes.size());
  return IpAddress::from_bytes(bytes);
}

IpAddress reporter_of(const cmsghdr* header) {
  const std::uint8_t* const at = CMSG_DATA(header) + sizeof(sock_extended_err);
  const std::size_t size = size_of(header) - sizeof(sock_extended_err);
  sockaddr_in6 in6{};
  std::memcpy(&in6, at, std::min(size, sizeof in6));
  if (in6.sin6_family == AF_INET6 && size >= sizeof in6) return address_of(in6.sin6_addr);
  sockaddr_in in{};
  std::memcpy(&in, &in6, sizeof in);
  if (in.sin_family == AF_INET && size >= sizeof in) return address_of(in.sin_addr);
  return {};
}

template <typename Use>
void for_each(const msghdr& message, Use use) {
  // CMSG_NXTHDR wants one that can be written.
  msghdr walked = message;
  for (cmsghdr* header = CMSG_FIRSTHDR(&walked); header != nullptr; header = CMSG_NXTHDR(&walked, header)) use(header);
}

}  // namespace

void write_control(const Outgoing& datagram, std::uint16_t segment_size, SendControl& control, msghdr& message) {
  Writer writer(control);
  if (datagram.to.address.is_v4()) {
    if (datagram.ttl != 0) writer.put(IPPROTO_IP, IP_TTL, int{datagram.ttl});
    writer.put(IPPROTO_IP, IP_TOS, int{datagram.tos});
    if (datagram.from.is_v4() && !datagram.from.is_unspecified()) {
      in_pktinfo info{};
      info.ipi_spec_dst.s_addr = htonl(datagram.from.to_v4());
      writer.put(IPPROTO_IP, IP_PKTINFO, info);
    }
  } else {
    if (datagram.ttl != 0) writer.put(IPPROTO_IPV6, IPV6_HOPLIMIT, int{datagram.ttl});
    writer.put(IPPROTO_IPV6, IPV6_TCLASS, int{datagram.tos});
    if (datagram.from.is_v6() && !datagram.from.is_unspecified()) {
      in6_pktinfo info{};
      std::memcpy(&info.ipi6_addr, datagram.from.bytes().data(), sizeof info.ipi6_addr);
      writer.put(IPPROTO_IPV6, IPV6_PKTINFO, info);
    }
  }
  if (segment_size != 0) writer.put(IPPROTO_UDP, UDP_SEGMENT, segment_size);
  message.msg_control = control.bytes;
  message.msg_controllen = writer.used();
}

void read_control(const msghdr& message, Received& received) {
  for_each(message, [&](const cmsghdr* header) {
    const int type = header->cmsg_type;
    if (header->cmsg_level == IPPROTO_IP) {
      if (type == IP_TTL) received.ttl = static_cast<std::uint8_t>(number_of(header));
      if (type == IP_TOS) received.tos = static_cast<std::uint8_t>(number_of(header));
      if (type != IP_PKTINFO) return;
      if (const auto info = value_of<in_pktinfo>(header)) received.to = address_of(info->ipi_addr);
    } else if (header->cmsg_level == IPPROTO_IPV6) {
      if (type == IPV6_HOPLIMIT) received.ttl = static_cast<std::uint8_t>(number_of(header));
      if (type == IPV6_TCLASS) received.tos = static_cast<std::uint8_t>(number_of(header));
      if (type != IPV6_PKTINFO) return;
      if (const auto info = value_of<in6_pktinfo>(header)) received.to = address_of(info->ipi6_addr);
    } else if (header->cmsg_level == IPPROTO_UDP && type == UDP_GRO) {
      received.segment_size = static_cast<std::uint16_t>(number_of(header));
    }
  });
}

bool read_error(const msghdr& message, SocketError& error) {
  bool found = false;
  Received around;
  read_control(message, around);
  error.ttl = around.ttl;
  error.tos = around.tos;
  for_each(message, [&](const cmsghdr* header) {
    const bool v4 = header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_RECVERR;
    const bool v6 = header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_RECVERR;
    if (!v4 && !v6) return;
    const auto told = value_of<sock_extended_err>(header);
    if (!told || (told->ee_origin != SO_EE_ORIGIN_ICMP && told->ee_origin != SO_EE_ORIGIN_ICMP6)) return;
    found = true;
    error.origin = told->ee_origin == SO_EE_ORIGIN_ICMP ? SocketError::Origin::icmp : SocketError::Origin::icmp6;
    error.type = told->ee_type;
    error.code = told->ee_code;
    error.error = static_cast<int>(told->ee_errno);
    error.info = told->ee_info;
    error.reporter = reporter_of(header);
  });
  return found;
}

}  // namespace penstock::net
