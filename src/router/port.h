// Where packets leave the router: towards a session's link, the TUN device, the gateway itself, later NAT and devices.
//
//   source --[batch]--> router --[batch]--> Port
//                                            |
//   source <------------ credit -------------+
//
// A Port takes every batch that it is given; what does not fit is dropped there and counted. Two kinds of sources deal
// with that differently:
//   those that cannot wait   (a TUN device, a peer's link) just send: the port's queue is the place where they lose.
//   those that can           (NAT's sockets, relays, rate-limited clients) ask for credit() first, read no more than
//                            that from where their bytes wait, and call wait_for_credit() when there is none.
// Waiters are served first come, first served, one at a time, each once: whoever was served and has more to send goes
// to the back of the line. So several waiting sources share a slow port evenly and none of their packets is dropped.
//
// What goes to everybody on the LAN (discovery.h) is not sent but offered: a port that takes part makes its own copies.
//
// Threads     A port belongs to one shard and is used on that shard's loop only; a waiting source lives on the shard of
//             the session that it feeds, so credit never crosses loops. Packets for another shard go through its ring.
// Ownership   The port owns a packet from send() on. A waiter unregisters itself (cancel_wait) before it dies.
#pragma once

#include <cstddef>
#include <list>
#include <span>
#include <utility>

#include "packet/packet.h"

namespace penstock::router {

class CreditWaiter {
 public:
  // The port has credit again. Called from the port's loop while the port is in a settled state: send() is allowed.
  virtual void on_credit() = 0;

  // In the line of the port that it waits for; the port's to use.
  struct Place {
    std::list<CreditWaiter*>::iterator at;
    bool taken = false;
  };
  Place place;

 protected:
  ~CreditWaiter() = default;
};

class Port {
 public:
  // Less than an ordinary packet holds is no credit to a waiter: it would be called in vain, and lose its turn.
  static constexpr std::size_t kLeastCredit = 2048;

  virtual ~Port() = default;
  Port() = default;
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  // Takes every packet of `batch` and leaves it empty.
  virtual void send(PacketBatch& batch) = 0;
  // Packets for everybody on the LAN but their senders: a port that takes part copies those that are for it.
  virtual void flood(std::span<const Packet> /*packets*/) {}
  // How much send() would take now without dropping a packet, in bytes of Packet::footprint(); 0 while full.
  virtual std::size_t credit() const = 0;

  // A waiter waits for one port at a time.
  void wait_for_credit(CreditWaiter& waiter) { waiter.place = {waiters_.insert(waiters_.end(), &waiter), true}; }
  // Nothing happens where it does not wait.
  void cancel_wait(CreditWaiter& waiter) {
    if (std::exchange(waiter.place.taken, false)) waiters_.erase(waiter.place.at);
  }

 protected:
  // A port calls this when packets left its queue. Each waiter of now is served at most once, so one that waits again
  // inside on_credit() gets its next turn only after the others.
  void grant_credit() {
    for (std::size_t turns = waiters_.size(); turns > 0 && !waiters_.empty() && credit() >= kLeastCredit; --turns) {
      CreditWaiter* waiter = waiters_.front();
      waiters_.pop_front();
      waiter->place.taken = false;
      waiter->on_credit();
    }
  }

 private:
  std::list<CreditWaiter*> waiters_;  // an empty one holds no memory
};

}  // namespace penstock::router
