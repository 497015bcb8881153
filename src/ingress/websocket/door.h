// The door on the public port: WebSocket over TLS. One a shard.
//
//   listener --> Door --> Doorstep --> Handshake (TLS, upgrade, login) --> Registry --> Link, on the shard of the
//   session
//
// A connection waits as a Doorstep (doorstep.h), which costs next to nothing, until it has begun to speak. Then it is a
// Handshake (handshake.h), still on the shard that it was given to, whose login must come within kLoginDeadline. Once
// admitted it moves, socket and TLS state and all, to the shard of its session and becomes a Link there (link.h).
// Whoever is over a limit of its address (handshake_limiter.h) is not let in at all.
//
// Ownership   a Door owns its doorsteps, handshakes and links. Shard, registry, limiter, warnings, randomness outlive
//             it.
// Threads     its shard's loop, except where a function says otherwise.
// Not here    which address is listened on and how sockets are spread over the shards (gateway/).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/ip.h"
#include "base/random.h"
#include "net/stream_socket.h"
#include "protocol/batch.h"
#include "protocol/messages.h"
#include "router/shard.h"
#include "session/registry.h"
#include "tls/engine.h"
#include "transport/connection.h"

namespace penstock::ingress {

class Doorstep;
class Handshake;
class HandshakeLimiter;
class Link;
struct Visitor;
struct Warnings;

// What the listener knows of a connection.
struct Arrival {
  bool plain_http = false;     // TLS is ended by somebody in front
  bool trusted_proxy = false;  // whatever its address: a Unix socket, which only those have who were let at it
};

// What a client says of itself when it logs in.
struct Peer {
  std::string software;                      // empty: a plain v1 client, which gets no extension
  std::optional<protocol::Receive> receive;  // what it takes
};

struct DoorSettings {
  std::string path = "/";
  std::vector<Prefix> proxies;  // whose word on the client's address is believed
  transport::Connection::Timing timing;
  std::uint32_t queue_messages = transport::Connection::kMaxWaiting;  // control messages waiting for one client
  // What every successful login is told; addresses and lease are filled in for each.
  protocol::AuthResponse welcome;
};

class Door {
 public:
  // From the first packet: TLS, upgrade and the first message together (docs/PROTOCOL.md).
  static constexpr Duration kLoginDeadline = std::chrono::seconds(10);
  // A control message is a token and a few words.
  static constexpr std::size_t kMaxControlMessage = 16 * 1024;
  // Plain v1: the largest packet and a little more, so that one too large by a header is a drop, not an end.
  static constexpr std::size_t kMaxMessage = 64 * 1024 + 256;
  static constexpr std::size_t kMaxBatch = protocol::kBatchBytes;

  Door(router::Shard& shard, session::Registry& registry, HandshakeLimiter& limiter, Warnings& warnings, Random& random,
       std::shared_ptr<const DoorSettings> settings);
  ~Door();
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;

  // The doors of all shards by index, this one among them: where admitted connections go.
  void set_doors(std::vector<Door*> doors) { doors_ = std::move(doors); }
  // For connections from now on; those that are there keep theirs.
  void set_tls(std::shared_ptr<tls::ServerContext> context) { tls_ = std::move(context); }

  // A socket that was accepted and detached from the loop that accepted it.
  void welcome(std::unique_ptr<net::StreamSocket> socket, Arrival arrival);
  // Says goodbye to everybody: to Penstock's clients in words, to all with close code 1001. Nobody new is let in.
  void stop();
  std::size_t connections() const { return doorsteps_.size() + handshakes_.size() + links_.size(); }

 private:
  friend class Doorstep;
  friend class Handshake;
  friend class Link;
  bool trusts(const IpAddress& proxy) const;
  void begin_handshake(Doorstep& doorstep, Visitor visitor);
  void admit(std::unique_ptr<transport::Connection> connection, session::Admission admission, Peer peer);
  // The link that was admitted is gone already: the session is without one, whoever had it before.
  void abandon(session::Admission admission);
  void remove(Doorstep& doorstep);
  void remove(Handshake& handshake);
  void remove(Link& link);

  router::Shard* shard_;
  session::Registry* registry_;
  HandshakeLimiter* limiter_;
  Warnings* warnings_;
  Random* random_;
  std::shared_ptr<const DoorSettings> settings_;
  std::shared_ptr<tls::ServerContext> tls_;
  std::vector<Door*> doors_;
  transport::ReadBuffer buffer_;
  bool stopping_ = false;
  std::unordered_map<Doorstep*, std::unique_ptr<Doorstep>> doorsteps_;
  std::unordered_map<Handshake*, std::unique_ptr<Handshake>> handshakes_;
  std::unordered_map<Link*, std::unique_ptr<Link>> links_;
};

}  // namespace penstock::ingress
