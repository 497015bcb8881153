// The control messages of the Penstock protocol: JSON text messages to structs and back. docs/PROTOCOL.md is their
// specification; the names of the fields here are those on the wire except where a comment says otherwise.
//
// A plain v1 peer sends and understands only the first fields of each message. Extension fields that are empty are not
// written, so what such a peer gets is v1 exactly. Unknown fields are ignored, a null counts as absent.
//
// Errors      parse_control() names the type and field that is wrong and what it should be, never a value that could be
//             a credential: its message may be logged and sent back.
// Not here    who may send what when (the link), and what is done about it (router, client).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/ip.h"
#include "base/result.h"

namespace penstock::protocol {

// What its sender can receive, each size at least 576. Absent: one packet a binary message, no super-packets.
struct Receive {
  std::uint32_t max_packet = 65535;   // bytes, a super-packet included
  std::vector<std::string> gso;       // of "tcp4", "tcp6", "udp4", "udp6"; others are kept and mean nothing
  std::uint32_t batch_bytes = 65536;  // the largest binary message
  std::uint32_t mtu = 1420;           // the largest packet that is no super-packet
  friend bool operator==(const Receive&, const Receive&) = default;
};

// client -> server, first: a token, or user and password. What is absent is empty.
struct Auth {
  std::string token;
  std::string user;
  std::string password;
  std::string client;  // "penstock/1.0 linux"; empty: a plain v1 client
  std::optional<Receive> receive;
  friend bool operator==(const Auth&, const Auth&) = default;
};

// client -> server, instead of Auth: take up a session again, by token and address or by lease.
struct Reconnect {
  std::string token;
  std::string lease;
  std::optional<IpAddress> previous_ip;  // an empty string on the wire counts as absent
  std::string client;
  std::optional<Receive> receive;
  friend bool operator==(const Reconnect&, const Reconnect&) = default;
};

struct DnsSettings {
  std::vector<IpAddress> servers;
  std::vector<std::string> search;
  std::vector<std::string> split;  // domains that only these servers are asked for; empty: they are asked for all
  friend bool operator==(const DnsSettings&, const DnsSettings&) = default;
};

// server -> client. Success: from assigned_ip on; else only `error`.
struct AuthResponse {
  bool success = false;
  std::string error;
  IpAddress assigned_ip;
  Prefix subnet;
  IpAddress server_ip;
  std::uint32_t mtu = 0;
  // Extensions, for clients that named themselves.
  std::optional<IpAddress> assigned_ip6;
  std::optional<IpAddress> server_ip6;
  std::optional<Prefix> subnet6;
  std::vector<Prefix> routes;
  std::vector<Prefix> exclude;
  std::optional<DnsSettings> dns;
  std::string lease;                               // secret
  std::optional<std::uint32_t> keepalive_seconds;  // "keepalive"
  std::optional<std::uint32_t> grace_seconds;      // "grace"
  std::vector<std::string> gateways;
  std::vector<Prefix> sites;  // subnets behind the client itself, to which others send by way of it
  std::optional<Receive> receive;
  bool resumed = false;  // the session that was asked for, with its address and bindings
  friend bool operator==(const AuthResponse&, const AuthResponse&) = default;
};

// Both ways; a Ping is answered by a Pong.
struct Ping {
  friend bool operator==(const Ping&, const Ping&) = default;
};
struct Pong {
  friend bool operator==(const Pong&, const Pong&) = default;
};

// Both ways; never answered. It parses whatever its field holds, so that a broken one is not answered either.
struct ErrorMessage {
  std::string error;
  friend bool operator==(const ErrorMessage&, const ErrorMessage&) = default;
};

// server -> client: the settings as they are from now on, whole; what is absent is empty.
struct ConfigEvent {
  std::vector<Prefix> routes;
  std::vector<Prefix> exclude;
  std::optional<DnsSettings> dns;
  std::vector<Prefix> sites;
  friend bool operator==(const ConfigEvent&, const ConfigEvent&) = default;
};

// server -> client: something for the person to read.
struct Notice {
  std::string text;
  friend bool operator==(const Notice&, const Notice&) = default;
};

// Reasons of a Goodbye, and of a refused login, that a client acts on. The same words close the connection (1008).
// Another machine logged in with this token, which admits one: the two must not take turns.
inline constexpr std::string_view kReplaced = "replaced by a newer login";
// Another connection came with the same lease.
inline constexpr std::string_view kTakenOver = "taken over by another connection";

// server -> client, before it closes on purpose.
struct Goodbye {
  std::string reason;
  std::uint32_t reconnect_after_seconds = 0;  // "reconnect_after"; 0: as the client sees fit
  friend bool operator==(const Goodbye&, const Goodbye&) = default;
};

using ControlMessage =
    std::variant<Auth, Reconnect, AuthResponse, Ping, Pong, ErrorMessage, ConfigEvent, Notice, Goodbye>;

// Refusal: invalid_argument. What is nested deeper than any message of ours is refused unread.
Result<ControlMessage> parse_control(std::string_view json);

std::string to_json(const Auth& message);
std::string to_json(const Reconnect& message);
std::string to_json(const AuthResponse& message);
std::string to_json(const Ping& message);
std::string to_json(const Pong& message);
std::string to_json(const ErrorMessage& message);
std::string to_json(const ConfigEvent& message);
std::string to_json(const Notice& message);
std::string to_json(const Goodbye& message);
std::string to_json(const ControlMessage& message);

}  // namespace penstock::protocol
