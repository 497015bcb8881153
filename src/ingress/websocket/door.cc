#include "ingress/websocket/door.h"

#include "ingress/websocket/handshake.h"
#include "ingress/websocket/link.h"

namespace penstock::ingress {

Door::Door(router::Shard& shard, session::Registry& registry, Random& random,
           std::shared_ptr<const DoorSettings> settings)
    : shard_(&shard), registry_(&registry), random_(&random), settings_(std::move(settings)), doors_{this} {}

Door::~Door() = default;

void Door::welcome(std::unique_ptr<net::StreamSocket> socket) {
  if (stopping_) return;
  socket->adopt(shard_->loop());
  auto channel =
      transport::Channel::server(tls_ ? tls_->new_engine() : nullptr, settings_->path, kMaxControlMessage, *random_);
  auto handshake = std::make_unique<Handshake>(*this, std::move(socket), std::move(channel));
  Handshake& started = *handshake;
  handshakes_[&started] = std::move(handshake);
  started.start();
}

// On the loop of the handshake: sends the connection to the shard of its session.
void Door::admit(std::unique_ptr<transport::Connection> connection, session::Admission admission,
                 std::string software) {
  connection->detach();
  Door* door = doors_[admission.port.shard];
  door->shard_->loop().post([door, connection = std::move(connection), admission = std::move(admission),
                             software = std::move(software)]() mutable {
    auto link = std::make_unique<Link>(*door, std::move(connection), std::move(admission), std::move(software));
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
  handshakes_.clear();
  for (const auto& [link, owned] : links_) link->say_goodbye();
}

void Door::remove(Handshake& handshake) { handshakes_.erase(&handshake); }
void Door::remove(Link& link) { links_.erase(&link); }

}  // namespace penstock::ingress
