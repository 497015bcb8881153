// Who is in: admits clients, gives each session its address, keeps it while its link is away, ends it.
//
// Theory of operation
// -------------------
//   login --> [ credential ] --> [ which session? ] --> [ address ] --> opened on a shard, routed, admitted
//
//   ATTACHED --link lost--> DETACHED --grace--> ended (its address rests)
//      ^                       |
//      +------- login ---------+     by lease, by previous_ip (plain v1), or because the credential is `single`
//
// Which session a login gets, in this order:
//   a lease             the session that the ticket names, also while another link has it: that link is ended. If the
//                       session is gone (the grace time passed, or this gateway was restarted), a new one with the same
//                       key and address, as long as nobody else has the address.
//   a single credential the session it has, if any: the newer login wins. The older client's lease is void from then
//                       on, and it is refused as long as the newer one is attached.
//   previous_ip         the session of the same credential that has this address, if its link is gone or leaves a
//                       probe unanswered for kProbePatience.
//   otherwise           a new session.
// Which address a new session gets: the credential's fixed one; else the one it asks for, if that is free for it; else
// the lowest rested one; else the one that rests longest; else that of the session that has been detached longest,
// which is ended; else the login is refused. A credential that has `sessions_per_token` sessions gets no new one; what
// it has can be resumed all the same.
//
// Sites              the subnets behind a client are its session's as its addresses are, while there is one. At other
//                    times they lead nowhere (kNobody), and never out by the default route.
//
// Across a restart   sessions are saved (state_file.h) and come back detached, with a new grace time, so that nobody
//                    else gets their addresses. Their leases need no file: the ticket says all there is to know.
//
// Always true   no two sessions have an address in common; an address is leased in the pool exactly while a session has
//               it; every admitted link ends in one call of detached() (or is overtaken by a later one).
// Threads       login(), detached() and count_refused_login() may be called from any thread; everything else belongs to
//               the home loop, where all of the above happens.
// Not here      access rules and whose a site is (lan_policy.h), sockets and messages (ingress/), packets (router/),
//               what a token is (auth/).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "auth/authenticator.h"
#include "auth/lease_ticket.h"
#include "base/event_loop.h"
#include "base/log_gate.h"
#include "base/random.h"
#include "protocol/messages.h"
#include "router/address_pool.h"
#include "router/route_table.h"
#include "router/shard.h"
#include "session/lan_policy.h"
#include "session/state_file.h"

namespace penstock::session {

struct LoginRequest {
  std::string token;  // or:
  std::string lease;
  std::optional<IpAddress> previous_ip;  // plain v1 reconnect
  std::string software;                  // "penstock/1.0 linux"; empty for a plain v1 client
  std::string format;                    // what its client takes, for people (protocol/batch.h)
  Endpoint outer;                        // of the link
  std::uint16_t shard = 0;               // where the link is: a new session is opened there
};

// What an admitted link is told.
struct Admission {
  SessionId session;
  router::PortId port;           // the session on its shard, which may be another than the link's
  std::uint64_t attachment = 0;  // names this link among those that the session has had
  std::string client;            // the credential's name
  IpAddress address;
  std::optional<IpAddress> address6;
  std::string lease;
  bool resumed = false;
  std::string_view to_old_link;  // what the link that had the session is told; a constant
};

struct Options {
  Duration grace = std::chrono::minutes(5);
  std::size_t queue_bytes = 1024 * 1024;  // towards each session
  std::size_t queue_packets = 4096;
  std::size_t queue_memory = std::size_t{256} << 20;  // towards all of them together
  std::size_t sessions_per_token = 256;               // of one credential, detached ones too
};

// For people: `penstock status`.
struct SessionStatus {
  SessionId id;
  std::string client;
  IpAddress address;
  std::optional<IpAddress> address6;
  bool attached = false;
  Endpoint outer;
  std::string software;
  std::string format;
  TimePoint since;
  TimePoint detached_at;
  std::uint16_t shard = 0;
  router::MeterSnapshot traffic;
  router::TrafficRate rate;
  std::size_t queued_bytes = 0;
};

struct Totals {
  std::uint64_t links = 0;  // admitted
  std::uint64_t links_lost = 0;
  std::uint64_t sessions_created = 0;
  std::uint64_t sessions_resumed = 0;
  std::uint64_t sessions_ended = 0;
  std::uint64_t resume_attempts = 0;  // logins with a lease or previous_ip
  std::uint64_t logins_refused = 0;
  std::uint64_t refused_for_sessions = 0;  // of them, for sessions_per_token
  router::Traffic up;                      // of all sessions, ended ones too
  router::Traffic down;
};

class Registry {
 public:
  static constexpr Duration kProbePatience = std::chrono::seconds(2);
  static constexpr Duration kRateInterval = std::chrono::seconds(2);
  // Writing the list costs the more the longer it is: a wave of logins must not write it ten times a second.
  static constexpr Duration kSaveDelay = std::chrono::milliseconds(100);
  static constexpr Duration kSaveDelayEach = std::chrono::microseconds(100);  // 1.1 s with 10 000 sessions

  using Reply = std::move_only_function<void(Result<Admission>)>;

  // `shards` outlive the registry and are those that routes are published to; shard 0's loop is the home loop.
  // `exits` are the routes that are there before any session.
  Registry(std::vector<router::Shard*> shards, Random& random, router::AddressPool pool, auth::TicketSealer sealer,
           router::RouteTable exits, StateFile& state, Options options);
  ~Registry();

