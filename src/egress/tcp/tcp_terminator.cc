#include "egress/tcp/tcp_terminator.h"

#include <deque>
#include <utility>
#include <vector>

#include "base/result.h"
#include "egress/tcp/tcp_connection.h"
#include "packet/super_packet.h"
#include "packet/tcp_segment.h"
#include "router/address_bits.h"
#include "router/sip_hash.h"

namespace penstock::egress {
namespace {

constexpr std::uint32_t kNone = 0xFFFFFFFF;
// Packets of several connections leave together, but no more memory than this waits for it.
constexpr std::size_t kMostWaiting = 256 * 1024;
constexpr std::size_t kFirstBuckets = 16;

}  // namespace

struct TcpTerminator::Impl final : TcpShared {
  Impl(EventLoop& its_loop, Random& its_random, const Settings& its_settings, HostStreams& its_streams,
       Clients& its_clients)
      : TcpShared(its_loop, its_random, its_settings, its_streams, its_clients),
        key{its_random.next64(), its_random.next64()},
        timer(its_loop),
        later_timer(its_loop) {}

  ~Impl() override {
    for (Slot& slot : slots) slot.connection.reset();
  }

  struct Slot {
    std::unique_ptr<TcpConnection> connection;
    std::uint32_t generation = 0;
  };

  static std::uint64_t cookie_of(std::uint32_t index, std::uint32_t generation) {
    return std::uint64_t{generation} << 32 | index;
  }

  std::uint64_t hash_of(const TcpEnds& ends) const {
    const auto client = router::AddressBits::of(ends.client.address);
    const auto server = router::AddressBits::of(ends.server.address);
    return sip_hash(key, std::array<std::uint64_t, 5>{client.upper, client.lower, server.upper, server.lower,
                                                      std::uint64_t{ends.client.port} << 16 | ends.server.port});
  }

  TcpConnection* find(std::uint64_t cookie) {
    const auto index = static_cast<std::uint32_t>(cookie);
    if (index >= slots.size() || slots[index].generation != cookie >> 32) return nullptr;
    return slots[index].connection.get();
  }

  TcpConnection* find(const TcpEnds& ends) {
    if (count == 0) return nullptr;
    for (std::uint32_t i = buckets[hash_of(ends) & (buckets.size() - 1)]; i != kNone;) {
      TcpConnection& connection = *slots[i].connection;
      if (connection.ends() == ends) return &connection;
      i = connection.next_in_bucket;
    }
    return nullptr;
  }

  // Null: there are enough.
  TcpConnection* add(const TcpEnds& ends) {
    if (count >= settings.most_connections && !end_oldest_wait()) {
      ++counters.exhausted;
      return nullptr;
    }
    if (count >= buckets.size()) grow();
    std::uint32_t index = 0;
    if (free.empty()) {
      index = static_cast<std::uint32_t>(slots.size());
      slots.emplace_back();
      free.reserve(slots.capacity());
    } else {
      index = free.back();
      free.pop_back();
    }
    Slot& slot = slots[index];
    if (++slot.generation == 0) ++slot.generation;
    slot.connection = std::make_unique<TcpConnection>(*this, ends, cookie_of(index, slot.generation));
    std::uint32_t& bucket = buckets[hash_of(ends) & (buckets.size() - 1)];
    slot.connection->next_in_bucket = std::exchange(bucket, index);
    ++count;
    return slot.connection.get();
  }

  void grow() {
    buckets.assign(std::max(buckets.size() * 2, kFirstBuckets), kNone);
    for (std::uint32_t i = 0; i < slots.size(); ++i) {
      if (!slots[i].connection) continue;
      std::uint32_t& bucket = buckets[hash_of(slots[i].connection->ends()) & (buckets.size() - 1)];
      slots[i].connection->next_in_bucket = std::exchange(bucket, i);
    }
  }

  // `tell`: that nothing is left of it.
  void remove(TcpConnection& connection, bool tell) {
    const auto index = static_cast<std::uint32_t>(connection.cookie());
    const TcpEnds ends = connection.ends();
    std::uint32_t* in_bucket = &buckets[hash_of(ends) & (buckets.size() - 1)];
    while (*in_bucket != index) in_bucket = &slots[*in_bucket].connection->next_in_bucket;
    *in_bucket = connection.next_in_bucket;
    if (connection.is_from_outside()) --from_outside;
    slots[index].connection.reset();
    free.push_back(index);
    --count;
    if (tell) clients.closed(ends);
  }

