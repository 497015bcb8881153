#include "net/datagram_socket.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "net/control_messages.h"
#include "net/socket_address.h"

namespace penstock::net {
namespace {

// A sockaddr_storage would be four times as large, and there are 64 of them on the stack.
union Name {
  sockaddr base;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

socklen_t write_name(const Endpoint& endpoint, Name& name) {
  const auto bytes = endpoint.address.bytes();
  if (endpoint.address.is_v4()) {
    name.v4 = {};
    name.v4.sin_family = AF_INET;
    name.v4.sin_port = htons(endpoint.port);
    std::memcpy(&name.v4.sin_addr, bytes.data(), sizeof name.v4.sin_addr);
    return sizeof name.v4;
  }
  name.v6 = {};
  name.v6.sin6_family = AF_INET6;
  name.v6.sin6_port = htons(endpoint.port);
  std::memcpy(&name.v6.sin6_addr, bytes.data(), sizeof name.v6.sin6_addr);
  return sizeof name.v6;
}

Endpoint read_name(const Name& name, socklen_t size) {
  if (size >= sizeof name.v4 && name.base.sa_family == AF_INET)
    return {IpAddress::v4(ntohl(name.v4.sin_addr.s_addr)), ntohs(name.v4.sin_port)};
  if (size >= sizeof name.v6 && name.base.sa_family == AF_INET6) {
    std::array<std::uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &name.v6.sin6_addr, bytes.size());
    return {IpAddress::from_bytes(bytes), ntohs(name.v6.sin6_port)};
  }
  return {};
}

// What the kernel makes of ICMP errors (icmp_err_convert, icmpv6_err_convert): a call that fails so may have failed for
// an earlier datagram.
bool may_be_about_another(int error) {
  switch (error) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EMSGSIZE:
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EHOSTDOWN:
    case ENONET:
    case EACCES: return true;
    default: return false;
  }
}

constexpr int kMinimumMtu6 = 1280;  // RFC 8200 section 5
constexpr int kMostOldErrors = 4;   // that one receive() clears away, so that a storm of them does not hold it

}  // namespace

// --- receiving

struct DatagramArena::Slots {
  // Slots a multiple of 4 KiB apart would fight for the same few lines of the caches. 24 lines more, and full-size
  // datagrams lie side by side there.
  static constexpr std::size_t kLine = 64;
  static constexpr std::size_t kStride = kHeadroom + kSlotSize + 23 * kLine;
  static_assert(kHeadroom == kLine);

  std::uint8_t* buffer(std::size_t slot) const { return block.get() + slot * kStride + kHeadroom; }

  // recvmmsg() with everything ready for `most` messages. What it returns.
  int read(int fd, std::size_t most, int flags) {
    for (std::size_t i = 0; i < most; ++i) {
      msghdr& message = messages[i].msg_hdr;
      message.msg_namelen = sizeof(Name);
      message.msg_controllen = ReceiveControl::kSize;
      message.msg_flags = 0;
    }
    for (;;) {
      const int count = ::recvmmsg(fd, messages.data(), static_cast<unsigned>(most), flags, nullptr);
      if (count >= 0 || errno != EINTR) return count;
    }
  }
  Endpoint peer(std::size_t slot) const { return read_name(names[slot], messages[slot].msg_hdr.msg_namelen); }

  // Not make_unique: memory is not touched before something is received into it.
  std::unique_ptr<std::uint8_t[]> block{new std::uint8_t[kSlots * kStride]};
  std::array<mmsghdr, kSlots> messages{};
  std::array<iovec, kSlots> vectors{};
  std::array<Name, kSlots> names{};
  std::array<ReceiveControl, kSlots> controls{};
  std::array<Received, kSlots> received;
  std::array<SocketError, kSlots> errors;
};

DatagramArena::DatagramArena() : slots_(std::make_unique<Slots>()) {
  for (std::size_t i = 0; i < kSlots; ++i) {
    slots_->vectors[i] = {.iov_base = slots_->buffer(i), .iov_len = kSlotSize};
    msghdr& message = slots_->messages[i].msg_hdr;
    message.msg_name = &slots_->names[i];
    message.msg_iov = &slots_->vectors[i];
    message.msg_iovlen = 1;
    message.msg_control = slots_->controls[i].bytes;
  }
}
DatagramArena::~DatagramArena() = default;