  // Whoever is in the new snapshot may connect; sessions of credentials that are not, or that changed, are ended.
  void set_authenticator(auth::Authenticator authenticator);
  // Who may reach whom from now on, living sessions included; nothing: everybody everybody.
  void set_access_rules(std::optional<std::vector<router::AccessRule>> rules);
  // Called on the home loop when a session has ended and sends nothing more, for whoever remembers something of it.
  void on_session_ended(std::function<void(SessionId)> ended) { session_ended_ = std::move(ended); }
  // Called on the home loop when a session has a link, its first or a later one, and can be reached.
  void on_session_attached(std::function<void(SessionId)> attached) { session_attached_ = std::move(attached); }
  // Brings back, detached, what a former process saved. Before the first login.
  void restore();

  // `reply` runs on `on`. Refusals: unauthenticated (the credential), exhausted (no address, too many sessions),
  // unavailable (replaced).
  void login(LoginRequest request, EventLoop& on, Reply reply);
  // Its session has it now.
  void attached(SessionId session);
  // The link of this attachment is gone. `reason` is for the log.
  void detached(SessionId session, std::uint64_t attachment, std::string reason);
  // A login that never came so far (no message in time, a wrong one) counts as refused too. Any thread.
  void count_refused_login(Endpoint outer, std::string reason);

  std::vector<SessionStatus> sessions() const;
  // The addresses of all sessions of the credentials of this name, which is in lower case and stands for any case.
  std::vector<IpAddress> addresses_of(std::string_view lower_name) const;
  // The session that has this address or a site that it lies in, and whose it is; nothing where there is none.
  struct Owner {
    SessionId session;
    std::string_view name;  // valid until the next call of anything here
    bool its_own = false;   // and not of a site
  };
  std::optional<Owner> owner_of(const IpAddress& address) const;
  Totals totals() const;
  const router::AddressPool& pool() const { return pool_; }
  // Saves now, on this thread: for an orderly stop.
  void save_now();

 private:
  struct Record;
  struct PendingLogin;
  using Login = std::shared_ptr<PendingLogin>;

  void decide(const Login& login);
  void decide_lease(const Login& login);
  void probe_old_link(const Login& login, Record& record);
  void take_over(const Login& login, Record& record, bool resumed);
  void create(const Login& login, std::optional<IpAddress> wanted, std::array<std::uint8_t, 16> key, bool resumed);
  Result<IpAddress> find_address(const auth::Credential& credential, const std::optional<IpAddress>& wanted);
  void opened(const Login& login, SessionId id, router::PortId port, bool resumed);
  void admit(const Login& login, Record& record, bool resumed);
  void refuse(const Login& login, Error error);
  void answer(const Login& login, Result<Admission> result);

  Record& make_record(std::shared_ptr<const auth::Credential> credential, IpAddress address,
                      std::array<std::uint8_t, 16> key);
  void end(Record& record, std::string_view reason);
  Record* find(SessionId id);
  Record* find_key(const std::array<std::uint8_t, 16>& key);
  Record* find_credential(std::string_view name);
  Record* find_address_holder(const IpAddress& address);
  std::vector<Prefix> prefixes_of(const Record& record) const;
  void publish_routes();
  void publish_access_policy();
  void publish_sites();
  void give_sites(Record& record);
  void schedule_expiry();
  void expire();
  void sample_rates();
  void changed();
  std::vector<SavedSession> saved() const;
  EventLoop& home() const { return shards_.front()->loop(); }

  std::vector<router::Shard*> shards_;
  Random* random_;
  router::AddressPool pool_;
  auth::TicketSealer sealer_;
  auth::Authenticator authenticator_;
  router::RouteTable exits_;
  router::RouteTable routes_;
  LanPolicy lan_;
  bool access_policy_changed_ = false;
  StateFile* state_;
  Options options_;
  std::function<void(SessionId)> session_ended_ = [](SessionId) {};
  std::function<void(SessionId)> session_attached_ = [](SessionId) {};
  FlowHashKey queue_key_;
  std::shared_ptr<router::QueueBudget> queue_budget_;

  std::vector<std::unique_ptr<Record>> records_;  // by SessionId::slot; null where free
  std::vector<std::uint32_t> generations_;
  std::vector<std::uint32_t> free_slots_;
  std::map<std::array<std::uint8_t, 16>, Record*> by_key_;
  std::map<IpAddress, Record*> by_address_;
  std::map<std::string, std::set<std::uint32_t>, std::less<>> by_credential_;  // slots, at least one each
  std::map<std::string, std::set<std::uint32_t>, std::less<>> by_lower_name_;  // the same for the DNS
  std::set<std::pair<TimePoint, std::uint32_t>> detached_;                     // oldest first, with the slot
  std::set<IpAddress> reserved_;             // in the pool, for the present credentials
  std::map<IpAddress, std::string> fixed6_;  // address6 of the present credentials, with the name
  Totals totals_;
  // A stranger's noise hides no client's refusal.
  LogGate strangers_refused_;
  LogGate clients_refused_;
  Timer expiry_;
  Timer rates_;
  Timer saving_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // asked by what other loops send back
};

}  // namespace penstock::session
