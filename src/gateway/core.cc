#include "gateway/core.h"

#include <atomic>
#include <utility>

#include "gateway/internet_settings.h"

namespace penstock::gateway {
namespace {

protocol::AuthResponse welcome_of(const ServerConfig& config) {
  protocol::AuthResponse welcome;
  welcome.subnet = config.vpn.subnet;
  welcome.server_ip = config.vpn.server_ip;
  welcome.mtu = static_cast<std::uint32_t>(config.vpn.mtu);
  welcome.subnet6 = config.vpn.subnet6;
  welcome.server_ip6 = config.vpn.server_ip6;
  welcome.routes = config.push.routes;
  welcome.exclude = config.push.exclude;
  if (const auto& dns = config.push.dns; !dns.servers.empty() || !dns.search.empty() || !dns.split.empty())
    welcome.dns = protocol::DnsSettings{dns.servers, dns.search, dns.split};
  const auto seconds = [](auto duration) {
    return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(duration).count());
  };
  welcome.keepalive_seconds = seconds(config.session.keepalive);
  welcome.grace_seconds = seconds(config.session.grace);
  // Whatever the exits do not take whole is cut here.
  using Gso = Offload::Gso;
  const bool whole = config.vpn.offload != OffloadMode::off;
  welcome.receive =
      protocol::receive_of(whole ? GsoKinds{Gso::tcp4, Gso::tcp6, Gso::udp4, Gso::udp6} : GsoKinds{}, welcome.mtu);
  return welcome;
}

// What is routed before anybody has joined. Addresses of the subnets that nobody has lead nowhere, and not out by the
// default route; `internet`, if it is one, is where everything else goes.
router::RouteTable exits_of(const ServerConfig& config, router::PortId gateway, router::PortId internet) {
  router::RouteTable routes;
  routes = routes.with(config.vpn.subnet, router::kNobody);
  routes = routes.with(Prefix::host(config.vpn.server_ip), gateway);
  if (config.vpn.subnet6) routes = routes.with(*config.vpn.subnet6, router::kNobody);
  if (config.vpn.server_ip6) routes = routes.with(Prefix::host(*config.vpn.server_ip6), gateway);
  if (internet) {
    routes = routes.with(Prefix(IpAddress{}, 0), internet);
    if (config.vpn.subnet6)
      routes = routes.with(Prefix(IpAddress::from_bytes(std::array<std::uint8_t, 16>{}), 0), internet);
  }
  return routes;
}

// Nothing where everybody reaches everybody.
std::optional<std::vector<router::AccessRule>> access_rules_of(const LanConfig& lan) {
  if (!lan.isolate) return std::nullopt;
  std::vector<router::AccessRule> rules;
  for (const LanConfig::Rule& rule : lan.allow) {
    router::AccessRule& made = rules.emplace_back();
    made.from = {rule.from.prefix, rule.from.name};
    made.to = {rule.to.prefix, rule.to.name};
    for (const PortRange& range : rule.ports)
      made.ports.push_back({protocol_number(range.protocol), range.first, range.last});
  }
  return rules;
}

}  // namespace

