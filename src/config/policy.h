// What a gateway's configuration says about who may reach what: rules for the virtual LAN and for the internet, and
// what clients are told. Of the latter only push.routes is acted on yet.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/config_reader.h"
#include "base/ip.h"

namespace penstock {

enum class PortProtocol : std::uint8_t { any, tcp, udp };

// "443", "8000-8100", "tcp 443", "udp 5000-5100".
struct PortRange {
  PortProtocol protocol = PortProtocol::any;
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  friend auto operator<=>(const PortRange&, const PortRange&) = default;
};

struct PushConfig {
  std::vector<Prefix> routes;   // send these into the tunnel
  std::vector<Prefix> exclude;  // but not these
  struct Dns {
    std::vector<IpAddress> servers;
    std::vector<std::string> search;
    std::vector<std::string> split;  // ask the servers above only for names below these
  } dns;
};

// Says "everybody" in a rule, so that nobody and no group may be called so.
inline constexpr std::string_view kAnybody = "any";

// One end of a rule: a prefix, or the name of a credential or group, or neither for "any".
struct Party {
  std::optional<Prefix> prefix;
  std::string name;
  friend auto operator<=>(const Party&, const Party&) = default;
};

struct LanConfig {
  bool isolate = false;  // clients reach each other only where a rule allows it
  struct Rule {
    Party from;
    Party to;
    std::vector<PortRange> ports;  // none: all
    friend auto operator<=>(const Rule&, const Rule&) = default;
  };
  std::vector<Rule> allow;  // of no effect unless `isolate`

  bool discovery = true;              // broadcasts and multicasts by which machines find each other are handed on
  std::uint32_t discovery_rate = 20;  // packets a second and client, twice that at a time
};

struct InternetConfig {
  enum class Mode : std::uint8_t { userspace, kernel, off };
  Mode mode = Mode::userspace;
  std::optional<IpAddress> public_ip;  // IPv4; none: the address of the default route

  // "192.0.2.0/24", or { to: 192.0.2.0/24, ports: ["tcp 443"] }.
  struct Rule {
    Prefix to;
    std::vector<PortRange> ports;  // none: all
    friend auto operator<=>(const Rule&, const Rule&) = default;
  };
  std::vector<Rule> allow;
  std::vector<Rule> deny;

  // Who may answer to a port that a client speaks from (RFC 4787 section 5).
  enum class Filtering : std::uint8_t { address_and_port, address, none };
  Filtering filtering = Filtering::address_and_port;
  std::chrono::milliseconds udp_timeout = std::chrono::minutes(5);  // of silence, then a conversation is over

  // "tcp 2222 -> 10.100.0.5:22".
  struct Forward {
    PortProtocol protocol = PortProtocol::tcp;
    std::uint16_t port = 0;
    Endpoint to;
    friend auto operator<=>(const Forward&, const Forward&) = default;
  };
  std::vector<Forward> forward;
};

constexpr std::string_view to_string(InternetConfig::Mode mode) {
  constexpr std::array<std::string_view, 3> kNames{"userspace", "kernel", "off"};
  return kNames[static_cast<std::size_t>(mode)];
}

void read_push(Section section, PushConfig& out);
void read_lan(Section section, LanConfig& out);
void read_internet(Section section, InternetConfig& out);
// "9.9.9.9" is port 53; "9.9.9.9:5353" and "[2620:fe::fe]:53" say theirs.
void read_dns_upstream(Section& section, std::vector<Endpoint>& out);

}  // namespace penstock
