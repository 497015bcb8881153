#include "egress/tcp/socket_streams.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "net/tcp_descriptor.h"

namespace penstock::egress {
namespace {

constexpr std::uint32_t kInterest = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
constexpr std::size_t kDiscardBytes = std::size_t{64} << 10;
constexpr std::size_t kMostVectors = 1024;  // IOV_MAX
static_assert(SocketStreams::kMostPassedOver / kDiscardBytes < kMostVectors / 2);

// False: the kernel would not have it.
bool set_option(int fd, int level, int name, int value) {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}

bool can_peek_at_offsets(int domain) {
  const net::FileDescriptor asked(::socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return asked && set_option(asked.get(), SOL_SOCKET, SO_PEEK_OFF, 0);
}

int domain_of(int fd) {
  int domain = AF_INET;
  socklen_t size = sizeof domain;
  static_cast<void>(::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size));
  return domain;
}

// The pieces of memory of one system call.
class Vectors {
 public:
  void clear() { count_ = bytes_ = 0; }
  std::size_t bytes() const { return bytes_; }

  // The same block again and again, `bytes` long altogether.
  void add_repeated(std::uint8_t* block, std::size_t bytes) {
    for (; bytes != 0; bytes -= vectors_[count_ - 1].iov_len) add(block, std::min(bytes, kDiscardBytes));
  }
  // What lies behind the first `done` bytes of `parts`, as far as there is room for vectors.
  template <typename View>
  void add_rest(std::span<const View> parts, std::size_t done) {
    for (const View& part : parts) {
      if (count_ == kMostVectors) return;
      const std::size_t skipped = std::min(done, part.size());
      done -= skipped;
      // The kernel does not write through those of a write().
      if (skipped != part.size()) add(const_cast<std::uint8_t*>(part.data()) + skipped, part.size() - skipped);
    }
  }
  msghdr message() {
    msghdr message{};
    message.msg_iov = vectors_.data();
    message.msg_iovlen = count_;
    return message;
  }

 private:
  void add(std::uint8_t* data, std::size_t size) {
    vectors_[count_++] = {.iov_base = data, .iov_len = size};
    bytes_ += size;
  }

