#include "gateway/process.h"

#include <csignal>
#include <filesystem>
#include <thread>
#include <utility>

#include "auth/key_file.h"
#include "base/log.h"
#include "base/version.h"
#include "config/token_record.h"
#include "gateway/core.h"
#include "gateway/file_watch.h"
#include "gateway/status.h"
#include "net/asio_loop.h"
#include "net/host_addresses.h"
#include "net/process_info.h"
#include "net/sd_notify.h"
#include "net/tcp.h"
#include "net/unix_socket.h"
#include "tun/interface.h"

namespace penstock::gateway {
namespace {

// Links that do not close by then are cut.
constexpr Duration kStopPatience = std::chrono::milliseconds(1500);

class Process {
 public:
  Process(const ServerConfig& config, std::function<Result<ServerConfig>()> reread)
      : config_(config), tokens_(config.auth.tokens), reread_(std::move(reread)) {}
  ~Process();

  Result<void> start();
  Result<void> run();

 private:
  Result<void> prepare_state();
  Result<void> load_certificate(bool at_start);
  Result<void> load_credentials();
  Result<void> open_listeners();
  Result<void> refuse_overlap(const char* key, const Prefix& subnet) const;
  Result<void> open_interface();
  void open_status_socket();
  void reload();
  void reload_tokens();
  void begin_stop();
  void write_statistics();

  const ServerConfig& config_;
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
  std::vector<std::unique_ptr<net::TcpListener>> listeners_;
  std::unique_ptr<Core> core_;
  std::unique_ptr<net::StatusSocket> status_;
  std::unique_ptr<FileWatch> certificate_watch_;
  std::unique_ptr<FileWatch> token_watch_;
  Timer statistics_timer_{home_};
  std::unique_ptr<StatisticsLog> statistics_;
  Identity identity_;
  std::vector<std::thread> threads_;
  bool stopping_ = false;
  Result<void> outcome_;
};

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
  if (auto limit = net::raise_open_files_limit(); !limit)
    log::warn("limit of open files not raised", {{"error", limit.error().message}});

  PENSTOCK_TRY_VOID(prepare_state());
  PENSTOCK_TRY_VOID(load_certificate(true));
  PENSTOCK_TRY_VOID(open_listeners());
  PENSTOCK_TRY_VOID(open_interface());
  PENSTOCK_TRY(const auto key, auth::load_or_create_key((config_.paths.state_dir / "lease.key").string(), random_));

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
                                    .device_lost = [this](Error error) {
                                      outcome_ = std::unexpected(std::move(error));
                                      begin_stop();
                                    }}));
  PENSTOCK_TRY_VOID(load_credentials());
  core_->set_tls(tls_);
  core_->restore();
  core_->start();
  for (const auto& listener : listeners_)
    listener->on_accept([this](std::unique_ptr<net::StreamSocket> socket) { core_->accept(std::move(socket)); });
  open_status_socket();

  certificate_watch_ = std::make_unique<FileWatch>(
      home_, std::vector{config_.server.tls_cert.string(), config_.server.tls_key.string()}, [this] {
        if (auto loaded = load_certificate(false); !loaded)
          log::error("certificate not reloaded, the old one stays", {{"error", loaded.error().message}});
      });
  token_watch_ = std::make_unique<FileWatch>(home_, std::vector{token_file_path(config_)}, [this] { reload_tokens(); });
  identity_.started = home_.now();
  if (config_.logging.statistics_interval.count() > 0) {
    statistics_ = std::make_unique<StatisticsLog>(home_.now());
    write_statistics();
  }
  return {};
}

Result<void> Process::prepare_state() {
  std::error_code error;
  std::filesystem::create_directories(config_.paths.state_dir, error);
  if (error) {
    return fail(ErrorCode::permission_denied, "state_dir: " + config_.paths.state_dir.string() + ": " +
                                                  error.message() +
                                                  "; set state_dir to a directory that can be written");
  }
  state_ = std::make_unique<session::StateFile>((config_.paths.state_dir / "sessions.json").string());
  return {};
}

// A certificate that has expired is no reason for a running gateway to stop serving: it warns and goes on.
Result<void> Process::load_certificate(bool at_start) {
  const auto dates = at_start ? tls::ServerContext::Dates::must_be_valid : tls::ServerContext::Dates::any;
  PENSTOCK_TRY(tls_, tls::ServerContext::create(config_.server.tls_cert.string(), config_.server.tls_key.string(),
                                                clock_, dates));
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
  return {};
}

Result<void> Process::open_listeners() {
  for (const Endpoint& at : config_.server.listen_addr) {
    PENSTOCK_TRY(auto listener, net::TcpListener::create(home_, at));
    identity_.listen.push_back(listener->local());
    listeners_.push_back(std::move(listener));
  }
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
  PENSTOCK_TRY(interface_, tun::Interface::create({.name = config_.vpn.interface_name, .mtu = config_.vpn.mtu}));
  tun::InterfaceSettings settings;
  settings.addresses.emplace_back(config_.vpn.server_ip, config_.vpn.subnet.length());
  if (config_.vpn.server_ip6) settings.addresses.emplace_back(*config_.vpn.server_ip6, config_.vpn.subnet6->length());
  settings.mtu = config_.vpn.mtu;
  PENSTOCK_TRY_VOID(interface_->configure(settings));
  identity_.interface = interface_->name();
  log::debug("interface configured", {{"interface", identity_.interface}, {"address", config_.vpn.server_ip}});
  return {};
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
  } else {
    log::error("configuration not read again, the old tokens stay", {{"error", config.error().message}});
  }
  if (auto loaded = load_certificate(false); !loaded)
    log::error("certificate not reloaded, the old one stays", {{"error", loaded.error().message}});
  reload_tokens();
  notifier_.ready();
}

void Process::reload_tokens() {
  if (auto loaded = load_credentials(); !loaded)
    log::error("tokens not reloaded, the old ones stay", {{"error", loaded.error().message}});
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
  for (const auto& listener : listeners_) listener->stop_accepting();
  core_->stop(kStopPatience, [this] { home_.stop(); });
}

Result<void> Process::run() {
  for (const auto& loop : loops_) threads_.emplace_back([&loop = *loop] { loop.run(); });
  std::string listen;
  for (const Endpoint& endpoint : identity_.listen) listen += (listen.empty() ? "" : ",") + endpoint.to_string();
  log::info("gateway ready", {{"listen", listen},
                              {"interface", identity_.interface.empty() ? "off" : identity_.interface},
                              {"subnet", config_.vpn.subnet},
                              {"subnet6", config_.vpn.subnet6 ? config_.vpn.subnet6->to_string() : ""},
                              {"address", config_.vpn.server_ip},
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

Result<void> run_server(const ServerConfig& config, std::function<Result<ServerConfig>()> reread) {
  Result<void> outcome;
  {
    Process process(config, std::move(reread));
    PENSTOCK_TRY_VOID(process.start());
    outcome = process.run();
  }
  log::info("stopped");
  return outcome;
}

}  // namespace penstock::gateway
