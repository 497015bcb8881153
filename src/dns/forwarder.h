// The gateway's DNS service: clients' queries in, answers out, and in between as few questions to upstream servers as
// there can be.
//
//   on_query --> [rate] -> [read] -> [local zones] -> [cache] -> [same question waits?] -> [in flight?] --> ask
//                   |         |            |             |                |                     |            |
//                dropped   refused      answer        answer            joins               refused          |
//                                                                                                            |
//   answer to all who wait <-- answer --- read_reply <-- on_reply ------ Upstream (sockets, of the outside) <+
//                                             |                                ^
//                                             +-- no answer: the next server --+ or the same in another way
//
// A question in flight
//   ASKING --reply--> done;  its servers are asked in their order, those that were silent lately last
//     no reply             after kFirstPatience the next one is asked (with one server it again), after twice that
//                          another, and so on. Earlier queries stay open: a slow reply is as good as any.
//     no answer            SERVFAIL, REFUSED, a dead socket: the next one at once, this one no more
//     TC                   the same by TCP; where the outside offers none, the client gets TC itself
//     case not kept        the same again in lower case (server.h remembers)
//     EDNS not known       the same again without (server.h remembers)
//     kMaxStrange replies that match nothing
//                          somebody guesses: by TCP, else again from another socket
//     kPatience in all, kMaxAttempts, or nobody left to ask
//                          SERVFAIL for everybody who waits, and for kFailureTtl for whoever asks again
//
// Who can answer    for a server: whoever sends to the right socket from its address the id and, letter by letter, the
//                   case of the question (upstream_query.h). The outside gives each Exchange a fresh socket on a port
//                   of chance.
// Never forwarded   what client_query.h refuses, what lan_names.h answers.
// Always true       each Exchange that was sent is closed once, or has failed; each client in ClientLimits::begin has
//                   its end; every query that waits is answered within kPatience (forwarder_test.cc,
//                   dns_forwarder_fuzz).
// Bounds            Settings: what waits in all and of a client, a client's rate, the cache.
// Loops             a server that is the gateway itself would be asked what it asks: who configures servers refuses it.
// Ownership         loop, random, upstream and zones outlive the forwarder. Bytes given out are valid during the call.
// Re-entrance       Upstream's methods do not call back from within. The answer callback may call on_query().
// Threads           the loop's.
#pragma once

#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/event_loop.h"
#include "base/ip.h"
#include "base/random.h"
#include "dns/cache.h"
#include "dns/client_limits.h"
#include "dns/client_query.h"
#include "dns/counters.h"
#include "dns/lan_names.h"
#include "dns/server.h"
#include "dns/upstream_query.h"

namespace penstock::dns {

// One query on its way to one server; never 0, never given twice.
using Exchange = std::uint64_t;

// The sockets. Failures that come later are told by Forwarder::on_failed().
class Upstream {
 public:
  virtual ~Upstream() = default;
  // Sends a datagram from a socket of its own, bound to a port of chance, and passes on what comes back to it. False
  // where there is no socket to be had: then there is no such exchange.
  virtual bool send(const Endpoint& server, ByteView query, Exchange exchange) = 0;
  // The same by TCP, where each message passed on is a whole one (stream_framing.h). False also where there is no TCP.
  virtual bool send_stream(const Endpoint& /*server*/, ByteView /*query*/, Exchange /*exchange*/) { return false; }
  // No more is wanted.
  virtual void close(Exchange exchange) = 0;
};

// Where a query came from and its answer goes.
struct ClientKey {
  std::uint64_t client = 0;  // whose limits it counts against: the number of a session
  Endpoint from;
  std::uint64_t stream = 0;  // a number of the outside's for a TCP connection; 0: UDP
  Endpoint to;               // what it was sent to, where its answer comes from

