// A TUN device in memory, for the tests of rooms that use one.
//
//   FakeDevice device;
//   device.inject(Packet::copy_of(bytes));     what the kernel would send: read() hands it out
//   EXPECT_EQ(device.written.size(), 1u);      what the code under test wrote to the kernel
//
// handle() is an eventfd that is readable while packets wait (or after remove()), so that a Watch of a real loop works;
// a loop that has no descriptors is driven with on_inject instead. Linux only. One thread.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>

#include "tun/device.h"

namespace penstock::tun {

class FakeDevice final : public Device {
 public:
  explicit FakeDevice(std::string name = "fake0", int index = 1)
      : name_(std::move(name)), index_(index), event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    PENSTOCK_ASSERT(event_ >= 0);
  }
  ~FakeDevice() override { ::close(event_); }
  FakeDevice(const FakeDevice&) = delete;
  FakeDevice& operator=(const FakeDevice&) = delete;

  // What was accepted by write(), oldest first; tests may take packets out.
  PacketBatch written;
  // While true, write() refuses everything, as a device that is down does.
  bool refuse_writes = false;
  // What takes() says; write() keeps whatever it is given as it is.
  GsoKinds kinds;
  // Runs at the end of each inject() and remove().
  std::function<void()> on_inject;

  void inject(Packet packet) {
    waiting_.push_back(std::move(packet));
    signal();
  }
  // As if somebody deleted the interface: what still waits is lost.
  void remove() {
    removed_ = true;
    waiting_.clear();
    signal();
  }
  std::size_t waiting() const { return waiting_.size(); }

  Result<std::size_t> read(PacketBatch& into, std::size_t max_packets, std::size_t max_bytes) override {
    if (removed_) return fail(ErrorCode::closed, "interface " + name_ + " has been deleted");
    std::size_t count = 0;
    for (std::size_t bytes = 0; count < max_packets && bytes < max_bytes && !waiting_.empty(); ++count) {
      bytes += waiting_.front().size();
      into.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    std::uint64_t signals = 0;
    if (waiting_.empty()) static_cast<void>(::read(event_, &signals, sizeof signals) < 0);
    return count;
  }
  bool write(Packet& packet) override {
    if (removed_ || refuse_writes) return false;
    written.push_back(packet.clone());
    return true;
  }
  bool write_as_it_lies(ByteView packet, const Offload& offload) override {
    if (removed_ || refuse_writes || !kinds.has(offload.gso)) return false;
    written.push_back(Packet::copy_of(packet));
    written.back().offload = offload;
    return true;
  }
  GsoKinds takes() const override { return kinds; }
  DeviceCounters counters() const override { return {}; }
  NativeHandle handle() const override { return event_; }
  const std::string& name() const override { return name_; }
  int index() const override { return index_; }

 private:
  void signal() {
    const std::uint64_t one = 1;
    PENSTOCK_ASSERT(::write(event_, &one, sizeof one) == sizeof one);
    if (on_inject) on_inject();
  }

  std::string name_;
  int index_;
  int event_;
  bool removed_ = false;
  std::deque<Packet> waiting_;
};

}  // namespace penstock::tun
