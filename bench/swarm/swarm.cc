#include "bench/swarm/swarm.h"

#include <algorithm>
#include <cstring>
#include <iostream>
#include <numeric>
#include <system_error>
#include <utility>

#include "packet/checksum.h"

namespace penstock::bench {
namespace {

constexpr Duration kWarmUp = std::chrono::seconds(1);
// How long packets may be under way when no more are sent, and how often to look.
constexpr Duration kPatience = std::chrono::seconds(20);
constexpr Duration kLook = std::chrono::milliseconds(100);
constexpr Duration kTick = std::chrono::milliseconds(1);

constexpr std::size_t kIpHeader = 20;
constexpr std::size_t kUdpHeader = 8;
// Flow, number and time of sending, behind the headers.
constexpr std::size_t kFlowAt = kIpHeader + kUdpHeader;
constexpr std::size_t kNumberAt = kFlowAt + 4;
constexpr std::size_t kSentAt = kNumberAt + 4;
constexpr std::size_t kSmallest = kSentAt + 8;

// Four clients an address of loopback's /8.
IpAddress source_of(std::size_t index) {
  constexpr std::uint32_t kFirst = 0x7F010001;  // 127.1.0.1
  return IpAddress::v4(kFirst + static_cast<std::uint32_t>(index / 4));
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Swarm::Swarm(Settings settings, const Observed& gateway, std::shared_ptr<tls::ClientContext> tls)
    : settings_(std::move(settings)), gateway_(&gateway), tls_(std::move(tls)) {
  for (std::size_t i = 0; i < settings_.members; ++i) members_.emplace_back(*this, i);
}

// ---- logins ----

Logins Swarm::log_in() {
  const TimePoint begin = loop_.now();
  const double cpu = gateway_->cpu_seconds();
  Timer deadline(loop_);
  deadline.start(settings_.patience, [this] { loop_.stop(); });
  loop_.post([this] { connect_more(); });
  loop_.run();
  logins_.seconds = seconds(loop_.now() - begin);
  logins_.gateway_cpu = gateway_->cpu_seconds() - cpu;
  logins_.ready = ready_;
  return logins_;
}

void Swarm::connect_more() {
  while (started_ < members_.size() && started_ - ready_ - logins_.failed < settings_.concurrency) {
    Member& member = members_[started_++];
    if (!member.connect(source_of(member.index()), settings_.gateway))
      count_failure("cannot connect: " + std::generic_category().message(errno));
  }
  if (ready_ + logins_.failed == members_.size()) loop_.stop();
}

void Swarm::joined(Member&) {
  ++ready_;
  connect_more();
}

void Swarm::left(Member& member, const std::string& reason) {
  if (member.ready()) {
    --ready_;
    std::cerr << "swarm: member " << member.index() << " lost its connection: " << reason << "\n";
    return;
  }
  count_failure(reason);
  connect_more();
}

void Swarm::count_failure(const std::string& reason) {
  if (logins_.first_failure.empty()) logins_.first_failure = reason;
  ++logins_.failed;
}

void Swarm::idle(Duration duration) {
  Timer end(loop_);
  end.start(duration, [this] { loop_.stop(); });
  loop_.run();
}

// ---- traffic ----

void Swarm::make_flows(std::size_t members, std::size_t packet_size) {
  std::vector<Member*> circle;
  for (Member& member : members_) {
    if (member.ready()) circle.push_back(&member);
  }
  // Fisher and Yates.
  for (std::size_t i = circle.size(); i > 1; --i) std::swap(circle[i - 1], circle[random_.next32() % i]);
  circle.resize(std::min(members, circle.size()));
  flows_.clear();
  for (std::size_t i = 0; i < circle.size(); ++i)
    flows_.push_back({.from = circle[i], .to = circle[(i + 1) % circle.size()]});
  packet_size_ = std::max(packet_size, kSmallest);
  arrived_ = misplaced_ = 0;
}

// Ends the sending. Returns how many packets never came.
std::uint64_t Swarm::await_arrivals() {
  sending_ = false;
  const auto under_way = [&] {
    std::uint64_t packets = 0;
    for (const Flow& flow : flows_) packets += flow.sent - flow.received;
    return packets;
  };
  for (const TimePoint end = loop_.now() + kPatience; under_way() != 0 && loop_.now() < end;) idle(kLook);
  return under_way();
}

Traffic Swarm::exchange(std::size_t members, std::size_t packet_size, std::size_t window, Duration duration) {
  make_flows(members, packet_size);
  sending_ = answering_ = true;
  loop_.post([this, window] {
    for (std::uint32_t flow = 0; flow < flows_.size(); ++flow) {
      for (std::size_t i = 0; i < window; ++i) send_next(flow);
      turn_ended();
    }
  });
  idle(kWarmUp);
  const std::uint64_t before = arrived_;
  const double cpu = gateway_->cpu_seconds();
  const TimePoint begin = loop_.now();
  idle(duration);
  Traffic traffic{.members = flows_.size(),
                  .packet_size = packet_size_,
                  .window = window,
                  .seconds = seconds(loop_.now() - begin),
                  .packets = arrived_ - before,
                  .gateway_cpu = gateway_->cpu_seconds() - cpu};
  traffic.lost = await_arrivals();
  traffic.misplaced = misplaced_;
  return traffic;
}

Delays Swarm::pace(std::size_t packet_size, std::size_t per_second, Duration duration) {
  make_flows(members_.size(), packet_size);
  sending_ = true;
  answering_ = false;
  delays_.clear();
  delays_.reserve(static_cast<std::size_t>(seconds(duration) * static_cast<double>(per_second)) + per_second);

  // By the clock, so that a tick that comes late sends what it owes.
  const TimePoint begin = loop_.now();
  std::uint64_t sent = 0;
  Timer tick(loop_);
  std::move_only_function<void()> on_tick = [&] {
    const auto due = static_cast<std::uint64_t>(seconds(loop_.now() - begin) * static_cast<double>(per_second));
    for (; sent < due; ++sent) send_next(random_.next32() % static_cast<std::uint32_t>(flows_.size()));
    turn_ended();
    tick.start(kTick, [&] { on_tick(); });
  };
  on_tick();
  idle(kWarmUp);
  noting_delays_ = true;
  idle(duration);
  noting_delays_ = false;
  tick.cancel();

  Delays delays{.packets = delays_.size(), .lost = await_arrivals()};
  if (delays_.empty()) return delays;
  std::ranges::sort(delays_);
  delays.median = seconds(delays_[delays_.size() / 2]);
  delays.p99 = seconds(delays_[delays_.size() - 1 - delays_.size() / 100]);
  delays.most = seconds(delays_.back());
  return delays;
}

void Swarm::send_next(std::uint32_t flow) {
  if (!sending_) return;
  flows_[flow].from->queue(make_packet(flow));
  ++flows_[flow].sent;
}

Packet Swarm::make_packet(std::uint32_t flow) const {
  const auto& [from, to, number, received] = flows_[flow];
  Packet packet = Packet::with_size(packet_size_);
  const MutableByteView bytes = packet.mutable_bytes();
  std::memset(bytes.data(), 0, bytes.size());
  bytes[0] = 0x45;
  store_be16(&bytes[2], static_cast<std::uint16_t>(bytes.size()));
  bytes[8] = 64;
  bytes[9] = 17;  // UDP, without a checksum of its own
  store_be32(&bytes[12], from->address().to_v4());
  store_be32(&bytes[16], to->address().to_v4());
  store_be16(&bytes[10], internet_checksum(bytes.first(kIpHeader)));
  store_be16(&bytes[kIpHeader + 4], static_cast<std::uint16_t>(bytes.size() - kIpHeader));
  store_be32(&bytes[kFlowAt], flow);
  store_be32(&bytes[kNumberAt], number);
  store_be64(&bytes[kSentAt], static_cast<std::uint64_t>(loop_.now().time_since_epoch().count()));
  return packet;
}

void Swarm::arrived(Member& member, ByteView packet) {
  ++arrived_;
  const std::uint32_t index = packet.size() == packet_size_ ? load_be32(&packet[kFlowAt]) : 0xFFFFFFFF;
  if (index >= flows_.size() || flows_[index].to != &member ||
      flows_[index].received != load_be32(&packet[kNumberAt])) {
    ++misplaced_;
    return;
  }
  ++flows_[index].received;
  if (noting_delays_) {
    const Duration sent(static_cast<Duration::rep>(load_be64(&packet[kSentAt])));
    delays_.push_back(loop_.now().time_since_epoch() - sent);
  }
  if (answering_) send_next(index);
}

// What arrived in this turn of the receiver's is answered by its sender in one go.
void Swarm::turn_ended() {
  for (Member* member : queued_) member->send_queued();
  queued_.clear();
}

}  // namespace penstock::bench
