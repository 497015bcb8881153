#include "bench/swarm/member.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <variant>

#include "bench/swarm/swarm.h"
#include "net/socket_address.h"
#include "net/tcp.h"
#include "protocol/messages.h"

namespace penstock::bench {

bool Member::connect(const IpAddress& source, const Endpoint& gateway) {
  const net::SocketAddress from({source, 0});
  const net::SocketAddress to(gateway);
  net::FileDescriptor fd(::socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd || ::bind(fd.get(), from.get(), from.size) != 0) return false;
  // While it is being made the socket just is not writable yet.
  if (::connect(fd.get(), to.get(), to.size) != 0 && errno != EINPROGRESS) return false;

  const Settings& settings = swarm_->settings();
  auto channel = transport::Channel::client(swarm_->tls().new_engine(gateway.address.to_string()), gateway.to_string(),
                                            settings.path, kMaxMessage, swarm_->random());
  connection_ = std::make_unique<transport::Connection>(swarm_->loop(), swarm_->buffer(),
                                                        std::make_unique<net::TcpSocket>(swarm_->loop(), std::move(fd)),
                                                        std::move(channel), settings.timing, *this);
  connection_->start();
  return true;
}

void Member::on_open() {
  connection_->send_text(
      protocol::to_json(protocol::Auth{.token = swarm_->settings().token, .client = swarm_->settings().software}));
}

void Member::on_text(std::string_view text) {
  auto message = protocol::parse_control(text);
  const auto* response = message ? std::get_if<protocol::AuthResponse>(&*message) : nullptr;
  if (response == nullptr || ready_) return;
  if (!response->success) return connection_->close(kNormalClosure, response->error);
  address_ = response->assigned_ip;
  ready_ = true;
  swarm_->joined(*this);
}

std::size_t Member::on_binary(MaskedView bytes) {
  swarm_->arrived(*this, bytes.bytes());
  return 1;
}
void Member::on_turn_end() { swarm_->turn_ended(); }

void Member::on_closed(const transport::Ending& ending) {
  const std::string reason = ending.error.message;  // goes with the connection
  connection_.reset();
  swarm_->left(*this, reason);
}

void Member::queue(Packet packet) {
  if (queued_.empty()) swarm_->has_queued(*this);
  queued_.push_back(std::move(packet));
}

void Member::send_queued() {
  if (connection_) connection_->send_packets(queued_, {});
  queued_.clear();
}

}  // namespace penstock::bench
