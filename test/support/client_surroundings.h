// What a client borrows from its machine, in memory: interface, lease, names. No gateway here: see network.h.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "client/core/client.h"
#include "client/core/tunnel.h"
#include "net/resolver.h"
#include "packet/packet.h"
#include "test/support/fifo.h"

namespace penstock::test {

// A client's interface in memory.
class FakeTunnel final : public client::Tunnel {
 public:
  explicit FakeTunnel(EventLoop& loop) : loop_(&loop) {}
  Result<void> configure(const client::TunnelSettings& wanted) override {
    ++configured;
    if (settings.empty() || settings.back() != wanted) settings.push_back(wanted);
    return {};
  }
  int mtu() const override { return mtu_by_hand.value_or(settings.empty() ? 0 : settings.back().mtu); }
  Result<std::size_t> read(PacketBatch& into, std::size_t max_packets, std::size_t max_bytes) override {
    if (removed) return fail(ErrorCode::closed, "the interface is gone");
    std::size_t count = 0;
    for (std::size_t bytes = 0; count < max_packets && bytes < max_bytes && !waiting_.empty(); ++count) {
      bytes += waiting_.front().size();
      into.push_back(waiting_.pop_front());
    }
    return count;
  }
  bool write(Packet& packet) override {
    written.push_back(packet.clone());
    return true;
  }
  bool write_as_it_lies(ByteView packet, const Offload& offload) override {
    if (!kinds.has(offload.gso)) return false;
    written.push_back(Packet::copy_of(packet));
    written.back().offload = offload;
    return true;
  }
  GsoKinds takes() const override { return kinds; }
  void when_readable(Task task) override {
    reader_ = std::move(task);
    if (!waiting_.empty()) wake();
  }
  void inject(Packet packet) {
    waiting_.push_back(std::move(packet));
    wake();
  }
  void remove() {
    removed = true;
    wake();
  }

  std::vector<client::TunnelSettings> settings;  // each configure() that said something new, in order
  std::size_t configured = 0;                    // how often
  std::optional<int> mtu_by_hand;
  PacketBatch written;
  GsoKinds kinds;
  bool removed = false;

 private:
  void wake() {
    loop_->post([this] {
      if (reader_) std::exchange(reader_, nullptr)();
    });
  }
  EventLoop* loop_;
  Fifo<Packet> waiting_;
  Task reader_;
};

class MemoryLease final : public client::LeaseStore {
 public:
  std::string load() override { return lease; }
  void save(const std::string& value) override { lease = value; }
  std::string lease;
};

// Names that are addresses, found at once.
class LiteralResolver final : public net::Resolver {
 public:
  explicit LiteralResolver(EventLoop& loop) : loop_(&loop) {}
  std::unique_ptr<Lookup> resolve(const std::string&, Family family, Done done) override {
    loop_->post([family, done = std::move(done)]() mutable {
      if (family == Family::ipv4) return done(std::vector{IpAddress::v4(0xC0000202)});
      done(fail(ErrorCode::not_found, "no address of this family"));
    });
    return std::make_unique<Lookup>();
  }

 private:
  EventLoop* loop_;
};

}  // namespace penstock::test