Result<std::unique_ptr<Core>> Core::create(const ServerConfig& config, const auth::TicketSealer::Key& lease_key,
                                           Surroundings surroundings) {
  std::unique_ptr<Core> core(new Core(std::move(surroundings)));
  Surroundings& around = core->around_;
  for (EventLoop* loop : around.loops) {
    const auto index = static_cast<std::uint16_t>(core->shards_.size());
    core->shards_.push_back(std::make_unique<router::Shard>(index, *loop));
  }
  router::Shard::connect(core->shards_);
  router::Shard& home = *core->shards_.front();

  PENSTOCK_TRY(auto pool,
               router::AddressPool::create(config.vpn.subnet, config.vpn.server_ip, config.vpn.subnet6, home.loop()));
  router::PortId gateway;
  if (around.device != nullptr) {
    core->tun_exit_ = std::make_unique<egress::TunExit>(home, *around.device, std::move(around.device_lost),
                                                        FlowHashKey::drawn_from(around.random));
    gateway = core->tun_exit_->id();
  } else {
    core->local_host_ = std::make_unique<egress::LocalHost>(home);
    gateway = core->local_host_->id();
  }
  router::PortId internet;
  if (around.internet) {
    core->nat_exit_ = std::make_unique<egress::NatExit>(
        home,
        egress::NatExit::Settings{.nat = around.internet->nat,
                                  .fragments = {},
                                  .inner4 = config.vpn.server_ip,
                                  .inner6 = config.vpn.server_ip6},
        egress::NatExit::Keys{router::SipKey{around.random.next64(), around.random.next64()},
                              FlowHashKey::drawn_from(around.random)},
        std::move(around.internet->policy), around.internet->gateway, around.internet->ports);
    internet = core->nat_exit_->id();
  } else if (around.device != nullptr && config.internet.mode != InternetConfig::Mode::userspace) {
    internet = gateway;  // the kernel's part
  }

  std::vector<router::Shard*> shards;
  for (const auto& shard : core->shards_) shards.push_back(shard.get());
  core->registry_ =
      std::make_unique<session::Registry>(shards, around.random, std::move(pool), auth::TicketSealer(lease_key),
                                          exits_of(config, gateway, internet), around.state,
                                          session::Options{.grace = config.session.grace,
                                                           .queue_bytes = config.session.queue,
                                                           .queue_packets = config.session.queue_packets,
                                                           .queue_memory = config.limits.queue_memory,
                                                           .sessions_per_token = config.limits.sessions_per_token});

  if (config.dns.serve && (core->local_host_ || !around.name_listeners.empty())) {
    core->names_ = std::make_unique<Names>(home, around.random, config, *core->registry_, core->local_host_.get());
    core->names_->listen(std::move(around.name_listeners));
  }
  core->registry_->on_session_ended([core = core.get()](SessionId session) {
    if (core->nat_exit_) core->nat_exit_->forget(session);
    if (core->names_) core->names_->forget(session);
  });
  core->registry_->on_session_attached([core = core.get()](SessionId session) {
    if (core->nat_exit_) core->nat_exit_->reached(session);
  });

  core->limiter_ = std::make_unique<ingress::HandshakeLimiter>(
      ingress::HandshakeLimiter::Settings{.handshakes = config.limits.handshakes,
                                          .handshakes_per_address = config.limits.handshakes_per_address,
                                          .handshake_rate = config.limits.handshake_rate,
                                          .failed_logins = config.limits.failed_logins,
                                          .max_retry_after = config.limits.max_retry_after,
                                          .exempt = config.limits.exempt});
  core->warnings_ = std::make_unique<ingress::Warnings>(home.loop());
  auto settings = std::make_shared<ingress::DoorSettings>();
  settings->path = config.server.path;
  settings->proxies = config.server.proxies;
  settings->queue_messages = config.session.queue_messages;
  settings->timing = {.ping_interval = config.session.keepalive, .silence_limit = config.session.link_timeout};
  settings->welcome = welcome_of(config);
  std::vector<ingress::Door*> doors;
  for (const auto& shard : core->shards_) {
    core->doors_.push_back(std::make_unique<ingress::Door>(*shard, *core->registry_, *core->limiter_, *core->warnings_,
                                                           around.random, settings));
    doors.push_back(core->doors_.back().get());
  }
  for (ingress::Door* door : doors) door->set_doors(doors);
  core->stop_timer_ = std::make_unique<Timer>(home.loop());
  for (const auto& shard : core->shards_)
    shard->router().set_addresses(config.vpn.server_ip, config.vpn.server_ip6, shard->loop());
  core->set_discovery(discovery_of(config.lan, config.vpn));
  core->set_access(config.lan);
  return core;
}

Core::~Core() = default;

void Core::set_tls(const std::shared_ptr<tls::ServerContext>& context) {
  for (std::size_t i = 0; i < doors_.size(); ++i) {
    shards_[i]->loop().post([door = doors_[i].get(), context] { door->set_tls(context); });
  }
}

void Core::set_access(const LanConfig& lan) { registry_->set_access_rules(access_rules_of(lan)); }