std::span<Received> DatagramSocket::receive(DatagramArena& arena, std::size_t most) {
  DatagramArena::Slots& slots = arena.slots();
  most = std::min(most, DatagramArena::kSlots);
  if (most == 0) return {};
  int count = slots.read(fd_.get(), most, 0);
  // Whatever else than EAGAIN it says is news of an ICMP error, told once, in front of what has arrived.
  for (int tries = 0; count < 0 && errno != EAGAIN && tries < kMostOldErrors; ++tries) {
    errors_waiting_ = true;
    count = slots.read(fd_.get(), most, 0);
  }
  if (count <= 0) {
    // Perhaps the caller was woken by an error of which a call of send() took the news.
    errors_waiting_ = true;
    return {};
  }
  const std::size_t got = static_cast<std::size_t>(count);
  for (std::size_t i = 0; i < got; ++i) {
    Received& received = slots.received[i];
    received = {.from = slots.peer(i), .to = local_.address, .bytes = {slots.buffer(i), slots.messages[i].msg_len}};
    read_control(slots.messages[i].msg_hdr, received);
    // One datagram is no super-datagram.
    if (received.segment_size >= received.bytes.size()) received.segment_size = 0;
  }
  return {slots.received.data(), got};
}

std::span<const SocketError> DatagramSocket::take_errors(DatagramArena& arena) {
  DatagramArena::Slots& slots = arena.slots();
  const int count = slots.read(fd_.get(), DatagramArena::kSlots, MSG_ERRQUEUE);
  errors_waiting_ = count == static_cast<int>(DatagramArena::kSlots);
  std::size_t taken = 0;
  for (std::size_t i = 0; count > 0 && i < static_cast<std::size_t>(count); ++i) {
    SocketError& error = slots.errors[taken];
    error = {.to = slots.peer(i), .quoted = {slots.buffer(i), slots.messages[i].msg_len}};
    if (read_error(slots.messages[i].msg_hdr, error)) ++taken;
  }
  return {slots.errors.data(), taken};
}

// --- sending

// Where send() is in what it was given.
struct DatagramSocket::Position {
  std::size_t index = 0;
  std::size_t offset = 0;  // bytes of that datagram that are sent
  bool cut = false;        // that datagram is to be cut here
  bool tried = false;      // the message at this place failed once, maybe for another
};

// The messages of one system call.
struct DatagramSocket::Burst {
  // Where send() is once a message is sent. Not a Position, for nobody initializes these arrays.
  struct End {
    std::size_t index;
    std::size_t offset;
  };

  std::size_t size = 0;
  std::array<mmsghdr, kMostMessages> messages;
  std::array<iovec, kMostMessages> vectors;
  std::array<Name, kMostMessages> names;
  std::array<SendControl, kMostMessages> controls;
  std::array<End, kMostMessages> ends;
  bool first_is_super = false;
};

void DatagramSocket::fill(Burst& burst, std::span<const Outgoing> datagrams, const Position& from) const {
  burst.size = 0;
  std::size_t offset = from.offset;
  for (std::size_t index = from.index; index < datagrams.size(); ++index, offset = 0) {
    const Outgoing& datagram = datagrams[index];
    if (datagram.dont_fragment != datagrams[from.index].dont_fragment) return;
    const std::size_t segment = datagram.segment_size;
    const bool cut = segment >= whole_below_ || (index == from.index && from.cut);
    const std::size_t segments =
        cut ? 1 : std::clamp<std::size_t>(kLargestPiece / std::max<std::size_t>(segment, 1), 1, kMostSegments);
    do {
      if (burst.size == kMostMessages) return;
      const std::size_t i = burst.size++;
      std::size_t size = datagram.bytes.size() - offset;
      if (segment != 0) size = std::min(size, segment * segments);
      const bool super = segment != 0 && size > segment;
      if (i == 0) burst.first_is_super = super;
      // The kernel does not write through it.
      burst.vectors[i] = {.iov_base = const_cast<std::uint8_t*>(datagram.bytes.data()) + offset, .iov_len = size};
      burst.messages[i] = {};
      msghdr& message = burst.messages[i].msg_hdr;
      message.msg_name = &burst.names[i];
      message.msg_namelen = write_name(datagram.to, burst.names[i]);
      message.msg_iov = &burst.vectors[i];
      message.msg_iovlen = 1;
      write_control(datagram, super ? datagram.segment_size : std::uint16_t{0}, burst.controls[i], message);
      offset += size;
      const bool ends = offset == datagram.bytes.size();
      burst.ends[i] = {.index = ends ? index + 1 : index, .offset = ends ? 0 : offset};
    } while (offset < datagram.bytes.size());
  }
}