  std::array<iovec, kMostVectors> vectors_;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

template <typename Call>
ssize_t uninterrupted(Call call) {
  for (;;) {
    const ssize_t result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

void resets_when_closed(int fd, bool on) {
  const linger at_once{.l_onoff = on ? 1 : 0, .l_linger = 0};
  static_cast<void>(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
}

}  // namespace

// ---- coming and going ----

Result<std::unique_ptr<SocketStreams>> SocketStreams::create(EventLoop& loop, const Settings& settings) {
  net::FileDescriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno("cannot open an epoll instance for connections of clients", errno);
  return std::unique_ptr<SocketStreams>(new SocketStreams(loop, settings, std::move(epoll)));
}

SocketStreams::SocketStreams(EventLoop& loop, const Settings& settings, net::FileDescriptor epoll)
    : loop_(&loop),
      settings_(settings),
      epoll_(std::move(epoll)),
      watch_(loop.watch(epoll_.get())),
      discarded_(std::make_unique_for_overwrite<std::uint8_t[]>(kDiscardBytes)) {
  if (settings_.peek_offset == PeekOffset::automatic)
    peeks_at_ = {can_peek_at_offsets(AF_INET), can_peek_at_offsets(AF_INET6), can_peek_at_offsets(AF_UNIX)};
  arm();
}

SocketStreams::~SocketStreams() {
  *alive_ = false;
  for (std::size_t fd = 0; fd < entries_.size(); ++fd) {
    if (entries_[fd].generation != 0) ::close(static_cast<int>(fd));
  }
}

void SocketStreams::set_external(const std::optional<IpAddress>& v4, const std::optional<IpAddress>& v6) {
  settings_.external4 = v4;
  settings_.external6 = v6;
}

std::expected<HostStreams::Stream, StreamError> SocketStreams::connect(const Endpoint& /*from*/, const Endpoint& to,
                                                                       std::uint64_t cookie) {
  ++counters_.connects;
  if (settings_.may_connect && !settings_.may_connect(to)) return not_connected(StreamError::prohibited);
  if (count_ >= settings_.most_streams) return not_connected(StreamError::exhausted);
  const bool v6 = to.address.is_v6();
  const std::optional<IpAddress>& external = v6 ? settings_.external6 : settings_.external4;
  if (!external) return not_connected(StreamError::network);
  auto fd = net::dial_tcp(*external, to);
  if (!fd) return not_connected(meaning_of(fd.error()));
  const Stream stream = fd->get();
  resets_when_closed(stream, true);
  enter(stream, cookie, v6 ? Kind::tcp6 : Kind::tcp4, true);
  // Not before connect(): until then a socket counts as hung up.
  if (!watch(stream, entry(stream), EPOLL_CTL_ADD)) {
    entry(stream) = Entry{};
    --count_;
    return not_connected(StreamError::exhausted);
  }
  return fd->release();
}

std::unexpected<StreamError> SocketStreams::not_connected(StreamError error) {
  ++counters_.not_connected[static_cast<std::size_t>(error)];
  return std::unexpected(error);
}

void SocketStreams::adopt(Stream stream, std::uint64_t cookie) {
  ++counters_.adopted;
  const int domain = domain_of(stream);
  enter(stream, cookie, domain == AF_UNIX ? Kind::local : domain == AF_INET6 ? Kind::tcp6 : Kind::tcp4, false);
  if (domain != AF_UNIX) {
    set_option(stream, SOL_SOCKET, SO_OOBINLINE, 1);
    resets_when_closed(stream, true);
  }
  Entry& adopted = entry(stream);
  if (watch(stream, adopted, EPOLL_CTL_ADD)) return;
  adopted.error = StreamError::exhausted;
  loop_->post([this, alive = alive_, stream, generation = adopted.generation] {
    if (*alive) tell_unwatched(stream, generation);
  });
}

void SocketStreams::enter(Stream stream, std::uint64_t cookie, Kind kind, bool connecting) {
  PENSTOCK_ASSERT(events_ != nullptr && stream >= 0);
  const auto index = static_cast<std::size_t>(stream);
  if (index >= entries_.size()) entries_.resize(index + 1);
  PENSTOCK_ASSERT(entries_[index].generation == 0);
  if (++generation_ == 0) ++generation_;
  entries_[index] = Entry{.cookie = cookie, .generation = generation_, .kind = kind, .connecting = connecting};
  ++count_;
}

// What epoll calls it: another than any stream before that had the same descriptor.
std::uint64_t SocketStreams::name_of(Stream stream, const Entry& entry) {
  return std::uint64_t{entry.generation} << 32 | static_cast<std::uint32_t>(stream);
}

bool SocketStreams::watch(Stream stream, const Entry& entry, int operation) {
  epoll_event event{};
  event.events = kInterest;
  event.data.u64 = name_of(stream, entry);
  return ::epoll_ctl(epoll_.get(), operation, stream, &event) == 0;
}

SocketStreams::Entry& SocketStreams::entry(Stream stream) {
  PENSTOCK_ASSERT(stream >= 0 && static_cast<std::size_t>(stream) < entries_.size());
  Entry& found = entries_[static_cast<std::size_t>(stream)];
  PENSTOCK_ASSERT(found.generation != 0);
  return found;
}

void SocketStreams::end(Stream stream) {
  static_cast<void>(entry(stream));
  // It fails where the peer has reset it meanwhile, which is told of anyway.
  static_cast<void>(::shutdown(stream, SHUT_WR));
}

void SocketStreams::close(Stream stream, bool abort) {
  entry(stream) = Entry{};
  --count_;
  // What else ends it, be it the death of this process, is no end that the peer should take for one.
  if (!abort) resets_when_closed(stream, false);
  // Nobody else has this descriptor, so that epoll forgets it too.
  ::close(stream);
}

// ---- bytes ----

bool SocketStreams::peek_begins_at(Stream stream, Entry& entry, std::size_t offset) {
  if (entry.mark < 0 && offset == 0) return true;
  if (!peeks_at_[static_cast<std::size_t>(entry.kind)]) return false;
  const auto wanted = static_cast<std::int32_t>(offset);
  if (entry.mark == wanted) return true;
  if (!set_option(stream, SOL_SOCKET, SO_PEEK_OFF, wanted)) return false;
  entry.mark = wanted;
  return true;
}

HostStreams::Peeked SocketStreams::peek(Stream stream, std::size_t offset, std::span<const MutableByteView> into) {
  Entry& peeked = entry(stream);
  std::size_t room = 0;
  for (const MutableByteView part : into) room += part.size();
  Peeked result;
  bool hides_more = false;
  Vectors vectors;
  // Almost always once: more for very many parts, and at urgent data.
  while (result.bytes < room) {
    const std::size_t from = offset + result.bytes;
    const std::size_t before = peek_begins_at(stream, peeked, from) ? 0 : from;
    if (before > kMostPassedOver) {
      hides_more = true;
      break;
    }
    vectors.clear();
    vectors.add_repeated(discarded_.get(), before);
    vectors.add_rest(into, result.bytes);
    msghdr message = vectors.message();
    const ssize_t got = uninterrupted([&] { return ::recvmsg(stream, &message, MSG_PEEK | MSG_DONTWAIT); });
    if (got < 0) {
      if (errno != EAGAIN) remember(peeked, errno);
      break;
    }
    const auto size = static_cast<std::size_t>(got);
    if (peeked.mark >= 0) peeked.mark += static_cast<std::int32_t>(size);
    result.bytes += size - std::min(size, before);
    if (size == vectors.bytes()) continue;
    if (size == 0) {
      // To the kernel a connection that failed has an end as well, once its error was taken.
      result.ended = peeked.error == StreamError::none;
      break;
    }
    if (peeked.urgent && before == 0) continue;
    if (peeked.urgent) {
      // Maybe it stopped at the urgent data; past that it goes only from there on.
      hides_more = true;
      break;
    }
    result.ended = peeked.ended && peeked.error == StreamError::none;
    break;
  }
  if (hides_more) {
    peeked.hidden = true;
  } else if (result.bytes == 0 && !result.ended) {
    result.error = peeked.error;
  }
  return result;
}

void SocketStreams::consume(Stream stream, std::size_t bytes) {
  Entry& consumed = entry(stream);
  while (bytes != 0) {
    const ssize_t got = uninterrupted([&] {
      // TCP throws away what it is given no place for; Unix sockets want one.
      return consumed.kind == Kind::local
                 ? ::recv(stream, discarded_.get(), std::min(bytes, kDiscardBytes), MSG_DONTWAIT)
                 : ::recv(stream, nullptr, bytes, MSG_DONTWAIT | MSG_TRUNC);
    });
    if (got <= 0) {
      if (got < 0 && errno != EAGAIN) remember(consumed, errno);
      break;
    }
    bytes -= static_cast<std::size_t>(got);
    if (consumed.mark >= 0) consumed.mark -= static_cast<std::int32_t>(std::min<ssize_t>(got, consumed.mark));
  }
  if (!consumed.hidden) return;
  consumed.hidden = false;
  // Has epoll look again, and tell what is there as if it had just come.
  static_cast<void>(watch(stream, consumed, EPOLL_CTL_MOD));
}

HostStreams::Written SocketStreams::write(Stream stream, std::span<const ByteView> bytes) {
  Entry& written = entry(stream);
  Written result;
  Vectors vectors;
  for (;;) {
    vectors.clear();
    vectors.add_rest(bytes, result.bytes);
    if (vectors.bytes() == 0) return result;
    const msghdr message = vectors.message();
    const ssize_t taken = uninterrupted([&] { return ::sendmsg(stream, &message, MSG_DONTWAIT | MSG_NOSIGNAL); });
    if (taken < 0) {
      if (errno == EAGAIN) return result;
      remember(written, errno);
      result.error = written.error;
      return result;
    }
    result.bytes += static_cast<std::size_t>(taken);
    if (static_cast<std::size_t>(taken) < vectors.bytes()) return result;
  }
}

void SocketStreams::widen(Stream stream, std::size_t bytes) {
  Entry& widened = entry(stream);
  constexpr std::size_t kMost = std::numeric_limits<int>::max() / 2;
  const auto wanted = static_cast<std::uint32_t>(std::min(bytes, kMost));
  if (widened.kind == Kind::local || wanted <= widened.widened) return;
  widened.widened = wanted;
  // A socket that is to wait for so many bytes needs a buffer for them, which it keeps when it waits for less again;
  // and unlike one that SO_RCVBUF made, it still grows by itself. The second call also wakes for what came in between.
  set_option(stream, SOL_SOCKET, SO_RCVLOWAT, static_cast<int>(wanted));
  set_option(stream, SOL_SOCKET, SO_RCVLOWAT, 1);
}

// ---- errors ----

StreamError SocketStreams::meaning_of(int errno_value) {
  switch (errno_value) {
    case 0: return StreamError::none;
    case ECONNREFUSED:
    case ENOPROTOOPT: return StreamError::refused;  // ICMP's protocol unreachable
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENONET: return StreamError::host;
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EINVAL: return StreamError::network;  // a route that is a black hole
    case EACCES:
    case EPERM: return StreamError::prohibited;
    case ETIMEDOUT: return StreamError::timed_out;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EAGAIN: return StreamError::exhausted;
    default: return StreamError::reset;
  }
}

void SocketStreams::remember(Entry& entry, int errno_value) {
  if (entry.error != StreamError::none) return;
  entry.error = meaning_of(errno_value);
}

// ---- telling ----

void SocketStreams::turn() {
  std::array<epoll_event, kEventsPerTurn> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsPerTurn, 0);
  bool told = false;
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const auto stream = static_cast<Stream>(static_cast<std::uint32_t>(event.data.u64));
    Entry& ready = entries_[static_cast<std::size_t>(stream)];
    if (event.data.u64 != name_of(stream, ready)) continue;  // closed in this turn
    tell(stream, ready, event.events);
    told = true;
  }
  if (told) events_->turn_ends();
  arm();
}

void SocketStreams::tell(Stream stream, Entry& entry, std::uint32_t events) {
  const bool hung_up = (events & EPOLLHUP) != 0;
  if (((events & EPOLLERR) != 0 || (entry.connecting && hung_up)) && entry.error == StreamError::none) {
    int error = 0;
    socklen_t size = sizeof error;
    static_cast<void>(::getsockopt(stream, SOL_SOCKET, SO_ERROR, &error, &size));
    remember(entry, error != 0 ? error : ECONNRESET);
  }
  const bool failed = entry.error != StreamError::none;
  if (entry.connecting && failed) ++counters_.not_connected[static_cast<std::size_t>(entry.error)];
  entry.connecting = false;
  if ((events & EPOLLPRI) != 0) entry.urgent = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0 && !failed) entry.ended = true;
  events_->ready(entry.cookie, {.readable = (events & ~std::uint32_t{EPOLLOUT}) != 0,
                                .writable = (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0,
                                .failed = failed,
                                .ended = entry.ended && !failed});
}

void SocketStreams::tell_unwatched(Stream stream, std::uint32_t generation) {
  const Entry& unwatched = entries_[static_cast<std::size_t>(stream)];
  if (unwatched.generation != generation) return;
  events_->ready(unwatched.cookie, {.readable = true, .writable = true, .failed = true});
  events_->turn_ends();
}

}  // namespace penstock::egress
