#include "client/linux/process.h"

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "base/version.h"
#include "client/core/client.h"
#include "client/linux/lease_file.h"
#include "client/linux/linux_tunnel.h"
#include "net/asio_loop.h"
#include "net/congestion_control.h"
#include "net/process_info.h"
#include "net/resolver.h"
#include "net/sd_notify.h"
#include "net/tcp.h"
#include "net/unix_socket.h"

namespace penstock::client {
namespace {

using Json = nlohmann::ordered_json;

// A gateway that does not answer the goodbye is left without one.
constexpr Duration kStopPatience = std::chrono::milliseconds(1000);
constexpr Duration kRateInterval = std::chrono::seconds(2);

template <typename T>
Json text_or_null(const std::optional<T>& value) {
  return value ? Json(value->to_string()) : Json();
}

Json seconds_or_null(const std::optional<Duration>& value) {
  return value ? Json(std::round(std::chrono::duration<double>(*value).count() * 1000) / 1000) : Json();
}

class Process {
 public:
  explicit Process(const ClientConfig& config) : config_(config) {}
  Result<void> start();
  Result<void> run();

 private:
  void begin_stop();
  void sample_rates();
  void write_statistics();
  std::string status_json() const;

  const ClientConfig& config_;
  SystemRandom random_;
  net::ServiceNotifier notifier_ = net::ServiceNotifier::from_environment();
  net::AsioLoop loop_;
  net::SystemResolver resolver_{loop_};
  std::unique_ptr<net::TcpSocketFactory> sockets_;
  LeaseFile lease_{(config_.paths.state_dir / "lease").string(), config_};
  std::unique_ptr<LinuxTunnel> tunnel_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<net::StatusSocket> status_;
  TimePoint started_ = loop_.now();
  Timer rate_timer_{loop_};
  Timer statistics_timer_{loop_};
  Timer stop_timer_{loop_};
  Status sampled_;
  double up_rate_ = 0;
  double down_rate_ = 0;
  Status reported_;
  bool stopping_ = false;
  Result<void> outcome_;
};

Result<void> Process::start() {
  loop_.on_signal({SIGTERM, SIGINT}, [this](int) { begin_stop(); });
  std::signal(SIGPIPE, SIG_IGN);
  log::info("starting", {{"version", kVersion}, {"pid", net::process_info().value_or(net::ProcessInfo{}).pid}});
  for (const std::string& key : config_.reserved)
    log::warn("this setting is accepted but has no effect in this version", {{"key", key}});
  if (!config_.server.verify_tls) {
    log::warn(
        "server.verify_tls is off: anybody between here and the gateway can read and change everything; set server.pin "
        "or server.ca_file instead");
  }
  if (!net::set_nice(config_.performance.nice))
    log::debug("performance.nice is not allowed to this user", {{"nice", config_.performance.nice}});
  sockets_ = std::make_unique<net::TcpSocketFactory>(net::TcpSocketFactory::Options{
      .mark = 0, .congestion_control = net::congestion_control_by(config_.performance.congestion_control)});
  std::error_code error;
  std::filesystem::create_directories(config_.paths.state_dir, error);
  if (error) {
    log::warn("state_dir cannot be made: after a restart the session will not be resumed",
              {{"state_dir", config_.paths.state_dir.string()}, {"error", error.message()}});
  }
  const auto environment = ProxyEnvironment::read([](const char* name) { return std::getenv(name); });
  for (const GatewayUrl& url : config_.server.urls) {
    if (auto proxy = proxy_for(url, config_.server, environment); !proxy)
      return std::unexpected(std::move(proxy).error());
  }
  PENSTOCK_TRY(auto tls, tls::ClientContext::create({.verify = config_.server.verify_tls,
                                                     .ca_file = config_.server.ca_file.string(),
                                                     .pin = config_.server.pin}));
  PENSTOCK_TRY(tunnel_, LinuxTunnel::create(loop_, {.name = config_.vpn.interface_name,
                                                    .mtu = config_.vpn.mtu,
                                                    .offload = config_.vpn.offload}));
  client_ = std::make_unique<Client>(config_, Surroundings{.loop = loop_,
                                                           .random = random_,
                                                           .resolver = resolver_,
                                                           .sockets = *sockets_,
                                                           .tunnel = *tunnel_,
                                                           .lease = lease_,
                                                           .tls = std::move(tls),
                                                           .software = "penstock/" + std::string(kVersion) + " linux",
                                                           .proxy_environment = environment});
  client_->on_failure([this](Error failure) {
    outcome_ = std::unexpected(std::move(failure));
    begin_stop();
  });
  auto socket = net::StatusSocket::create(loop_, config_.paths.status_socket.string(),
                                          [this](std::string_view) { return status_json(); });
  if (socket) {
    status_ = std::move(*socket);
  } else {
    log::warn("no status socket: penstock status will not find this client", {{"error", socket.error().message}});
  }
  sample_rates();
  if (config_.logging.statistics_interval.count() > 0) write_statistics();
  client_->start();
  return {};
}

Result<void> Process::run() {
  notifier_.ready();
  loop_.run();
  return std::move(outcome_);
}

void Process::begin_stop() {
  if (std::exchange(stopping_, true)) return;
  log::info("stopping");
  notifier_.stopping();
  stop_timer_.start(kStopPatience, [this] { loop_.stop(); });
  client_->stop([this] { loop_.stop(); });
}

void Process::sample_rates() {
  const Status now = client_->status();
  const double seconds = std::chrono::duration<double>(kRateInterval).count();
  up_rate_ = static_cast<double>(now.up_bytes - sampled_.up_bytes) * 8 / seconds;
  down_rate_ = static_cast<double>(now.down_bytes - sampled_.down_bytes) * 8 / seconds;
  sampled_ = now;
  rate_timer_.start(kRateInterval, [this] { sample_rates(); });
}

void Process::write_statistics() {
  statistics_timer_.start(config_.logging.statistics_interval, [this] {
    const Status now = client_->status();
    const auto process = net::process_info().value_or(net::ProcessInfo{});
    log::info("statistics", {{"state", to_string(now.state)},
                             {"up_bytes", now.up_bytes - reported_.up_bytes},
                             {"down_bytes", now.down_bytes - reported_.down_bytes},
                             {"up_packets", now.up_packets - reported_.up_packets},
                             {"down_packets", now.down_packets - reported_.down_packets},
                             {"dropped", now.dropped() - reported_.dropped()},
                             {"attempts", now.attempts},
                             {"logins", now.successes},
                             {"resident_bytes", process.resident_bytes}});
    reported_ = now;
    write_statistics();
  });
}

std::string Process::status_json() const {
  const Status status = client_->status();
  Json json;
  json["role"] = "client";
  json["version"] = kVersion;
  json["uptime_seconds"] = seconds_or_null(loop_.now() - started_);
  json["state"] = to_string(status.state);
  json["gateway"] = status.gateway;
  json["proxy"] = status.proxy.empty() ? Json() : Json(status.proxy);
  json["outer"] = text_or_null(status.outer);
  json["interface"] = config_.vpn.interface_name;
  json["address"] = text_or_null(status.address);
  json["address6"] = text_or_null(status.address6);
  json["subnet"] = text_or_null(status.subnet);
  json["server_ip"] = text_or_null(status.server_ip);
  json["mtu"] = status.mtu;
  json["connected_seconds"] = seconds_or_null(status.connected_for);
  json["retry_in_seconds"] = seconds_or_null(status.retry_in);
  json["last_error"] = status.last_error;
  json["up"] = {{"packets", status.up_packets}, {"bytes", status.up_bytes}, {"bits_per_second", std::round(up_rate_)}};
  json["down"] = {
      {"packets", status.down_packets}, {"bytes", status.down_bytes}, {"bits_per_second", std::round(down_rate_)}};
  json["reconnects"] = {
      {"attempts", status.reconnect_attempts}, {"succeeded", status.reconnects}, {"resumed", status.resumed}};
  json["drops"] = {{"not_connected", status.dropped_not_connected}, {"queue_full", status.dropped_queue_full},
                   {"queue_delay", status.dropped_queue_delay},     {"too_big", status.dropped_too_big},
                   {"interface_refused", status.dropped_interface}, {"malformed", status.dropped_malformed}};
  if (const auto process = net::process_info()) {
    json["process"] = {{"pid", process->pid},
                       {"threads", process->threads},
                       {"open_files", process->open_files},
                       {"resident_bytes", process->resident_bytes}};
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Result<void> run_client(const ClientConfig& config) {
  Result<void> outcome;
  {
    Process process(config);
    PENSTOCK_TRY_VOID(process.start());
    outcome = process.run();
  }
  log::info("stopped");
  return outcome;
}

}  // namespace penstock::client