void DatagramSocket::advance(Position& position, const Burst& burst, std::size_t messages,
                             std::span<Outgoing> datagrams) {
  const Burst::End to = burst.ends[messages - 1];
  if (to.index == position.index) {
    position = {.index = to.index, .offset = to.offset, .cut = position.cut};
    return;
  }
  // The kernel would not cut this one, and what was cut here went: it is the size that it does not like.
  if (position.cut) whole_below_ = std::min(whole_below_, datagrams[position.index].segment_size);
  for (std::size_t i = position.index; i < to.index; ++i) datagrams[i].refusal = {};
  position = {.index = to.index, .offset = to.offset};
}

SendResult DatagramSocket::send(std::span<Outgoing> datagrams) {
  SendResult result;
  Position at;
  Burst burst;
  while (at.index < datagrams.size()) {
    Outgoing& datagram = datagrams[at.index];
    fill(burst, datagrams, at);
    choose_fragmentation(datagram.dont_fragment);
    const int count = ::sendmmsg(fd_.get(), burst.messages.data(), static_cast<unsigned>(burst.size), MSG_NOSIGNAL);
    if (count > 0) {
      // The error of the next message is not told; the next round meets it, unless it was about another.
      if (static_cast<std::size_t>(count) < burst.size) errors_waiting_ = true;
      advance(at, burst, static_cast<std::size_t>(count), datagrams);
      continue;
    }
    const int error = count == 0 ? EAGAIN : errno;
    if (error == EINTR) continue;
    if (error == EAGAIN) {
      errors_waiting_ = true;
      result.part = at.offset;
      break;
    }
    if (may_be_about_another(error) && !std::exchange(at.tried, true)) {
      errors_waiting_ = true;
      continue;
    }
    const bool too_large = error == EMSGSIZE && !datagram.dont_fragment;  // newer kernels' word for EINVAL
    if (burst.first_is_super && (error == EINVAL || error == EIO || error == EOPNOTSUPP || too_large)) {
      if (error == EIO || error == EOPNOTSUPP) whole_below_ = 0;
      at.cut = true;
      at.tried = false;
      continue;
    }
    datagram.refusal = {.error = error, .path_mtu = error == EMSGSIZE ? path_mtu(datagram) : 0};
    ++result.refused;
    at = {.index = at.index + 1};
  }
  result.taken = at.index;
  return result;
}

void DatagramSocket::choose_fragmentation(bool dont_fragment) {
  if (dont_fragment == dont_fragment_) return;
  dont_fragment_ = dont_fragment;
  const bool v4 = local_.address.is_v4();
  static_assert(IP_PMTUDISC_DO == IPV6_PMTUDISC_DO && IP_PMTUDISC_DONT == IPV6_PMTUDISC_DONT);
  const int value = dont_fragment ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT;
  const int failed = ::setsockopt(fd_.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
                                  &value, sizeof value);
  PENSTOCK_ASSERT(failed == 0);
  if (v4) return;
  // No router cuts them smaller (RFC 8200 section 5), and the first would be lost to learn what the path takes.
  const int fragment_size = dont_fragment ? 0 : kMinimumMtu6;
  const int failed6 = ::setsockopt(fd_.get(), IPPROTO_IPV6, IPV6_MTU, &fragment_size, sizeof fragment_size);
  PENSTOCK_ASSERT(failed6 == 0);
}

// Only a connected socket can be asked, so another one is.
std::uint32_t DatagramSocket::path_mtu(const Outgoing& datagram) const {
  const bool v4 = datagram.to.address.is_v4();
  const FileDescriptor asked(::socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP));
  if (!asked) return 0;
  const bool chosen = local_.address.is_unspecified() && datagram.from.family() == local_.address.family();
  const SocketAddress own(Endpoint{chosen ? datagram.from : local_.address, 0});
  const SocketAddress peer(Endpoint{datagram.to.address, datagram.to.port == 0 ? std::uint16_t{9} : datagram.to.port});
  // Where it cannot be bound the usual way to the peer is asked about.
  static_cast<void>(::bind(asked.get(), own.get(), own.size));
  int mtu = 0;
  socklen_t size = sizeof mtu;
  if (::connect(asked.get(), peer.get(), peer.size) != 0 ||
      ::getsockopt(asked.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU : IPV6_MTU, &mtu, &size) != 0)
    return 0;
  return static_cast<std::uint32_t>(std::max(mtu, 0));
}

