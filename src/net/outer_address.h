// Which address of this machine packets to the internet leave by, and when that may have changed.
//
// Threads   those of the loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/result.h"
#include "net/file_descriptor.h"

namespace penstock::net {

// The source address that the system would give a packet to somewhere on the internet; nothing where no route leads
// there. Nothing is sent. Any thread.
std::optional<IpAddress> outer_address(Family family);

// Calls back kSettle after addresses or routes of this machine have begun to change, and again while they go on: a
// change is seldom one message. rtnetlink(7), without privilege.
class AddressWatch {
 public:
  static constexpr Duration kSettle = std::chrono::milliseconds(100);

  // The loop outlives it. Refusals: as of socket(2).
  static Result<std::unique_ptr<AddressWatch>> create(EventLoop& loop, std::function<void()> changed);
  AddressWatch(const AddressWatch&) = delete;
  AddressWatch& operator=(const AddressWatch&) = delete;

 private:
  AddressWatch(EventLoop& loop, FileDescriptor fd, std::function<void()> changed);
  void read_turn();

  FileDescriptor fd_;
  std::function<void()> changed_;
  Timer settle_;
  std::unique_ptr<Watch> watch_;  // destroyed before fd_
};

}  // namespace penstock::net