void Core::set_discovery(const router::DiscoverySettings& settings) {
  for (const auto& shard : shards_) shard->loop().post([&shard = *shard, settings] { shard.set_discovery(settings); });
}

Result<void> Core::start() {
  if (tun_exit_) tun_exit_->start();
  return nat_exit_ ? nat_exit_->start() : Result<void>();
}

void Core::accept(std::unique_ptr<net::StreamSocket> socket, ingress::Arrival arrival) {
  const std::size_t index = next_door_++ % doors_.size();
  socket->detach();
  shards_[index]->loop().post([door = doors_[index].get(), socket = std::move(socket), arrival]() mutable {
    door->welcome(std::move(socket), arrival);
  });
}

void Core::stop(Duration patience, Task done) {
  registry_->save_now();
  if (nat_exit_) nat_exit_->end_connections();
  for (std::size_t i = 0; i < doors_.size(); ++i) {
    shards_[i]->loop().post([door = doors_[i].get()] { door->stop(); });
  }
  await_closed(shards_.front()->loop().now() + patience, std::move(done));
}

// Asks every door in turn how many connections it still has, until there are none.
void Core::await_closed(TimePoint deadline, Task done) {
  struct Round {
    std::atomic<std::size_t> doors_left;
    std::atomic<std::size_t> connections{0};
    Task done;
  };
  auto round = std::make_shared<Round>();
  round->doors_left = doors_.size();
  round->done = std::move(done);
  EventLoop& home = shards_.front()->loop();
  for (std::size_t i = 0; i < doors_.size(); ++i) {
    shards_[i]->loop().post([this, &home, deadline, round, door = doors_[i].get()] {
      round->connections += door->connections();
      if (--round->doors_left != 0) return;
      home.post([this, &home, deadline, round] {
        if (round->connections == 0 || home.now() >= deadline) return round->done();
        stop_timer_->start(std::chrono::milliseconds(10),
                           [this, deadline, round]() { await_closed(deadline, std::move(round->done)); });
      });
    });
  }
}

std::size_t Core::connections() const {
  std::size_t sum = 0;
  for (const auto& door : doors_) sum += door->connections();
  return sum;
}

std::uint64_t Core::drops(router::Drop reason) const {
  std::uint64_t sum = 0;
  for (const auto& shard : shards_) sum += shard->router().drops().of(reason);
  return sum;
}

std::vector<std::pair<std::string_view, std::uint64_t>> Core::limits() const {
  std::vector<std::pair<std::string_view, std::uint64_t>> counts;
  for (std::size_t i = 0; i < ingress::kLimits; ++i) {
    const auto limit = static_cast<ingress::Limit>(i);
    counts.emplace_back(to_string(limit), limiter_->counters().of(limit));
  }
  counts.emplace_back("sessions_per_token", registry_->totals().refused_for_sessions);
  counts.emplace_back("queue_full", drops(router::Drop::queue_full));
  if (nat_exit_) {
    counts.emplace_back("flows", nat_exit_->nat().table().displaced());
    counts.emplace_back("flow_rate", nat_exit_->counters().flow_rate);
    counts.emplace_back("outer_ports", nat_exit_->counters().no_port);
  }
  counts.emplace_back("open_files", around_.shed());
  return counts;
}

std::vector<auth::Credential> credentials_of(const std::vector<TokenRecord>& records) {
  std::vector<auth::Credential> credentials;
  credentials.reserve(records.size());
  for (const TokenRecord& record : records) {
    credentials.push_back({.name = record.name,
                           .token_sha256 = record.sha256,
                           .address = record.address,
                           .address6 = record.address6,
                           .single = record.single || record.address || record.address6 || !record.sites.empty(),
                           .groups = record.groups,
                           .sites = record.sites});
  }
  return credentials;
}

router::DiscoverySettings discovery_of(const LanConfig& lan, const ServerConfig::Vpn& vpn) {
  return {.on = lan.discovery,
          .rate = lan.discovery_rate,
          .max_size = static_cast<std::size_t>(vpn.mtu),
          .subnet_broadcast = router::broadcast_of(vpn.subnet)};
}

}  // namespace penstock::gateway
