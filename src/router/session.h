// A client as the data path knows it: the addresses it owns, the queue towards it, what it has used.
//
// A session outlives its link. While it has one, packets wait in the queue until the link takes them; while it has
// none, they are dropped and counted, since what was sent to somebody who is away is stale when they come back.
//
//   DETACHED --attach(link)--> ATTACHED --detach()--> DETACHED     (for how long: session/registry.h)
//
// The queue is fair among the flows towards the client and lets none of them stand (packet/flow_queue.h); what it drops
// for that is counted here. How large and of what kind packets may be is the client's word, which its link brings.
//
// As a Port it is what the route table points at. Its credit is the free room of the queue. Where the LAN is
// isolated, its AccessGate says which packets may come in.
//
// Ownership   its Shard owns it. The link is borrowed: it detaches itself before it dies.
// Threads     its shard's loop only; its Usage may be read by anybody.
#pragma once

#include <atomic>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "packet/flow_queue.h"
#include "router/access_gate.h"
#include "router/discovery.h"
#include "router/drop.h"
#include "router/meter.h"
#include "router/port.h"
#include "router/port_id.h"
#include "router/queue_budget.h"
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
  // The subnets behind clients are others from now on: Shard::sites(), or this session's own.
  virtual void sites_changed() {}
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
  std::vector<Prefix> prefixes;  // its addresses (/32, /128)
  std::size_t queue_bytes = 0;   // bounds of the queue towards it
  std::size_t queue_packets = std::numeric_limits<std::size_t>::max();
  FlowHashKey queue_key;                      // secret
  std::shared_ptr<QueueBudget> queue_budget;  // of all sessions together; null: no bound but its own
  std::shared_ptr<Usage> usage;               // shared with the registry; never null
  std::uint32_t member = 0;                   // whose it is, as access rules count (access_policy.h)
};

class Session final : public Port {
 public:
  // `drops` and `clock` outlive it.
  Session(SessionSpec spec, DropCounters& drops, const Clock& clock);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const SessionSpec& spec() const { return spec_; }
  SessionId id() const { return spec_.id; }
  const SourceGuard& source_guard() const { return guard_; }
  // The subnets behind the client, from and to which it carries packets too.
  void set_sites(std::vector<Prefix> sites);
  const std::vector<Prefix>& sites() const { return sites_; }
  // The rules for what reaches it; null: everybody does. `clock` outlives the session.
  void set_access_policy(std::shared_ptr<const AccessPolicy> policy, const Clock& clock);
  // Null where everybody reaches everybody.
  AccessGate* gate() { return gate_.get(); }
  Meter& meter() { return spec_.usage->meter; }
  // The largest packet that its client takes, in bytes; of a super-packet this holds for each segment.
  std::size_t mtu() const { return mtu_; }
  void set_mtu(std::size_t mtu) { mtu_ = mtu; }
  // How much it may still say to everybody.
  TokenBucket& discovery() { return discovery_; }

  SessionLink* link() const { return link_; }
  // Links are numbered by the registry as they are admitted. The session goes to `link`, and the one before it is ended
  // with `reason`; false where a later one has it already.
  bool attach(SessionLink& link, std::uint64_t attachment, std::string_view reason);
  // The link numbered `attachment` is gone before it was attached: the one before it, overtaken, goes too.
  void end_older_link(std::uint64_t attachment, std::string_view reason);
  // Drops what is queued, counted as session_detached.
  void detach();

  void send(PacketBatch& batch) override;
  // Nothing while it has no link, and nothing that it sent itself.
  void flood(std::span<const Packet> packets) override;
  std::size_t credit() const override;
  // For the link: appends what goes next, up to `bytes` and none larger than `chunk` if it can be split, charges it as
  // down, and grants credit to who waits.
  void take(PacketBatch& into, std::size_t bytes, std::size_t chunk = 0);
  // Gives back what the queue keeps for its next packets.
  void release_idle_memory() { queue_.release_idle_memory(); }
  bool has_packets() const { return !queue_.empty(); }
  std::size_t queued_bytes() const { return queue_.size_bytes(); }

 private:
  void enqueue(PacketBatch& batch);
  void settle_queue();

  SessionSpec spec_;
  DropCounters* drops_;
  const Clock* clock_;
  SourceGuard guard_;
  std::vector<Prefix> sites_;
  std::unique_ptr<AccessGate> gate_;
  TokenBucket discovery_;
  FlowQueue queue_;
  std::size_t queued_ = 0;  // bytes that the budget knows of
  std::size_t mtu_ = Packet::kMaxSize;
  SessionLink* link_ = nullptr;
  std::uint64_t attachment_ = 0;
};

}  // namespace penstock::router
