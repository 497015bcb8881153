#include "gateway/process.h"

#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <initializer_list>
#include <thread>
#include <utility>

#include "auth/key_file.h"
#include "base/atomic_file.h"
#include "base/file_trust.h"
#include "base/log.h"
#include "base/version.h"
#include "config/server_doubts.h"
#include "config/token_record.h"
#include "dns/service/name_listeners.h"
#include "gateway/account.h"
#include "gateway/core.h"
#include "gateway/file_watch.h"
#include "gateway/internet_settings.h"
#include "gateway/kernel_internet.h"
#include "gateway/listeners.h"
#include "gateway/outside.h"
#include "gateway/privileges.h"
#include "gateway/sanitized.h"
#include "gateway/seccomp.h"
#include "gateway/status.h"
#include "net/asio_loop.h"
#include "net/congestion_control.h"
#include "net/host_addresses.h"
#include "net/process_info.h"
#include "net/sd_notify.h"
#include "net/unix_socket.h"
#include "tun/interface.h"

namespace penstock::gateway {
namespace {

// Links that do not close by then are cut.
constexpr Duration kStopPatience = std::chrono::milliseconds(1500);

class Process {
 public:
  Process(const ServerConfig& config, std::string config_file, std::function<Result<ServerConfig>()> reread)
      : config_(config),
        config_file_(std::move(config_file)),
        tokens_(config.auth.tokens),
        reread_(std::move(reread)) {}
  ~Process();

  Result<void> start();
  Result<void> run();

 private:
  Result<void> raise_limits();
  Result<void> leave_root();
  Result<void> give_away_http_sockets(const Account& account, bool from_root);
  void not_reloaded(std::string_view what, const Error& error,
                    std::initializer_list<std::filesystem::path> files) const;
  Result<void> refuse_shared_state(std::string_view name) const;
  Result<void> load_certificate(bool at_start);
  Result<void> load_credentials();
  Result<void> refuse_overlap(const char* key, const Prefix& subnet) const;
  Result<void> open_interface();
  void open_names();
  Result<void> open_outside();
  Result<void> open_kernel_internet();
  void doubt_allow(const InternetConfig& rules);
  void set_internet_rules(const InternetConfig& rules);
  void tell_what_takes_a_restart(const ServerConfig& changed) const;
  std::optional<Core::Internet> internet_in_user_space();
  void route_sites(const std::vector<TokenRecord>& records);
  void open_status_socket();
  void reload();
  void reload_certificate();
  void reload_tokens();
  void begin_stop();
  void write_statistics();

