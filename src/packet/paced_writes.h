// Writes packets to a device to which some of them are much work, so that none of that holds up the loop.
//
//   write() --little work, and nothing waits--> Device::write_now()
//           '--else--> [ FlowQueue ] --a posted task, kWorkPerTurn at a time--> Device::write_now()
//
// A device takes a packet a system call, and within the call the kernel does all that becomes of it. Most packets, and
// super-packets that the device takes whole, are one such call; but a super-packet can be true and stand for 65 000
// packets, and then it is tens of milliseconds of work. Such a one waits here, and leaves in parts between which the
// loop sees to everybody else. Whatever comes meanwhile waits too, fairly: a flow that sends little passes those that
// send much (packet/flow_queue.h).
//
// Work           is counted in writes. A UDP super-packet counts as its segments even where the device takes it whole:
//                the kernel takes it apart for most receivers.
// At once        goes what is a single write, and up to kAtOnce of them while not more than kWorkPerTurn of such work
//                was done since the turn before.
// Always true    packets of a flow are written in the order in which they came. Each is handed to the device, in one
//                piece or several, or lost in the queue and told by lost_waiting().
// Memory         kMaxBytes at most, and next to none once nothing waits. What goes at once allocates nothing.
// Ownership      borrows the loop and the device.
// Threads        its loop's.
#pragma once

#include <cstddef>
#include <memory>

#include "base/event_loop.h"
#include "packet/flow_queue.h"
#include "packet/packet.h"

namespace penstock {

class PacedWrites {
 public:
  // Most writes at once for one packet: what an honest UDP super-packet stands for.
  static constexpr std::size_t kAtOnce = 64;
  // Writes a turn: about a millisecond's.
  static constexpr std::size_t kWorkPerTurn = 1024;
  static constexpr std::size_t kMaxBytes = 1024 * 1024;

  class Device {
   public:
    // Uses the packet up. May not call write() below.
    virtual void write_now(Packet& packet) = 0;
    // Packets that were not written, in segments: there were too many, or they waited for too long.
    virtual void lost_waiting(const FlowQueue::Losses& losses) = 0;

   protected:
    ~Device() = default;
  };

  PacedWrites(EventLoop& loop, const FlowHashKey& key, Device& device);
  ~PacedWrites();
  PacedWrites(const PacedWrites&) = delete;
  PacedWrites& operator=(const PacedWrites&) = delete;

  // The super-packets that the device takes whole.
  void set_kinds(GsoKinds kinds) { kinds_ = kinds; }

  // Anything that check_offload() says yes to.
  void write(Packet&& packet);
  // Packets wait: what is written by another way now overtakes them.
  bool waiting() const { return !queue_.empty(); }
  std::size_t memory() const { return queue_.memory() + queue_.size_bytes(); }

 private:
  std::size_t work_of(const Packet& packet) const;
  bool may_go_at_once(std::size_t work) const;
  void spend(std::size_t work);
  void turn();
  void tell_losses();

  EventLoop* loop_;
  Device* device_;
  GsoKinds kinds_;
  FlowQueue queue_;
  PacketBatch taken_;
  std::size_t work_left_ = kWorkPerTurn;  // in this turn
  bool turn_posted_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // asked by the posted turn
};

}  // namespace penstock
