#include "ingress/websocket/door.h"

#include <algorithm>

#include "base/log.h"
#include "ingress/websocket/doorstep.h"
#include "ingress/websocket/handshake.h"
#include "ingress/websocket/handshake_limiter.h"
#include "ingress/websocket/link.h"

namespace penstock::ingress {

Door::Door(router::Shard& shard, session::Registry& registry, HandshakeLimiter& limiter, Warnings& warnings,
           Random& random, std::shared_ptr<const DoorSettings> settings)
    : shard_(&shard),
      registry_(&registry),
      limiter_(&limiter),
      warnings_(&warnings),
      random_(&random),
      settings_(std::move(settings)),
      doors_{this} {}

Door::~Door() = default;

void Door::welcome(std::unique_ptr<net::StreamSocket> socket, Arrival arrival) {
  if (stopping_) return;
  const Endpoint peer = socket->peer();
  // Reset before it was accepted, as health checks do: there is nobody to name, or to blame for what it said.
  if (!arrival.trusted_proxy && peer.address.is_unspecified()) return;
  const bool proxy = arrival.trusted_proxy || trusts(peer.address);
  auto ticket = limiter_->enter(shard_->loop(), proxy ? std::nullopt : std::optional(peer.address));
  if (!ticket) return log::debug("connection refused", {{"outer", peer}, {"reason", to_string(ticket.error())}});
  socket->adopt(shard_->loop());
  auto doorstep = std::make_unique<Doorstep>(*this, Visitor{.socket = std::move(socket),
                                                            .ticket = std::move(*ticket),
                                                            .outer = peer,
                                                            .proxy = proxy,
                                                            .plain_http = arrival.plain_http || !tls_,
                                                            .deadline = shard_->loop().now() + kLoginDeadline,
                                                            .said = {}});
  Doorstep& started = *doorstep;
  doorsteps_[&started] = std::move(doorstep);
  started.start();
}

bool Door::trusts(const IpAddress& proxy) const {
  return std::ranges::any_of(settings_->proxies, [&](const Prefix& prefix) { return prefix.contains(proxy); });
}

void Door::begin_handshake(Doorstep& doorstep, Visitor visitor) {
  remove(doorstep);
  auto handshake = std::make_unique<Handshake>(*this, std::move(visitor));
  Handshake& started = *handshake;
  handshakes_[&started] = std::move(handshake);
  started.start();
}

// On the loop of the handshake: sends the connection to the shard of its session.
void Door::admit(std::unique_ptr<transport::Connection> connection, session::Admission admission, Peer peer) {
  connection->detach();
  Door* door = doors_[admission.port.shard];
  door->shard_->loop().post(
      [door, connection = std::move(connection), admission = std::move(admission), peer = std::move(peer)]() mutable {
        auto link = std::make_unique<Link>(*door, std::move(connection), std::move(admission), std::move(peer));
        Link& started = *link;
        door->links_[&started] = std::move(link);
        started.start();
        if (door->stopping_) started.say_goodbye();
      });
}

void Door::abandon(session::Admission admission) {
  Door* door = doors_[admission.port.shard];
  door->shard_->loop().post([door, admission = std::move(admission)] {
    if (router::Session* session = door->shard_->session(admission.port))
      session->end_older_link(admission.attachment, admission.to_old_link);
    door->registry_->detached(admission.session, admission.attachment, "the client left during its login");
  });
}

void Door::stop() {
  stopping_ = true;
  doorsteps_.clear();
  handshakes_.clear();
  for (const auto& [link, owned] : links_) link->say_goodbye();
}

void Door::remove(Doorstep& doorstep) { doorsteps_.erase(&doorstep); }
void Door::remove(Handshake& handshake) { handshakes_.erase(&handshake); }
void Door::remove(Link& link) { links_.erase(&link); }

}  // namespace penstock::ingress