  const ServerConfig& config_;
  std::string config_file_;
  std::vector<TokenRecord> tokens_;  // auth.tokens as read last
  std::function<Result<ServerConfig>()> reread_;
  SystemRandom random_;
  SystemClock clock_;
  net::ServiceNotifier notifier_ = net::ServiceNotifier::from_environment();
  net::AsioLoop home_;
  std::vector<std::unique_ptr<net::AsioLoop>> loops_;  // the further ones
  std::unique_ptr<session::StateFile> state_;
  std::shared_ptr<tls::ServerContext> tls_;
  std::unique_ptr<tun::Interface> interface_;
  tun::InterfaceSettings interface_settings_;
  std::unique_ptr<KernelInternet> kernel_internet_;
  Listeners listeners_;
  std::unique_ptr<Outside> outside_;
  dns::NameListeners name_listeners_;  // until the core has them
  std::unique_ptr<Core> core_;
  std::unique_ptr<net::StatusSocket> status_;
  std::unique_ptr<FileWatch> certificate_watch_;
  std::unique_ptr<FileWatch> token_watch_;
  std::unique_ptr<FileWatch> resolver_watch_;
  Timer statistics_timer_{home_};
  std::unique_ptr<StatisticsLog> statistics_;
  Identity identity_;
  FilesToReread reload_files_;
  std::vector<std::thread> threads_;
  std::uint64_t open_files_ = 1024;  // that this process may have
  bool stopping_ = false;
  Result<void> outcome_;
};

void log_rules(const ServerConfig& config) {
  log::info("rules loaded", {{"isolate", config.lan.isolate},
                             {"allow", config.lan.allow.size()},
                             {"discovery", config.lan.discovery ? "on" : "off"},
                             {"exempt", config.limits.exempt.size()},
                             {"internet_allow", config.internet.allow.size()},
                             {"internet_deny", config.internet.deny.size()}});
}

Process::~Process() {
  for (const auto& loop : loops_) loop->stop();
  for (std::thread& thread : threads_) thread.join();
}

Result<void> Process::start() {
  home_.on_signal({SIGTERM, SIGINT}, [this](int) { begin_stop(); });
  home_.on_signal({SIGHUP}, [this](int) { reload(); });
  std::signal(SIGPIPE, SIG_IGN);
  log::info("starting", {{"version", kVersion}, {"pid", net::process_info().value_or(net::ProcessInfo{}).pid}});
  for (const std::string& key : config_.reserved)
    log::warn("this setting is accepted but has no effect in this version", {{"key", key}});
  for (const std::string& doubt : doubts_about(config_)) log::warn(doubt);
  PENSTOCK_TRY_VOID(raise_limits());
  if (!net::set_nice(config_.performance.nice))
    log::debug("performance.nice is not allowed to this user", {{"nice", config_.performance.nice}});

  PENSTOCK_TRY_VOID(load_certificate(true));
  PENSTOCK_TRY_VOID(
      listeners_.open(home_, config_.server, net::congestion_control_by(config_.performance.congestion_control)));
  identity_.listen = listeners_.names();
  PENSTOCK_TRY_VOID(open_interface());
  open_names();
  PENSTOCK_TRY_VOID(open_outside());
  PENSTOCK_TRY_VOID(leave_root());

  state_ = std::make_unique<session::StateFile>((config_.paths.state_dir / "sessions.json").string());
  PENSTOCK_TRY(const auto key, auth::load_or_create_key((config_.paths.state_dir / "lease.key").string(), random_));
  for (const std::string_view name : kStateFiles) PENSTOCK_TRY_VOID(refuse_shared_state(name));

  std::vector<EventLoop*> loops{&home_};
  for (int i = 1; i < config_.performance.loops; ++i) {
    loops_.push_back(std::make_unique<net::AsioLoop>());
    loops.push_back(loops_.back().get());
  }
  PENSTOCK_TRY(core_, Core::create(config_, key,
                                   {.loops = std::move(loops),
                                    .random = random_,
                                    .state = *state_,
                                    .device = interface_ ? &interface_->device() : nullptr,
                                    .device_lost =
                                        [this](Error error) {
                                          outcome_ = std::unexpected(std::move(error));
                                          begin_stop();
                                        },
                                    .internet = internet_in_user_space(),
                                    .name_listeners = std::move(name_listeners_),
                                    .shed = [this] { return listeners_.shed(); }}));
  if (outside_) outside_->attach(*core_->nat_exit());
  PENSTOCK_TRY_VOID(load_credentials());
  log_rules(config_);
  core_->set_tls(tls_);
  core_->restore();
  PENSTOCK_TRY_VOID(core_->start());
  listeners_.accept_into(*core_);
  if (!status_) open_status_socket();

  if (tls_) {
    certificate_watch_ = std::make_unique<FileWatch>(
        home_, std::vector{config_.server.tls_cert.string(), config_.server.tls_key.string()},
        [this] { reload_certificate(); });
  }
  token_watch_ = std::make_unique<FileWatch>(home_, std::vector{token_file_path(config_)}, [this] { reload_tokens(); });
  if (core_->names() != nullptr) {
    core_->names()->set_servers(resolvers_of(config_));
    if (config_.dns.upstream.empty()) {
      resolver_watch_ = std::make_unique<FileWatch>(home_, std::vector<std::string>{kResolvConf},
                                                    [this] { core_->names()->set_servers(resolvers_of(config_)); });
    }
  }
  identity_.started = home_.now();
  if (config_.logging.statistics_interval.count() > 0) {
    statistics_ = std::make_unique<StatisticsLog>(home_.now());
    write_statistics();
  }
  return {};
}

Result<void> Process::raise_limits() {
  auto limit = net::raise_open_files_limit(config_.limits.open_files);
  if (limit) {
    open_files_ = *limit;
    return {};
  }
  if (config_.limits.open_files != 0) return fail(limit.error().code, "limits.open_files: " + limit.error().message);
  log::warn("limit of open files not raised", {{"error", limit.error().message}});
  return {};
}

// What takes root is open. From here on this is a process of `process.user`, and no thread has been started yet, so
// that all threads will be.
Result<void> Process::leave_root() {
  PENSTOCK_TRY(const Account account, account_of(config_.process));
  const bool from_root = Account::current().user == 0;
  if (account.missing) {
    log::warn("there is no user to become: runs on as root, with CAP_NET_ADMIN at most",
              {{"user", config_.process.user},
               {"run", "useradd --system --no-create-home --shell /usr/sbin/nologin " + config_.process.user}});
  }
  PENSTOCK_TRY_VOID(give_away_http_sockets(account, from_root));
  PENSTOCK_TRY_VOID(make_state_directory(config_.paths.state_dir, account));
  PENSTOCK_TRY_VOID(open_kernel_internet());
  // Where that user could not make its socket, root does; it is then left behind at the end.
  if (!make_socket_directory(config_.paths.status_socket.parent_path(), account)) {
    open_status_socket();
    if (status_) (void)(::lchown(config_.paths.status_socket.c_str(), account.user, account.group) == 0);
  }
  reload_files_ = FilesToReread(account, {config_file_, config_.server.tls_cert, config_.server.tls_key});
  const std::string way_to_state = commands_to_let_read(account, config_.paths.state_dir);
  PENSTOCK_TRY(const bool net_admin, give_up_privileges(account, config_.vpn.tun));

  if (::access(config_.paths.state_dir.c_str(), R_OK | W_OK | X_OK) != 0) {
    return fail(ErrorCode::permission_denied, "state_dir: user " + account.name + " may not write in " +
                                                  config_.paths.state_dir.string() + "; run: " + way_to_state);
  }
  for (const auto& file : reload_files_.unreadable()) {
    log::warn("a reload will fail: this file cannot be read any more",
              {{"file", file.string()}, {"user", account.name}, {"run", reload_files_.commands_for(file)}});
  }
  std::string filter = "off";
  if (config_.process.seccomp && !kSanitized) {
    const auto installed = install_system_call_filter();
    filter = installed ? "on" : "unavailable";
    if (!installed) log::warn("system calls are not filtered", {{"error", installed.error().message}});
  }
  log::info("privileges given up", {{"user", account.name},
                                    {"group", account.group_name()},
                                    {"capabilities", net_admin ? "net_admin" : "none"},
                                    {"seccomp", filter}});
  return {};
}

// A proxy in front is in the sockets' group, be it the gateway's own one.
Result<void> Process::give_away_http_sockets(const Account& account, bool from_root) {
  const std::string& name = config_.server.listen_http_group;
  if (name.empty()) return from_root ? listeners_.give_to(account.user, account.group) : Result<void>();
  PENSTOCK_TRY(const gid_t group, group_named(name, "server.listen_http_group"));
  auto given = listeners_.give_to(account.user, group);
  if (given || from_root || given.error().code != ErrorCode::permission_denied) return given;
  return fail(ErrorCode::permission_denied, "server.listen_http_group: user " + account.name + " is not in group " +
                                                name + ", and only root gives a socket to a group of others; run: " +
                                                "usermod -aG " + name + " " + account.name + ", or start it as root");
}

// Whoever may write in the state could give himself a token, or another's address.
Result<void> Process::refuse_shared_state(std::string_view name) const {
  auto checked = refuse_if_writable_by_others((config_.paths.state_dir / name).string());
  return checked || checked.error().code == ErrorCode::not_found ? Result<void>() : checked;
}

// A certificate that has expired is no reason for a running gateway to stop serving: it warns and goes on.
Result<void> Process::load_certificate(bool at_start) {
  if (config_.server.tls_cert.empty()) return {};  // TLS is ended in front
  const auto dates = at_start ? tls::ServerContext::Dates::must_be_valid : tls::ServerContext::Dates::any;
  const std::string key = config_.server.tls_key.string();
  PENSTOCK_TRY(auto loaded, tls::ServerContext::create(config_.server.tls_cert.string(), key, clock_, dates));
  PENSTOCK_TRY_VOID(refuse_if_writable_by_others_than_owner(key));
  if (readable_by_everybody(key)) {
    log::warn("the private key can be read by everybody on this machine",
              {{"file", key}, {"access", describe_access(key)}, {"run", "chmod o= " + key}});
  }
  tls_ = std::move(loaded);
  const tls::CertificateInfo& certificate = tls_->certificate();
  const auto days_left =
      std::chrono::duration_cast<std::chrono::days>(certificate.not_after - clock_.wall_now()).count();
  log::info(at_start ? "certificate loaded" : "certificate reloaded",
            {{"subject", certificate.subject}, {"days_left", days_left}, {"pin", certificate.pin}});
  if (days_left < 14) log::warn("the certificate expires soon: renew it", {{"days_left", days_left}});
  if (core_) core_->set_tls(tls_);
  return {};
}

Result<void> Process::load_credentials() {
  std::vector<TokenRecord> records = tokens_;
  PENSTOCK_TRY_VOID(refuse_shared_state("tokens.json"));
  auto issued = load_token_file(token_file_path(config_));
  if (issued) {
    records.insert(records.end(), issued->begin(), issued->end());
  } else if (issued.error().code != ErrorCode::not_found) {
    return std::unexpected(std::move(issued).error());
  }
  PENSTOCK_TRY(auto authenticator, auth::Authenticator::create(credentials_of(records)));
  log::info("tokens loaded", {{"tokens", authenticator.size()}});
  if (authenticator.size() == 0) log::warn("no tokens: nobody can connect; add auth.tokens or run penstock profile");
  core_->set_credentials(std::move(authenticator));
  route_sites(records);
  return {};
}

// Two interfaces with one network: half of the packets would go the wrong way, and nobody would know why.
Result<void> Process::refuse_overlap(const char* key, const Prefix& subnet) const {
  PENSTOCK_TRY(const auto addresses, net::host_addresses());
  const net::HostAddress* other = net::overlapping(addresses, subnet, config_.vpn.interface_name);
  if (other == nullptr) return {};
  return fail(ErrorCode::address_in_use, std::string(key) + " " + subnet.to_string() + " overlaps " +
                                             other->network.to_string() + ", which " + other->interface +
                                             " of this machine stands in (" + other->address.to_string() +
                                             "): choose another subnet");
}

Result<void> Process::open_interface() {
  if (!config_.vpn.tun) return {};
  PENSTOCK_TRY_VOID(refuse_overlap("vpn.subnet", config_.vpn.subnet));
  if (config_.vpn.subnet6) PENSTOCK_TRY_VOID(refuse_overlap("vpn.subnet6", *config_.vpn.subnet6));
  PENSTOCK_TRY(interface_,
               tun::Interface::create(
                   {.name = config_.vpn.interface_name, .mtu = config_.vpn.mtu, .offload = config_.vpn.offload}));
  tun::InterfaceSettings& settings = interface_settings_;
  settings.addresses.emplace_back(config_.vpn.server_ip, config_.vpn.subnet.length());
  if (config_.vpn.server_ip6) settings.addresses.emplace_back(*config_.vpn.server_ip6, config_.vpn.subnet6->length());
  settings.mtu = config_.vpn.mtu;
  PENSTOCK_TRY_VOID(interface_->configure(settings));
  identity_.interface = interface_->name();
  log::debug("interface configured", {{"interface", identity_.interface}, {"address", config_.vpn.server_ip}});
  return {};
}

// Where there is no TUN device, queries come as packets. A gateway without names is better than none.
void Process::open_names() {
  if (!config_.dns.serve || !interface_) return;
  std::vector<Endpoint> at{{config_.vpn.server_ip, dns::NameService::kPort}};
  if (config_.vpn.server_ip6) at.push_back({*config_.vpn.server_ip6, dns::NameService::kPort});
  auto listeners = dns::NameListeners::open(home_, at);
  if (listeners) {
    name_listeners_ = std::move(*listeners);
  } else {
    log::warn("clients are not served names; dns.serve: off says that this is meant",
              {{"error", listeners.error().message}});
  }
}

Result<void> Process::open_outside() {
  if (config_.internet.mode != InternetConfig::Mode::userspace) return {};
  PENSTOCK_TRY(outside_, Outside::create(home_, random_, config_, open_files_));
  identity_.outside = outside_.get();
  return {};
}

Result<void> Process::open_kernel_internet() {
  doubt_allow(config_.internet);
  if (config_.internet.mode != InternetConfig::Mode::kernel) {
    KernelInternet::restore_leftovers(config_);
    return {};
  }
  PENSTOCK_TRY(kernel_internet_, KernelInternet::create(home_, config_, identity_.interface));
  identity_.kernel_nat = &kernel_internet_->nat();
  return {};
}

void Process::set_internet_rules(const InternetConfig& rules) {
  doubt_allow(rules);
  if (outside_) outside_->set_rules(rules);
  if (kernel_internet_) kernel_internet_->set_rules(rules);
}

void Process::doubt_allow(const InternetConfig& rules) {
  if (config_.internet.mode == InternetConfig::Mode::off) return;
  const auto machine = net::host_addresses().value_or(std::vector<net::HostAddress>());
  for (const std::string& doubt : doubts_about_allow(rules, machine)) log::warn(doubt);
}

// What is not read again would otherwise be thought to hold.
void Process::tell_what_takes_a_restart(const ServerConfig& changed) const {
  const auto tell = [](const char* key, bool differs) {
    if (differs) log::warn("this setting has changed and takes a restart", {{"key", key}});
  };
  const InternetConfig& before = config_.internet;
  const InternetConfig& after = changed.internet;
  tell("internet.mode", before.mode != after.mode);
  tell("internet.public_ip", before.public_ip != after.public_ip);
  tell("internet.forward", before.forward != after.forward);
  tell("internet.filtering", before.filtering != after.filtering);
  tell("internet.udp_timeout", before.udp_timeout != after.udp_timeout);
  tell("dns.serve", config_.dns.serve != changed.dns.serve);
  tell("dns.upstream", config_.dns.upstream != changed.dns.upstream);
}

std::optional<Core::Internet> Process::internet_in_user_space() {
  if (!outside_) return std::nullopt;
  return Core::Internet{.gateway = outside_->gateway(),
                        .ports = outside_->gateway(),
                        .nat = nat_settings_of(config_),
                        .policy = outside_->policy()};
}

// This machine, too, reaches the subnets behind clients by way of them. The gateway serves all the same where it
// cannot. Also what is not new is configured again, for somebody may have changed it by hand: an MTU below 1280, though
// it be raised again, takes the IPv6 address away.
void Process::route_sites(const std::vector<TokenRecord>& records) {
  if (!interface_) return;
  std::vector<Prefix> routes;
  const auto addresses = net::host_addresses();
  for (const TokenRecord& record : records) {
    for (const Prefix& site : record.sites) {
      const auto* mine = addresses ? net::overlapping(*addresses, site, config_.vpn.interface_name) : nullptr;
      if (mine == nullptr) {
        routes.push_back(site);
      } else {
        log::warn(
            "a site overlaps a network that this machine stands in: it keeps its own way there",
            {{"client", record.name}, {"site", site}, {"network", mine->network}, {"interface", mine->interface}});
      }
    }
  }
  interface_settings_.routes = std::move(routes);
  if (auto configured = interface_->configure(interface_settings_); !configured)
    log::warn("this machine itself does not reach every site", {{"error", configured.error().message}});
}

void Process::open_status_socket() {
  auto socket =
      net::StatusSocket::create(home_, config_.paths.status_socket.string(), [this](std::string_view request) {
        if (request == kReloadTokens) {
          reload_tokens();
          return std::string("ok\n");
        }
        return status_json(*core_, config_, identity_, home_.now());
      });
  if (socket) {
    status_ = std::move(*socket);
  } else {
    log::warn("no status socket: penstock status will not find this gateway", {{"error", socket.error().message}});
  }
}

void Process::reload() {
  notifier_.reloading(home_.now());
  log::info("reloading");
  if (auto config = reread_()) {
    tokens_ = std::move(config->auth.tokens);
    core_->set_discovery(discovery_of(config->lan, config_.vpn));
    core_->set_access(config->lan);
    core_->set_exempt(config->limits.exempt);
    set_internet_rules(config->internet);
    tell_what_takes_a_restart(*config);
    log_rules(*config);
  } else {
    not_reloaded("configuration not read again, the old tokens and rules stay", config.error(), {config_file_});
  }
  reload_certificate();
  reload_tokens();
  notifier_.ready();
}

void Process::reload_certificate() {
  if (auto loaded = load_certificate(false); !loaded) {
    not_reloaded("certificate not reloaded, the old one stays", loaded.error(),
                 {config_.server.tls_cert, config_.server.tls_key});
  }
}

void Process::reload_tokens() {
  if (auto loaded = load_credentials(); !loaded)
    not_reloaded("tokens not reloaded, the old ones stay", loaded.error(), {token_file_path(config_)});
}

void Process::not_reloaded(std::string_view what, const Error& error,
                           std::initializer_list<std::filesystem::path> files) const {
  std::string commands;
  for (const auto& file : files) {
    const std::string more = reload_files_.commands_for(file);
    if (!more.empty()) commands += (commands.empty() ? "" : " && ") + more;
  }
  if (commands.empty()) {
    log::error(what, {{"error", error.message}});
  } else {
    log::error(what, {{"error", error.message}, {"run", commands}});
  }
}

void Process::write_statistics() {
  statistics_timer_.start(config_.logging.statistics_interval, [this] {
    statistics_->write(*core_, home_.now());
    write_statistics();
  });
}

void Process::begin_stop() {
  if (std::exchange(stopping_, true)) return;
  log::info("stopping");
  notifier_.stopping();
  listeners_.stop();
  core_->stop(kStopPatience, [this] { home_.stop(); });
}

Result<void> Process::run() {
  for (const auto& loop : loops_) threads_.emplace_back([&loop = *loop] { loop.run(); });
  std::string listen;
  for (const std::string& name : identity_.listen) listen += (listen.empty() ? "" : ",") + name;
  log::info("gateway ready", {{"listen", listen},
                              {"interface", identity_.interface.empty() ? "off" : identity_.interface},
                              {"subnet", config_.vpn.subnet},
                              {"subnet6", config_.vpn.subnet6 ? config_.vpn.subnet6->to_string() : ""},
                              {"address", config_.vpn.server_ip},
                              {"internet", to_string(config_.internet.mode)},
                              {"loops", config_.performance.loops}});
  notifier_.ready();
  notifier_.status("listening on " + listen);
  home_.run();
  for (const auto& loop : loops_) loop->stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return std::move(outcome_);
}

}  // namespace

std::string token_file_path(const ServerConfig& config) { return (config.paths.state_dir / "tokens.json").string(); }

Result<void> run_server(const ServerConfig& config, const std::string& config_file,
                        std::function<Result<ServerConfig>()> reread) {
  Result<void> outcome;
  {
    Process process(config, config_file, std::move(reread));
    PENSTOCK_TRY_VOID(process.start());
    outcome = process.run();
  }
  log::info("stopped");
  return outcome;
}

}  // namespace penstock::gateway
