#include "gateway/status.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "base/version.h"
#include "net/process_info.h"
#include "session/outer.h"

namespace penstock::gateway {
namespace {

using Json = nlohmann::ordered_json;

double seconds(Duration duration) { return std::round(std::chrono::duration<double>(duration).count() * 1000) / 1000; }

Json traffic(const router::Traffic& traffic) { return {{"packets", traffic.packets}, {"bytes", traffic.bytes}}; }

Json traffic(const router::Traffic& sum, double bits_per_second) {
  Json json = traffic(sum);
  json["bits_per_second"] = std::round(bits_per_second);
  return json;
}

template <typename T>
Json text_or_null(const std::optional<T>& value) {
  return value ? Json(value->to_string()) : Json();
}

Json session_json(const session::SessionStatus& session, TimePoint now) {
  return {{"id", std::to_string(session.id.slot) + "-" + std::to_string(session.id.generation)},
          {"client", session.client},
          {"address", session.address.to_string()},
          {"address6", text_or_null(session.address6)},
          {"attached", session.attached},
          {"outer", session.attached ? Json(session::outer_name(session.outer)) : Json()},
          {"software", session.software},
          {"format", session.format},
          {"since_seconds", seconds(now - session.since)},
          {"detached_seconds", session.attached ? Json() : Json(seconds(now - session.detached_at))},
          {"loop", session.shard},
          {"up", traffic(session.traffic.up, session.rate.up)},
          {"down", traffic(session.traffic.down, session.rate.down)},
          {"queue_bytes", session.queued_bytes}};
}

// Packets that went no further, by reason.
Json internet_drops(const egress::NatExit& exit, const egress::SocketGateway& sockets) {
  Json drops;
  const auto& counters = exit.counters();
  for (std::size_t i = 1; i < egress::kDeniedReasons; ++i)
    drops["denied_" + std::string(to_string(static_cast<egress::Denied>(i)))] = counters.denied[i];
  drops["flow_rate"] = counters.flow_rate;
  drops["hop_limit"] = counters.hop_limit;
  drops["malformed"] = counters.malformed;
  drops["no_connection"] = counters.no_connection;
  drops["no_port"] = counters.no_port;
  drops["no_outside"] = counters.no_outside;
  drops["not_translatable"] = counters.not_translatable;
  drops["unasked"] = counters.unasked;
  drops["spoofed"] = counters.spoofed;
  drops["socket_full"] = sockets.counters().full;
  drops["socket_refused"] = sockets.counters().refused;
  drops["socket_closed"] = sockets.counters().closed;
  drops["socket_forbidden"] = sockets.counters().forbidden;
  drops["socket_malformed"] = sockets.counters().malformed;
  if (const egress::TcpTerminator* tcp = sockets.tcp()) {
    drops["tcp_malformed"] = tcp->counters().malformed;
    drops["tcp_out_of_window"] = tcp->counters().out_of_window;
  }
  const auto& fragments = exit.fragment_losses();
  drops["fragments"] = fragments.malformed + fragments.overlapped + fragments.timed_out + fragments.too_many;
  return drops;
}

Json internet_drops(const egress::KernelDrops& counted) {
  Json drops;
  for (std::size_t i = 1; i < egress::kDeniedReasons; ++i)
    drops["denied_" + std::string(to_string(static_cast<egress::Denied>(i)))] = counted.denied[i];
  drops["unasked"] = counted.uninvited;
  drops["untracked"] = counted.untracked;
  drops["no_ipv6"] = counted.no_ipv6;
  drops["spoofed"] = counted.spoofed;
  drops["flow_rate"] = counted.flow_rate;
  drops["flows"] = counted.flows;
  return drops;
}

// Connections that are ended here, and what became of others.
Json tcp_json(const egress::TcpTerminator& tcp) {
  const auto& counters = tcp.counters();
  return {{"connections", tcp.connections()},
          {"opened", counters.opened},
          {"accepted", counters.accepted},
          {"refused", counters.refused},
          {"timed_out", counters.timed_out},
          {"exhausted", counters.exhausted},
          {"reset_by_client", counters.reset_by_client},
          {"reset_by_server", counters.reset_by_server},
          {"no_connection", counters.no_connection},
          {"retransmitted", counters.retransmitted}};
}

Json internet_json(Core& core, const ServerConfig& config, const Identity& identity) {
  Json json = {{"mode", to_string(config.internet.mode)}};
  if (identity.kernel_nat != nullptr) {
    if (const auto drops = identity.kernel_nat->drops()) json["drops"] = internet_drops(*drops);
  }
  const Outside* outside = identity.outside;
  if (outside == nullptr) return json;
  const egress::NatExit& exit = *core.nat_exit();
  json["external4"] = text_or_null(outside->external4());
  json["external6"] = text_or_null(outside->external6());
  json["mappings"] = exit.nat().table().mappings();
  json["flows"] = exit.nat().table().flows();
  json["sockets"] = outside->gateway().sockets();
  if (const egress::TcpTerminator* tcp = outside->gateway().tcp()) json["tcp"] = tcp_json(*tcp);
  json["drops"] = internet_drops(exit, outside->gateway());
  return json;
}

Json names_json(const Names& names) {
  Json json = {{"servers", Json::array()}, {"queries", Json::object()}};
  for (const Endpoint& server : names.servers()) json["servers"].push_back(server.to_string());
  for (std::size_t i = 0; i < dns::kCounts; ++i) {
    const auto count = static_cast<dns::Count>(i);
    json["queries"][std::string(to_string(count))] = names.service().queries().of(count);
  }
  const auto counters = names.service().counters();
  json["strangers"] = counters.strangers;
  json["bad_packets"] = counters.bad_packets;
  json["unsent"] = counters.unsent;
  json["waiting"] = names.service().forwarder().waiting();
  json["cached"] = names.service().forwarder().cache().entries();
  return json;
}

}  // namespace

std::string status_json(Core& core, const ServerConfig& config, const Identity& identity, TimePoint now) {
  Json json;
  json["role"] = "server";
  json["version"] = kVersion;
  json["uptime_seconds"] = seconds(now - identity.started);
  json["listen"] = identity.listen;
  json["interface"] = identity.interface.empty() ? Json() : Json(identity.interface);
  json["subnet"] = config.vpn.subnet.to_string();
  json["subnet6"] = text_or_null(config.vpn.subnet6);
  json["server_ip"] = config.vpn.server_ip.to_string();
  json["server_ip6"] = text_or_null(config.vpn.server_ip6);
  json["mtu"] = config.vpn.mtu;

  json["internet"] = internet_json(core, config, identity);

  if (const Names* names = core.names()) json["dns"] = names_json(*names);

  json["sessions"] = Json::array();
  for (const auto& session : core.registry().sessions()) json["sessions"].push_back(session_json(session, now));

  const session::Totals totals = core.registry().totals();
  json["totals"] = {{"up", traffic(totals.up)},
                    {"down", traffic(totals.down)},
                    {"links", totals.links},
                    {"links_lost", totals.links_lost},
                    {"sessions_created", totals.sessions_created},
                    {"sessions_resumed", totals.sessions_resumed},
                    {"sessions_ended", totals.sessions_ended},
                    {"resume_attempts", totals.resume_attempts},
                    {"logins_refused", totals.logins_refused}};
  json["drops"] = Json::object();
  for (std::size_t i = 0; i < router::kDropReasons; ++i) {
    const auto reason = static_cast<router::Drop>(i);
    json["drops"][std::string(to_string(reason))] = core.drops(reason);
  }
  json["limits"] = Json::object();
  for (const auto& [limit, times] : core.limits()) json["limits"][std::string(limit)] = times;
  json["limits"]["handshakes_now"] = core.limiter().handshakes();
  json["limits"]["addresses_blocked_now"] = core.limiter().blocked_addresses(now);
  json["limits"]["blocked"] = Json::array();
  for (const auto& blocked : core.limiter().blocked(now, kBlockedShown)) {
    json["limits"]["blocked"].push_back(
        {{"address", blocked.name()}, {"seconds_left", seconds(blocked.wait)}, {"failures", blocked.failures}});
  }
  if (const auto process = net::process_info()) {
    json["process"] = {{"pid", process->pid},
                       {"threads", process->threads},
                       {"open_files", process->open_files},
                       {"resident_bytes", process->resident_bytes}};
  }
  // Names come from outside: whatever is no UTF-8 in them must not end the process.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void StatisticsLog::write(Core& core, TimePoint now) {
  const session::Totals totals = core.registry().totals();
  std::size_t sessions = 0;
  std::size_t attached = 0;
  for (const auto& session : core.registry().sessions()) {
    ++sessions;
    if (session.attached) ++attached;
  }
  std::uint64_t dropped = 0;
  std::string reasons;
  for (std::size_t i = 0; i < router::kDropReasons; ++i) {
    const auto reason = static_cast<router::Drop>(i);
    const std::uint64_t now_dropped = core.drops(reason);
    const std::uint64_t packets = now_dropped - std::exchange(last_drops_[i], now_dropped);
    if (packets == 0) continue;
    dropped += packets;
    reasons += (reasons.empty() ? "" : ", ") + std::string(to_string(reason)) + " " + std::to_string(packets);
  }
  std::string limits;
  std::vector<std::uint64_t> met;
  for (const auto& [limit, times] : core.limits()) {
    const std::uint64_t before = met.size() < last_limits_.size() ? last_limits_[met.size()] : 0;
    met.push_back(times);
    if (times != before)
      limits += (limits.empty() ? "" : ", ") + std::string(limit) + " " + std::to_string(times - before);
  }
  last_limits_ = std::move(met);
  const double passed = std::max(1e-9, std::chrono::duration<double>(now - last_time_).count());
  const auto per_second = [passed](std::uint64_t now_count, std::uint64_t then) {
    return static_cast<std::uint64_t>(std::llround(static_cast<double>(now_count - then) / passed));
  };
  const auto process = net::process_info().value_or(net::ProcessInfo{});
  log::info("statistics", {{"sessions", sessions},
                           {"attached", attached},
                           {"up_bytes", totals.up.bytes - last_.up.bytes},
                           {"down_bytes", totals.down.bytes - last_.down.bytes},
                           {"up_packets_per_second", per_second(totals.up.packets, last_.up.packets)},
                           {"down_packets_per_second", per_second(totals.down.packets, last_.down.packets)},
                           {"dropped", dropped},
                           {"links", totals.links - last_.links},
                           {"links_lost", totals.links_lost - last_.links_lost},
                           {"logins_refused", totals.logins_refused - last_.logins_refused},
                           {"threads", process.threads},
                           {"open_files", process.open_files},
                           {"resident_bytes", process.resident_bytes}});
  if (!limits.empty()) log::warn("limits met", {{"times", limits}});
  if (dropped != 0) log::warn("packets dropped", {{"packets", dropped}, {"reasons", reasons}});
  // The home shard's; the others' routers are not ours to look into.
  const IpAddress& unmatched = core.shards().front()->router().last_unmatched();
  if (!unmatched.is_unspecified() && unmatched != last_unmatched_)
    log::warn("packets went to an address that no client has", {{"last_address", unmatched}});
  last_unmatched_ = unmatched;
  last_ = totals;
  last_time_ = now;
}

}  // namespace penstock::gateway