  friend auto operator<=>(const ClientKey&, const ClientKey&) = default;
};

class Forwarder {
 public:
  static constexpr Duration kPatience = std::chrono::seconds(5);
  static constexpr Duration kFirstPatience = std::chrono::seconds(1);
  static constexpr std::size_t kMaxAttempts = 8;
  static constexpr int kMaxStrange = 32;

  struct Settings {
    std::size_t in_flight = 1024;  // clients' queries that wait, and questions that are asked
    ClientLimits::Settings client;
    Cache::Limits cache;
  };
  using Answer = std::function<void(const ClientKey&, ByteView)>;

  Forwarder(EventLoop& loop, Random& random, Upstream& upstream, const LocalZones& zones, const Settings& settings,
            Answer answer);
  Forwarder(const Forwarder&) = delete;
  Forwarder& operator=(const Forwarder&) = delete;
  ~Forwarder();

  // In the order in which they are preferred. What is remembered of those that stay is kept; where the list is another,
  // the cache is emptied, for the answers may be others now.
  void set_servers(std::span<const Endpoint> servers);

  // Whether an answer has been given or will be, unless the client is forgotten: false for what is dropped.
  bool on_query(const ClientKey& client, ByteView query);
  // `from` is the address that the bytes came from. Exchanges that are closed are ignored.
  void on_reply(Exchange exchange, const Endpoint& from, ByteView reply);
  // The exchange's socket is dead: refused, unreachable, ended without a reply. It is closed already.
  void on_failed(Exchange exchange);
  // The client is gone: nothing of it waits any more.
  void forget(std::uint64_t client);
  // The same of one TCP connection.
  void forget_stream(std::uint64_t stream);

  std::size_t waiting() const { return waiting_; }           // queries of clients
  std::size_t questions() const { return pending_.size(); }  // that are being asked
  const Counters& counters() const { return counters_; }
  const Cache& cache() const { return cache_; }

 private:
  struct Waiter {
    ClientKey client;
    ClientQuery query;
  };
  struct Attempt {
    Exchange exchange = 0;           // 0: none was made
    std::shared_ptr<Server> server;  // also set_servers'
    UpstreamQuery query;
    bool stream = false;
    bool open = false;
    bool silent = false;  // had its time
    bool failed = false;  // its server is not asked again
    int strange = 0;
  };
  struct Pending {
    Pending(EventLoop& loop, CacheKey asked) : key(std::move(asked)), timer(loop) {}
    CacheKey key;
    std::vector<Waiter> waiters;
    std::vector<Attempt> attempts;
    Duration patience = kFirstPatience;
    TimePoint deadline;
    Timer timer;
  };
  enum class Way : std::uint8_t { usual, lower_case, without_edns, stream };

  bool wait_for(const ClientKey& client, ClientQuery query);
  bool refuse(const ClientKey& client, const ClientQuery& query, Count reason);
  // Each of these may end the question, which is then gone.
  void ask_next(Pending& pending);
  void ask_again(Pending& pending, std::size_t attempt, Way way);
  void on_strange(Pending& pending, std::size_t attempt);
  void on_bad_reply(Pending& pending, std::size_t attempt, const BadReply& reply);
  void on_timer(Pending& pending);
  void fail(Pending& pending);
  void finish(Pending& pending, const Message& answer);
  template <typename IsGone>
  void forget_waiters(IsGone is_gone);

  bool ask(Pending& pending, const std::shared_ptr<Server>& server, Way way);
  std::shared_ptr<Server> choose(const Pending& pending) const;
  void close(Attempt& attempt);

  EventLoop* loop_;
  Random* random_;
  Upstream* upstream_;
  const LocalZones* zones_;
  Settings settings_;
  Answer answer_;
  ClientLimits limits_;
  Cache cache_;
  Counters counters_;
  std::vector<std::shared_ptr<Server>> servers_;
  std::map<CacheKey, std::unique_ptr<Pending>> pending_;
  std::unordered_map<Exchange, Pending*> exchanges_;  // open ones
  Exchange last_exchange_ = 0;
  std::size_t waiting_ = 0;
};

}  // namespace penstock::dns
