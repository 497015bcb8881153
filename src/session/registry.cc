#include "session/registry.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "session/outer.h"

namespace penstock::session {

using auth::Credential;
using auth::LeaseTicket;
using router::PortId;
using router::Shard;

namespace {

std::string lower(std::string name) {
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return name;
}

}  // namespace

struct Registry::Record {
  SessionId id;
  std::array<std::uint8_t, 16> key{};
  std::shared_ptr<const Credential> credential;
  IpAddress address;
  std::optional<IpAddress> address6;
  std::uint16_t shard = 0;
  PortId port;                // none until the shard has opened it
  std::vector<Prefix> sites;  // that are routed to it
  bool opening = false;
  std::vector<std::move_only_function<void(PortId)>> waiting;  // logins that came while it was being opened
  bool attached = false;
  std::uint64_t attachment = 0;
  TimePoint since;
  TimePoint detached_at;
  Endpoint outer;
  std::string software;
  std::string format;
  std::shared_ptr<router::Usage> usage = std::make_shared<router::Usage>();
  router::MeterSnapshot last_sample;
  router::TrafficRate rate;
};

// One login on its way through the steps, some of which wait for another loop.
struct Registry::PendingLogin {
  LoginRequest request;
  EventLoop* on = nullptr;
  Reply reply;
  std::shared_ptr<const Credential> credential;
  bool replaces = false;         // the older client is told to stay away
  std::uint64_t attachment = 0;  // the number of its link, once it is admitted
};

Registry::Registry(std::vector<Shard*> shards, Random& random, router::AddressPool pool, auth::TicketSealer sealer,
                   router::RouteTable exits, StateFile& state, Options options)
    : shards_(std::move(shards)),
      random_(&random),
      pool_(std::move(pool)),
      sealer_(sealer),
      exits_(std::move(exits)),
      routes_(exits_),
      lan_(random),
      state_(&state),
      options_(options),
      queue_key_(FlowHashKey::drawn_from(random)),
      queue_budget_(std::make_shared<router::QueueBudget>(options.queue_memory)),
      strangers_refused_(home(), "more logins refused"),
      clients_refused_(home(), "more logins of clients refused"),
      expiry_(home()),
      rates_(home()),
      saving_(home()) {
  publish_routes();
  sample_rates();
}

Registry::~Registry() { *alive_ = false; }

void Registry::set_authenticator(auth::Authenticator authenticator) {
  authenticator_ = std::move(authenticator);
  std::map<std::string, Record*, std::less<>> newest;  // of the single credentials
  for (const auto& record : records_) {
    if (!record) continue;
    auto current = authenticator_.find(record->credential->name);
    if (!current || current->epoch() != record->credential->epoch()) {
      end(*record, "its token was removed or changed");
      continue;
    }
    record->credential = std::move(current);
    if (!record->credential->single) continue;
    Record*& kept = newest[record->credential->name];
    Record* older = kept != nullptr && kept->since > record->since ? record.get() : std::exchange(kept, record.get());
    if (older != nullptr) end(*older, protocol::kReplaced);
  }
  // Fixed addresses are kept from everybody else, and so are the IPv4 addresses whose IPv6 partner is somebody's.
  for (const IpAddress& address : std::exchange(reserved_, {})) pool_.unreserve(address);
  fixed6_.clear();
  authenticator_.for_each([&](const Credential& credential) {
    const auto reserve = [&](const IpAddress& address) {
      if (auto reserved = pool_.reserve(address, credential.name); !reserved)
        log::warn("fixed address not reserved", {{"client", credential.name}, {"error", reserved.error().message}});
      reserved_.insert(address);
    };
    if (credential.address) reserve(*credential.address);
    if (!credential.address6) return;
    fixed6_[*credential.address6] = credential.name;
    if (!pool_.subnet6() || !pool_.subnet6()->contains(*credential.address6)) return;
    const auto host = credential.address6->distance_from(pool_.subnet6()->address());
    const auto size = pool_.subnet().last().distance_from(pool_.subnet().address());
    if (host == 0 || host >= size) return;
    const IpAddress partner = pool_.subnet().address().plus(host);
    const bool somebodys_own = partner == pool_.server() || reserved_.contains(partner);
    if (!somebodys_own) reserve(partner);
  });
  const bool other_sites = lan_.set_credentials(authenticator_, pool_);
  publish_access_policy();
  if (other_sites) publish_sites();
}

void Registry::set_access_rules(std::optional<std::vector<router::AccessRule>> rules) {
  lan_.set_rules(std::move(rules));
  publish_access_policy();
}

void Registry::restore() {
  auto saved = state_->load();
  if (!saved) {
    log::warn("earlier sessions are forgotten", {{"error", saved.error().message}});
    return;
  }
  std::size_t restored = 0;
  for (const SavedSession& session : *saved) {
    auto credential = authenticator_.find(session.credential);
    if (!credential || credential->epoch() != session.epoch) continue;
    if (!pool_.lease_exactly(session.address, credential->name)) continue;
    Record& record = make_record(std::move(credential), session.address, session.key);
    record.detached_at = home().now();
    detached_.emplace(record.detached_at, record.id.slot);
    ++restored;
  }
  if (restored != 0) log::info("sessions restored", {{"sessions", restored}});
  schedule_expiry();
}

// ---- a login, step by step ----

void Registry::login(LoginRequest request, EventLoop& on, Reply reply) {
  auto login = std::make_shared<PendingLogin>();
  login->request = std::move(request);
  login->on = &on;
  login->reply = std::move(reply);
  home().post([this, alive = alive_, login] {
    if (*alive) decide(login);
  });
}

void Registry::decide(const Login& login) {
  const LoginRequest& request = login->request;
  if (!request.lease.empty() || request.previous_ip) ++totals_.resume_attempts;
  if (!request.lease.empty()) return decide_lease(login);

  login->credential = authenticator_.verify_token(request.token);
  if (!login->credential) return refuse(login, {ErrorCode::unauthenticated, "invalid token"});
  const std::string& name = login->credential->name;

  if (login->credential->single) {
    if (Record* record = find_credential(name)) {
      // The older client must not come back by its lease: the session goes on under another key.
      by_key_.erase(record->key);
      random_->fill(record->key);
      by_key_[record->key] = record;
      login->replaces = true;
      return take_over(login, *record, false);
    }
  }
  if (request.previous_ip) {
    Record* record = find_address_holder(*request.previous_ip);
    if (record != nullptr && record->credential->name == name) {
      if (!record->attached) return take_over(login, *record, true);
      return probe_old_link(login, *record);
    }
  }
  std::array<std::uint8_t, 16> key{};
  random_->fill(key);
  create(login, request.previous_ip, key, request.previous_ip.has_value());
}

void Registry::decide_lease(const Login& login) {
  const auto ticket = sealer_.open(login->request.lease);
  if (!ticket) return refuse(login, ticket.error());
  login->credential = authenticator_.find(ticket->credential);
  if (!login->credential || login->credential->epoch() != ticket->epoch)
    return refuse(login, {ErrorCode::unauthenticated, "the token of this lease was removed or changed"});

  if (Record* record = find_key(ticket->session_key)) return take_over(login, *record, true);
  if (login->credential->single) {
    if (Record* record = find_credential(login->credential->name)) {
      if (record->attached) return refuse(login, {ErrorCode::unavailable, std::string(protocol::kReplaced)});
      return take_over(login, *record, true);
    }
  }
  create(login, ticket->address, ticket->session_key, true);
}

void Registry::probe_old_link(const Login& login, Record& record) {
  Shard* shard = shards_[record.shard];
  shard->loop().post([this, alive = alive_, login, shard, id = record.id, port = record.port] {
    const auto answer = [this, alive, login, id](bool old_link_lives) {
      home().post([this, alive, login, id, old_link_lives] {
        if (!*alive) return;
        Record* found = find(id);
        if (found != nullptr && (!found->attached || !old_link_lives)) return take_over(login, *found, true);
        std::array<std::uint8_t, 16> key{};
        random_->fill(key);
        create(login, std::nullopt, key, false);
      });
    };
    router::Session* session = shard->session(port);
    if (session == nullptr || session->link() == nullptr) return answer(false);
    session->link()->probe(kProbePatience, answer);
  });
}

void Registry::take_over(const Login& login, Record& record, bool resumed) {
  record.credential = login->credential;
  admit(login, record, resumed);
}

Result<IpAddress> Registry::find_address(const Credential& credential, const std::optional<IpAddress>& wanted) {
  if (credential.address) {
    // Whoever got it before it was this credential's must give it back.
    if (Record* holder = find_address_holder(*credential.address))
      end(*holder, "its address was given to another client by configuration");
    PENSTOCK_TRY_VOID(pool_.lease_exactly(*credential.address, credential.name));
    return *credential.address;
  }
  if (wanted && wanted->is_v4() && pool_.lease_exactly(*wanted, credential.name)) return *wanted;
  auto leased = pool_.lease(credential.name);
  if (leased || leased.error().code != ErrorCode::exhausted) return leased;
  // Nobody's address is left: the session that has been away longest gives up its own, unless that is a fixed one. To a
  // client whose token has sessions already only its own do, or one token could take all addresses from the others.
  const bool has_sessions = by_credential_.contains(credential.name);
  for (const auto& [since, slot] : detached_) {
    Record& record = *records_[slot];
    if (reserved_.contains(record.address)) continue;
    if (has_sessions && record.credential->name != credential.name) continue;
    end(record, "its address was needed for another client");
    return pool_.lease(credential.name);
  }
  return leased;
}

void Registry::create(const Login& login, std::optional<IpAddress> wanted, std::array<std::uint8_t, 16> key,
                      bool resumed) {
  const auto siblings = by_credential_.find(login->credential->name);
  if (siblings != by_credential_.end() && siblings->second.size() >= options_.sessions_per_token) {
    ++totals_.refused_for_sessions;
    return refuse(login, {ErrorCode::exhausted, "too many sessions of this token (limits.sessions_per_token is " +
                                                    std::to_string(options_.sessions_per_token) + ")"});
  }
  auto address = find_address(*login->credential, wanted);
  if (!address) return refuse(login, std::move(address).error());
  resumed = resumed && wanted == *address;
  Record& record = make_record(login->credential, *address, key);
  record.shard = login->request.shard;
  ++totals_.sessions_created;
  log::info("address assigned", {{"client", record.credential->name},
                                 {"address", record.address},
                                 {"address6", record.address6 ? record.address6->to_string() : ""},
                                 {"session", record.id.slot}});
  changed();
  admit(login, record, resumed);
}

// Numbers the link and, where the session is not on a shard yet, has it opened there first.
void Registry::admit(const Login& login, Record& record, bool resumed) {
  if (!record.attached) detached_.erase({record.detached_at, record.id.slot});
  record.attached = true;
  login->attachment = ++record.attachment;
  record.outer = login->request.outer;
  record.software = login->request.software;
  record.format = login->request.format;
  if (record.port) return opened(login, record.id, record.port, resumed);

  if (record.opening) {
    // Another login is having it opened: after that one.
    record.waiting.push_back([this, login, id = record.id, resumed](PortId port) { opened(login, id, port, resumed); });
    return;
  }
  record.opening = true;
  record.shard = login->request.shard;
  router::SessionSpec spec{.id = record.id,
                           .name = record.credential->name,
                           .prefixes = prefixes_of(record),
                           .queue_bytes = options_.queue_bytes,
                           .queue_packets = options_.queue_packets,
                           .queue_key = queue_key_,
                           .queue_budget = queue_budget_,
                           .usage = record.usage,
                           .member = lan_.member(record.credential->name)};
  Shard* shard = shards_[record.shard];
  shard->loop().post([this, alive = alive_, shard, login, resumed, spec = std::move(spec)]() mutable {
    const SessionId id = spec.id;
    const PortId port = shard->open_session(std::move(spec));
    home().post([this, alive, shard, login, id, port, resumed] {
      if (!*alive) return;
      if (find(id) == nullptr) {  // ended meanwhile
        shard->loop().post([shard, port] { shard->close_session(port, "ended"); });
        return refuse(login, {ErrorCode::unavailable, "the session was ended"});
      }
      opened(login, id, port, resumed);
    });
  });
}

void Registry::opened(const Login& login, SessionId id, PortId port, bool resumed) {
  Record* record = find(id);
  if (record == nullptr) return refuse(login, {ErrorCode::unavailable, "the session was ended"});
  if (!record->port) {
    record->port = port;
    record->opening = false;
    give_sites(*record);
    for (const Prefix& prefix : prefixes_of(*record)) routes_ = routes_.with(prefix, port);
    publish_routes();
  }
  const LeaseTicket ticket{.session_key = record->key,
                           .credential = record->credential->name,
                           .epoch = record->credential->epoch(),
                           .address = record->address,
                           .address6 = record->address6,
                           .issued = home().wall_now()};
  ++totals_.links;
  if (resumed) ++totals_.sessions_resumed;
  log::info(resumed ? "session resumed" : "session attached", {{"session", record->id.slot},
                                                               {"client", record->credential->name},
                                                               {"address", record->address},
                                                               {"outer", outer_name(login->request.outer)},
                                                               {"software", login->request.software},
                                                               {"format", login->request.format}});
  answer(login, Admission{.session = record->id,
                          .port = record->port,
                          .attachment = login->attachment,
                          .client = record->credential->name,
                          .address = record->address,
                          .address6 = record->address6,
                          .lease = sealer_.seal(ticket),
                          .resumed = resumed,
                          .to_old_link = login->replaces ? protocol::kReplaced : protocol::kTakenOver});
  for (auto& next : std::exchange(record->waiting, {})) next(record->port);
}

void Registry::refuse(const Login& login, Error error) {
  ++totals_.logins_refused;
  LogGate& gate = login->credential ? clients_refused_ : strangers_refused_;
  if (gate.lets_through(home().now())) {
    log::warn("login refused", {{"outer", outer_name(login->request.outer)},
                                {"client", login->credential ? login->credential->name : ""},
                                {"reason", error.message}});
  }
  answer(login, std::unexpected(std::move(error)));
}

void Registry::answer(const Login& login, Result<Admission> result) {
  login->on->post([login, result = std::move(result)]() mutable { login->reply(std::move(result)); });
}

void Registry::count_refused_login(Endpoint outer, std::string reason) {
  home().post([this, alive = alive_, outer, reason = std::move(reason)] {
    if (!*alive) return;
    ++totals_.logins_refused;
    if (strangers_refused_.lets_through(home().now()))
      log::warn("login refused", {{"outer", outer_name(outer)}, {"client", ""}, {"reason", reason}});
  });
}

// ---- links that went, sessions that end ----

void Registry::attached(SessionId session) {
  home().post([this, alive = alive_, session] {
    if (*alive && find(session) != nullptr) session_attached_(session);
  });
}

void Registry::detached(SessionId session, std::uint64_t attachment, std::string reason) {
  home().post([this, alive = alive_, session, attachment, reason = std::move(reason)] {
    if (!*alive) return;
    Record* record = find(session);
    // A later link has the session: its predecessor's end is no news.
    if (record == nullptr || record->attachment != attachment || !record->attached) return;
    record->attached = false;
    record->detached_at = home().now();
    detached_.emplace(record->detached_at, record->id.slot);
    ++totals_.links_lost;
    const auto traffic = record->usage->meter.snapshot(home().now());
    log::info("session detached", {{"session", record->id.slot},
                                   {"client", record->credential->name},
                                   {"address", record->address},
                                   {"reason", reason},
                                   {"up_bytes", traffic.up.bytes},
                                   {"down_bytes", traffic.down.bytes}});
    schedule_expiry();
  });
}

void Registry::schedule_expiry() {
  if (detached_.empty()) return expiry_.cancel();
  expiry_.start_at(detached_.begin()->first + options_.grace, [this] { expire(); });
}

void Registry::expire() {
  while (!detached_.empty() && detached_.begin()->first + options_.grace <= home().now())
    end(*records_[detached_.begin()->second], "its client did not come back in time");
  schedule_expiry();
}

void Registry::end(Record& record, std::string_view reason) {
  const auto traffic = record.usage->meter.snapshot(home().now());
  log::info("session ended", {{"session", record.id.slot},
                              {"client", record.credential->name},
                              {"address", record.address},
                              {"reason", reason},
                              {"up_bytes", traffic.up.bytes},
                              {"down_bytes", traffic.down.bytes}});
  ++totals_.sessions_ended;
  totals_.up.packets += traffic.up.packets;
  totals_.up.bytes += traffic.up.bytes;
  totals_.down.packets += traffic.down.packets;
  totals_.down.bytes += traffic.down.bytes;
  if (record.port) {
    for (const Prefix& prefix : prefixes_of(record)) {
      if (routes_.exact(prefix) == record.port) routes_ = routes_.without(prefix);
    }
    for (const Prefix& site : record.sites) {
      if (!routes_.exact(site)) routes_ = routes_.with(site, router::kNobody);
    }
    publish_routes();
    Shard* shard = shards_[record.shard];
    EventLoop* home = &this->home();
    shard->loop().post(
        [this, shard, home, alive = alive_, id = record.id, port = record.port, words = std::string(reason)] {
          shard->close_session(port, words);
          home->post([this, alive, id] {
            if (*alive) session_ended_(id);
          });
        });
  }
  pool_.release(record.address);
  if (!record.attached) detached_.erase({record.detached_at, record.id.slot});
  by_key_.erase(record.key);
  by_address_.erase(record.address);
  if (record.address6) by_address_.erase(*record.address6);
  const auto siblings = by_credential_.find(record.credential->name);
  siblings->second.erase(record.id.slot);
  if (siblings->second.empty()) by_credential_.erase(siblings);
  const auto namesakes = by_lower_name_.find(lower(record.credential->name));
  namesakes->second.erase(record.id.slot);
  if (namesakes->second.empty()) by_lower_name_.erase(namesakes);
  auto waiting = std::exchange(record.waiting, {});
  const std::uint32_t slot = record.id.slot;
  records_[slot].reset();
  free_slots_.push_back(slot);
  for (auto& next : waiting) next({});
  changed();
}

// ---- the books ----

Registry::Record& Registry::make_record(std::shared_ptr<const Credential> credential, IpAddress address,
                                        std::array<std::uint8_t, 16> key) {
  std::uint32_t slot = 0;
  if (free_slots_.empty()) {
    slot = static_cast<std::uint32_t>(records_.size());
    records_.emplace_back();
    generations_.push_back(0);
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  auto record = std::make_unique<Record>();
  record->id = {slot, ++generations_[slot]};
  record->key = key;
  record->address = address;
  record->address6 = pool_.partner(address);
  if (credential->address6) {
    record->address6 = credential->address6;
    // Whoever has it as the partner of an IPv4 address, from before it was fixed, must give it back.
    if (Record* holder = find_address_holder(*record->address6))
      end(*holder, "its address was given to another client by configuration");
  } else if (record->address6 && fixed6_.contains(*record->address6)) {
    record->address6.reset();  // that one is somebody's own
  }
  record->credential = std::move(credential);
  record->since = home().now();
  by_key_[key] = record.get();
  by_address_[address] = record.get();
  if (record->address6) by_address_[*record->address6] = record.get();
  by_credential_[record->credential->name].insert(slot);
  by_lower_name_[lower(record->credential->name)].insert(slot);
  records_[slot] = std::move(record);
  return *records_[slot];
}

Registry::Record* Registry::find(SessionId id) {
  if (id.slot >= records_.size() || !records_[id.slot]) return nullptr;
  return records_[id.slot]->id == id ? records_[id.slot].get() : nullptr;
}

Registry::Record* Registry::find_key(const std::array<std::uint8_t, 16>& key) {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : found->second;
}

Registry::Record* Registry::find_credential(std::string_view name) {
  const auto found = by_credential_.find(name);
  return found == by_credential_.end() ? nullptr : records_[*found->second.begin()].get();
}

Registry::Record* Registry::find_address_holder(const IpAddress& address) {
  const auto found = by_address_.find(address);
  return found == by_address_.end() ? nullptr : found->second;
}

std::vector<Prefix> Registry::prefixes_of(const Record& record) const {
  std::vector<Prefix> prefixes{Prefix::host(record.address)};
  if (record.address6) prefixes.push_back(Prefix::host(*record.address6));
  prefixes.insert(prefixes.end(), record.sites.begin(), record.sites.end());
  return prefixes;
}

void Registry::publish_routes() {
  for (Shard* shard : shards_) {
    shard->loop().post([shard, routes = routes_]() mutable { shard->router().set_routes(std::move(routes)); });
  }
}

// When this turn is over: a reload changes rules and credentials, and neither fits without the other.
void Registry::publish_access_policy() {
  if (std::exchange(access_policy_changed_, true)) return;
  home().post([this, alive = alive_] {
    if (!*alive) return;
    access_policy_changed_ = false;
    const auto policy = lan_.make_access_policy();
    for (Shard* shard : shards_) shard->loop().post([shard, policy] { shard->set_access_policy(policy); });
  });
}

// What the sites are now: to the sessions they are behind, into the routes, and to everybody who is to use these.
void Registry::publish_sites() {
  routes_ = exits_;
  const std::vector<Prefix> sites = lan_.sites();
  for (const Prefix& site : sites) routes_ = routes_.with(site, router::kNobody);
  for (const auto& record : records_) {
    if (!record || !record->port) continue;
    give_sites(*record);
    for (const Prefix& prefix : prefixes_of(*record)) routes_ = routes_.with(prefix, record->port);
  }
  publish_routes();
  for (Shard* shard : shards_) shard->loop().post([shard, sites] { shard->set_sites(sites); });
}

void Registry::give_sites(Record& record) {
  auto sites = lan_.sites_of(record.credential->name);
  if (sites == record.sites) return;
  record.sites = sites;
  Shard* shard = shards_[record.shard];
  shard->loop().post([shard, port = record.port, sites = std::move(sites)]() mutable {
    if (router::Session* session = shard->session(port)) session->set_sites(std::move(sites));
  });
}

void Registry::sample_rates() {
  const TimePoint now = home().now();
  for (const auto& record : records_) {
    if (!record) continue;
    const auto sample = record->usage->meter.snapshot(now);
    record->rate = router::rate_between(record->last_sample, sample);
    record->last_sample = sample;
  }
  rates_.start(kRateInterval, [this] { sample_rates(); });
}

std::vector<SessionStatus> Registry::sessions() const {
  std::vector<SessionStatus> list;
  const TimePoint now = home().now();
  for (const auto& record : records_) {
    if (!record) continue;
    list.push_back({.id = record->id,
                    .client = record->credential->name,
                    .address = record->address,
                    .address6 = record->address6,
                    .attached = record->attached,
                    .outer = record->outer,
                    .software = record->software,
                    .format = record->format,
                    .since = record->since,
                    .detached_at = record->detached_at,
                    .shard = record->shard,
                    .traffic = record->usage->meter.snapshot(now),
                    .rate = record->rate,
                    .queued_bytes = record->usage->queued_bytes.load(std::memory_order_relaxed)});
  }
  return list;
}

std::vector<IpAddress> Registry::addresses_of(std::string_view lower_name) const {
  std::vector<IpAddress> addresses;
  const auto found = by_lower_name_.find(lower_name);
  if (found == by_lower_name_.end()) return addresses;
  for (const std::uint32_t slot : found->second) {
    addresses.push_back(records_[slot]->address);
    if (records_[slot]->address6) addresses.push_back(*records_[slot]->address6);
  }
  return addresses;
}

std::optional<Registry::Owner> Registry::owner_of(const IpAddress& address) const {
  if (const auto found = by_address_.find(address); found != by_address_.end()) {
    const Record& record = *found->second;
    return Owner{.session = record.id, .name = record.credential->name, .its_own = true};
  }
  if (std::ranges::none_of(lan_.sites(), [&](const Prefix& site) { return site.contains(address); }))
    return std::nullopt;
  for (const auto& record : records_) {
    if (!record) continue;
    for (const Prefix& site : record->sites)
      if (site.contains(address)) return Owner{.session = record->id, .name = record->credential->name};
  }
  return std::nullopt;
}

Totals Registry::totals() const {
  Totals totals = totals_;
  for (const auto& record : records_) {
    if (!record) continue;
    const auto traffic = record->usage->meter.snapshot({});
    totals.up.packets += traffic.up.packets;
    totals.up.bytes += traffic.up.bytes;
    totals.down.packets += traffic.down.packets;
    totals.down.bytes += traffic.down.bytes;
  }
  return totals;
}

std::vector<SavedSession> Registry::saved() const {
  std::vector<SavedSession> list;
  for (const auto& record : records_) {
    if (record) list.push_back({record->key, record->credential->name, record->credential->epoch(), record->address});
  }
  return list;
}

// Gathers what changes in one go (a thousand clients that come back at once) into one list.
void Registry::changed() {
  if (saving_.running()) return;
  saving_.start(kSaveDelay + kSaveDelayEach * records_.size(), [this] { state_->save(saved()); });
}

void Registry::save_now() {
  saving_.cancel();
  state_->save(saved());
}

}  // namespace penstock::session