  void touch(TcpConnection& connection) {
    if (!std::exchange(connection.touched, true)) touched.push_back(connection.cookie());
  }
  void touch(std::uint64_t cookie) override {
    if (TcpConnection* connection = find(cookie)) touch(*connection);
  }
  void touch_later(std::uint64_t cookie) override {
    later.push_back(cookie);
    if (later.size() == 1) later_timer.start(Duration{}, [this] { go_on(); });
  }
  void go_on() {
    std::vector<std::uint64_t> now = std::exchange(later, {});
    for (const std::uint64_t cookie : now) touch(cookie);
    flush();
  }

  // Whoever is given packets may send at once.
  void deliver() {
    while (!out.empty()) {
      PacketBatch batch = std::exchange(out, std::move(spare));
      out_footprint = 0;
      clients.to_clients(batch);
      batch.clear();
      spare = std::move(batch);
    }
  }

  void flush() override {
    if (std::exchange(flushing, true)) return;
    while (!touched.empty() || !out.empty()) {
      working.swap(touched);
      for (const std::uint64_t cookie : working) {
        TcpConnection* connection = find(cookie);
        if (connection == nullptr || !std::exchange(connection->touched, false)) continue;
        const bool waited_out = connection->state() == TcpConnection::State::time_wait;
        connection->flush();
        if (connection->gone()) {
          gone.push_back(cookie);
        } else if (!waited_out && connection->state() == TcpConnection::State::time_wait) {
          waits_out(cookie);
        }
        if (out_footprint >= kMostWaiting) deliver();
      }
      working.clear();
      deliver();
      // After their last words, for which it must be known whose they are.
      for (const std::uint64_t cookie : gone)
        if (TcpConnection* connection = find(cookie)) remove(*connection, true);
      gone.clear();
    }
    flushing = false;
    set_timer();
  }

  void waits_out(std::uint64_t cookie) {
    while (!time_wait.empty() && find(time_wait.front()) == nullptr) time_wait.pop_front();
    time_wait.push_back(cookie);
    if (time_wait.size() > settings.most_time_wait) end_oldest_wait();
  }

  // False: nobody waits out its time.
  bool end_oldest_wait() {
    while (!time_wait.empty()) {
      TcpConnection* oldest = find(time_wait.front());
      time_wait.pop_front();
      if (oldest == nullptr) continue;
      oldest->abort();
      remove(*oldest, true);
      return true;
    }
    return false;
  }

  void set_timer() {
    const auto next = wheel.next();
    if (!next) return timer.cancel();
    if (timer.running() && timer_at <= *next) return;
    timer_at = *next;
    timer.start_at(*next, [this] { on_timer(); });
  }

  void on_timer() {
    const TimePoint now = loop.now();
    while (TimerWheel::Member* member = wheel.take_due(now)) {
      auto& connection = static_cast<TcpConnection&>(*member);
      connection.on_timer(now);
      touch(connection);
    }
    flush();
  }

  void from_client(Packet&& packet, const IpView& view) {
    const auto segment = parse_tcp(std::as_const(packet).bytes(), view);
    const auto at = transport_of(std::as_const(packet).bytes(), view);
    if (!segment || !at || (!packet.offload.needs_checksum && !has_good_checksums(packet, *at))) {
      ++counters.malformed;
      return;
    }
    const TcpEnds ends{{view.source, segment->source}, {view.destination, segment->destination}};
    TcpConnection* connection = find(ends);
    std::optional<Sequence> above;
    if (connection != nullptr && connection->may_begin_anew(*segment)) {
      above = connection->next();
      connection->abort();
      remove(*connection, false);
      connection = nullptr;
    }
    if (connection != nullptr) {
      connection->receive(std::move(packet), *segment);
      return touch(*connection);
    }
    if ((segment->flags & (kTcpSyn | kTcpAck | kTcpRst)) != kTcpSyn) {
      if (auto reset = tcp_reset_for(packet, view)) {
        ++counters.no_connection;
        out.push_back(std::move(*reset));
      }
      return;
    }
    connection = add(ends);
    if (connection == nullptr) {
      const Packet plain = first_packet_of(packet);
      if (auto error = unreachable(view, plain.bytes(), ends.client.address, Unreachable::network))
        out.push_back(std::move(*error));
      deliver();
      return clients.closed(ends);
    }
    connection->set_owner(packet.source);
    connection->begin(*segment, above);
    touch(*connection);
  }