// --- opening and waiting

DatagramSocket::DatagramSocket(EventLoop& loop, FileDescriptor fd, std::uint16_t whole_below)
    : loop_(&loop), fd_(std::move(fd)), whole_below_(whole_below), local_(local_endpoint(fd_.get())) {}

Watch& DatagramSocket::watch() {
  if (!watch_) watch_ = loop_->watch(fd_.get());
  return *watch_;
}

namespace {

constexpr int kFirstUnprivilegedPort = 1024;

std::unexpected<Error> cannot_bind(std::string_view name, std::string_view free_ones, const Endpoint& at, int error) {
  const std::string what = std::string(name) + " " + std::to_string(at.port);
  if (error == EADDRINUSE && at.port == 0) {
    return fail(ErrorCode::exhausted, "no free " + std::string(name) + " is left on " + at.address.to_string() +
                                          ": widen " + std::string(free_ones));
  }
  if (error == EADDRINUSE) {
    return fail(ErrorCode::address_in_use, what + " on " + at.address.to_string() +
                                               " is in use by another socket: choose another, or stop the program that "
                                               "has it (as root, `ss -anp` shows it)");
  }
  if (error == EADDRNOTAVAIL) {
    return fail(ErrorCode::unavailable, "this machine has no address " + at.address.to_string() + " for a " +
                                            std::string(name) + ": choose one that `ip address` shows");
  }
  if (error == EACCES && at.port != 0 && at.port < kFirstUnprivilegedPort) {
    return fail(ErrorCode::permission_denied,
                what + " is below 1024, which needs CAP_NET_BIND_SERVICE: grant it, or choose another above 1023");
  }
  return fail_errno("cannot open " + what + " on " + at.address.to_string(), error);
}

std::unexpected<Error> cannot_open(std::string_view name, const Endpoint& at, int error) {
  switch (error) {
    case EMFILE:
    case ENFILE:
      return fail(ErrorCode::exhausted, "no descriptor is left for another " + std::string(name) +
                                            ": raise the limit of open files (LimitNOFILE= in the systemd unit)");
    case ENOBUFS:
    case ENOMEM: return fail(ErrorCode::exhausted, "no memory is left for another " + std::string(name));
    case EAFNOSUPPORT:
      return fail(ErrorCode::unavailable, std::string("this machine has no ") + (at.address.is_v4() ? "IPv4" : "IPv6") +
                                              " for a " + std::string(name));
    default: return fail_errno("cannot open a " + std::string(name), error);
  }
}

}  // namespace

Result<FileDescriptor> DatagramSocket::open(const Kind& kind, const Endpoint& at, const BufferSizes& sizes) {
  const SocketAddress address(at);
  FileDescriptor fd(::socket(address.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, kind.protocol));
  if (!fd) return cannot_open(kind.name, at, errno);
  int refused = 0;
  const auto set = [&](int level, int option, int value) {
    if (::setsockopt(fd.get(), level, option, &value, sizeof value) != 0) refused = errno;
  };
  // Of ping sockets it is on unless one says so, and two could share an identifier.
  set(SOL_SOCKET, SO_REUSEADDR, 0);
  if (at.address.is_v4()) {
    set(IPPROTO_IP, IP_RECVERR, 1);
    set(IPPROTO_IP, IP_RECVTTL, 1);
    set(IPPROTO_IP, IP_RECVTOS, 1);
    set(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
    if (at.address.is_unspecified()) set(IPPROTO_IP, IP_PKTINFO, 1);
  } else {
    set(IPPROTO_IPV6, IPV6_V6ONLY, 1);
    set(IPPROTO_IPV6, IPV6_RECVERR, 1);
    set(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    set(IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    set(IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
    if (at.address.is_unspecified()) set(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  }
  if (sizes.receive != 0) set(SOL_SOCKET, SO_RCVBUF, sizes.receive);
  if (sizes.send != 0) set(SOL_SOCKET, SO_SNDBUF, sizes.send);
  if (refused != 0) return fail_errno("an option of a " + std::string(kind.name), refused);
  if (::bind(fd.get(), address.get(), address.size) != 0) return cannot_bind(kind.name, kind.free_ones, at, errno);
  return fd;
}

}  // namespace penstock::net
