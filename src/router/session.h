// A client as the data path knows it: the addresses it owns, the queue towards it, what it has used.
//
// A session outlives its link. While it has one, packets wait in the queue until the link takes them; while it has
// none, they are dropped and counted, since what was sent to somebody who is away is stale when they come back.
//
//   DETACHED --attach(link)--> ATTACHED --detach()--> DETACHED     (for how long: session/registry.h)
//
// As a Port it is what the route table points at. Its credit is the free room of the queue.
//
// Ownership   its Shard owns it. The link is borrowed: it detaches itself before it dies.
// Threads     its shard's loop only; its Usage may be read by anybody.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "packet/packet_queue.h"
#include "router/drop.h"
#include "router/meter.h"
#include "router/port.h"
#include "router/port_id.h"
#include "router/source_guard.h"

namespace penstock::router {

// What a session asks of the connection that carries it, whichever door it came through.
class SessionLink {
 public:
  // The queue is no longer empty. Called from a turn of the loop that is delivering packets: the link takes them when
  // that turn is done, so that many packets leave together.
  virtual void packets_waiting() = 0;
  // Another link has the session now, or it was ended: say goodbye with these words and close. detach() has happened.
  virtual void end(std::string_view reason) = 0;
  // Calls back with true as soon as the peer shows that it lives, with false when `patience` has passed or it is gone.
  virtual void probe(Duration patience, std::move_only_function<void(bool alive)> answer) = 0;

 protected:
  ~SessionLink() = default;
};

// What a session has used and what waits for it. Outlives the session, for whoever reports it.
struct Usage {
  Meter meter;
  std::atomic<std::size_t> queued_bytes{0};
};

// What a session is made of; fixed for its life.
struct SessionSpec {
  SessionId id;
  std::string name;              // of the credential, for logs
  std::vector<Prefix> prefixes;  // its addresses (/32, /128) and the subnets behind it
  std::size_t queue_bytes = 0;   // bound of the queue towards it
  std::shared_ptr<Usage> usage;  // shared with the registry; never null
};

class Session final : public Port {
 public:
  Session(SessionSpec spec, DropCounters& drops);

  const SessionSpec& spec() const { return spec_; }
  SessionId id() const { return spec_.id; }
  const SourceGuard& source_guard() const { return guard_; }
  Meter& meter() { return spec_.usage->meter; }

  SessionLink* link() const { return link_; }
  // Links are numbered by the registry as they are admitted. The session goes to `link`, and the one before it is ended
  // with `reason`; false where a later one has it already.
  bool attach(SessionLink& link, std::uint64_t attachment, std::string_view reason);
  // The link numbered `attachment` is gone before it was attached: the one before it, overtaken, goes too.
  void end_older_link(std::uint64_t attachment, std::string_view reason);
  // Drops what is queued, counted as session_detached.
  void detach();

  void send(PacketBatch& batch) override;
  std::size_t credit() const override;
  // For the link: appends the oldest packets, up to `bytes`, charges them as down, and grants credit to who waits.
  void take(PacketBatch& into, std::size_t bytes);
  bool has_packets() const { return !queue_.empty(); }
  std::size_t queued_bytes() const { return queue_.size_bytes(); }

 private:
  SessionSpec spec_;
  DropCounters* drops_;
  SourceGuard guard_;
  PacketQueue queue_;
  SessionLink* link_ = nullptr;
  std::uint64_t attachment_ = 0;
};

}  // namespace penstock::router
