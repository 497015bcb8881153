#include "gateway/listeners.h"

#include "gateway/core.h"
#include "net/tcp.h"
#include "net/unix_listener.h"

namespace penstock::gateway {

Listeners::Listeners() = default;
Listeners::~Listeners() = default;

Result<void> Listeners::open(EventLoop& loop, const ServerConfig::Server& server,
                             const net::CongestionControl& congestion_control) {
  for (const Endpoint& at : server.listen_addr) {
    PENSTOCK_TRY(auto listener, net::TcpListener::create(loop, at, congestion_control));
    std::string name = listener->local().to_string();
    opened_.push_back({.listener = std::move(listener), .name = std::move(name), .arrival = {}});
  }
  for (const HttpListen& at : server.listen_http) {
    if (at.address) {
      PENSTOCK_TRY(auto listener,
                   net::TcpListener::create(loop, *at.address, congestion_control, "server.listen_http"));
      std::string name = "http://" + listener->local().to_string();
      opened_.push_back({.listener = std::move(listener), .name = std::move(name), .arrival = {.plain_http = true}});
    } else {
      PENSTOCK_TRY(auto listener, net::UnixListener::create(loop, at.unix_path.string()));
      unix_.push_back(listener.get());
      opened_.push_back({.listener = std::move(listener),
                         .name = at.to_string(),
                         .arrival = {.plain_http = true, .trusted_proxy = true}});
    }
  }
  return {};
}

Result<void> Listeners::give_to(unsigned user_id, unsigned group_id) {
  for (const net::UnixListener* listener : unix_) PENSTOCK_TRY_VOID(listener->give_to(user_id, group_id));
  return {};
}

void Listeners::accept_into(Core& core) {
  for (const Opened& opened : opened_) {
    opened.listener->on_accept([&core, arrival = opened.arrival](std::unique_ptr<net::StreamSocket> socket) {
      core.accept(std::move(socket), arrival);
    });
  }
}

void Listeners::stop() {
  for (const Opened& opened : opened_) opened.listener->stop_accepting();
}

std::uint64_t Listeners::shed() const {
  std::uint64_t sum = 0;
  for (const Opened& opened : opened_) sum += opened.listener->shed();
  return sum;
}

std::vector<std::string> Listeners::names() const {
  std::vector<std::string> names;
  for (const Opened& opened : opened_) names.push_back(opened.name);
  return names;
}

}  // namespace penstock::gateway