  const router::SipKey key;
  std::vector<Slot> slots;
  std::vector<std::uint32_t> free;
  std::vector<std::uint32_t> buckets;
  std::size_t count = 0;
  std::size_t from_outside = 0;  // of them
  std::vector<std::uint64_t> touched;
  std::vector<std::uint64_t> working;
  std::vector<std::uint64_t> gone;
  std::vector<std::uint64_t> later;
  std::deque<std::uint64_t> time_wait;  // oldest first; some may be gone
  PacketBatch spare;
  bool flushing = false;
  Timer timer;
  TimePoint timer_at;
  Timer later_timer;
};

TcpTerminator::TcpTerminator(EventLoop& loop, Random& random, const Settings& settings, HostStreams& streams,
                             Clients& clients)
    : impl_(std::make_unique<Impl>(loop, random, settings, streams, clients)) {}

TcpTerminator::~TcpTerminator() = default;

void TcpTerminator::from_client(Packet&& packet, const IpView& view) { impl_->from_client(std::move(packet), view); }

void TcpTerminator::flush() { impl_->flush(); }

void TcpTerminator::undeliverable(const TcpEnds& ends, std::uint32_t sequence, std::uint32_t mtu) {
  TcpConnection* connection = impl_->find(ends);
  if (connection == nullptr) return;
  connection->undeliverable(sequence, mtu);
  impl_->touch(*connection);
}

bool TcpTerminator::open(const TcpEnds& ends, HostStreams::Stream stream) {
  TcpConnection* connection = impl_->find(ends);
  if (connection != nullptr && connection->state() == TcpConnection::State::time_wait) {
    // Whoever calls again from the same port knows that the one before is over.
    connection->abort();
    impl_->remove(*connection, false);
    connection = nullptr;
  }
  const bool room = impl_->from_outside < impl_->settings.most_from_outside;
  if (!room) ++impl_->counters.exhausted;
  connection = connection == nullptr && room ? impl_->add(ends) : nullptr;
  if (connection == nullptr) {
    impl_->streams.adopt(stream, 0);  // it knows what it was handed, and nothing else
    impl_->streams.close(stream, true);
    return false;
  }
  ++impl_->from_outside;
  connection->begin(stream);
  impl_->touch(*connection);
  impl_->flush();
  return true;
}

void TcpTerminator::reached(const TcpEnds& ends) {
  TcpConnection* connection = impl_->find(ends);
  if (connection == nullptr) return;
  connection->reached();
  impl_->touch(*connection);
}

void TcpTerminator::abort(const TcpEnds& ends) {
  TcpConnection* connection = impl_->find(ends);
  if (connection == nullptr) return;
  connection->abort();
  impl_->remove(*connection, false);
}

void TcpTerminator::end_all() {
  for (Impl::Slot& slot : impl_->slots) {
    if (!slot.connection) continue;
    slot.connection->end();
    impl_->touch(*slot.connection);
  }
  impl_->flush();
}

void TcpTerminator::ready(std::uint64_t cookie, Ready what) {
  TcpConnection* connection = impl_->find(cookie);
  if (connection == nullptr) return;
  connection->ready(what);
  impl_->touch(*connection);
}

void TcpTerminator::turn_ends() { impl_->flush(); }

std::size_t TcpTerminator::connections() const { return impl_->count; }
std::size_t TcpTerminator::timers() const { return impl_->wheel.size(); }
const TcpTerminator::Counters& TcpTerminator::counters() const { return impl_->counters; }

std::size_t TcpTerminator::memory() const {
  std::size_t bytes = sizeof(Impl) + impl_->slots.capacity() * sizeof(Impl::Slot) +
                      (impl_->free.capacity() + impl_->buckets.capacity()) * sizeof(std::uint32_t) +
                      (impl_->touched.capacity() + impl_->working.capacity()) * sizeof(std::uint64_t);
  for (const Impl::Slot& slot : impl_->slots)
    if (slot.connection) bytes += sizeof(TcpConnection) + slot.connection->memory();
  return bytes;
}

}  // namespace penstock::egress
