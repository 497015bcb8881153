#include "client/core/dialler.h"

#include <array>
#include <utility>

#include "base/units.h"

namespace penstock::client {

Dialler::Dialler(EventLoop& loop, net::Resolver& resolver, net::SocketFactory& sockets)
    : loop_(loop), connector_(loop, resolver, sockets), deadline_(loop) {}

void Dialler::cancel() {
  connector_.cancel();
  deadline_.cancel();
  socket_.reset();
  exchange_.reset();
  done_ = {};
}

void Dialler::connect(const GatewayUrl& gateway, const std::optional<ProxyChoice>& proxy, Duration within, Done done) {
  cancel();
  if (!proxy) return connector_.connect(gateway.host, gateway.port, within, std::move(done));
  done_ = std::move(done);
  within_ = within;
  deadline_at_ = loop_.now() + within;
  exchange_.emplace(*proxy, gateway.host, gateway.port);
  connector_.connect(proxy->url.host, proxy->url.port, within,
                     [this](Result<std::unique_ptr<net::StreamSocket>> socket) {
                       if (socket) return ask(std::move(*socket));
                       finish(fail(socket.error().code, exchange_->proxy_name() + ": " + socket.error().message));
                     });
}

void Dialler::ask(std::unique_ptr<net::StreamSocket> socket) {
  socket_ = std::move(socket);
  deadline_.start_at(deadline_at_, [this] {
    finish(fail(ErrorCode::timed_out,
                exchange_->proxy_name() + " took the connection but did not answer CONNECT within " +
                    duration_to_string(std::chrono::duration_cast<std::chrono::milliseconds>(within_))));
  });
  socket_->when_readable([this] { receive(); });
  send();
}

void Dialler::send() {
  ByteQueue& output = exchange_->output();
  while (!output.empty()) {
    const auto wrote = socket_->write(output.view());
    if (!wrote) return finish(fail(wrote.error().code, exchange_->proxy_name() + ": " + wrote.error().message));
    if (!*wrote) return socket_->when_writable([this] { send(); });
    output.consume(**wrote);
  }
}

void Dialler::receive() {
  // Somebody who answers without end is cut off by the parser's bounds, not by this.
  std::array<std::uint8_t, 2048> block{};
  while (true) {
    const auto got = socket_->read(block);
    if (!got) return finish(fail(got.error().code, exchange_->proxy_name() + ": " + got.error().message));
    if (!*got) return socket_->when_readable([this] { receive(); });
    if (**got == 0) {
      return finish(fail(ErrorCode::closed, exchange_->proxy_name() + " closed the connection without an answer"));
    }
    const auto progress = exchange_->receive({block.data(), **got});
    if (!progress) return finish(std::unexpected(progress.error()));
    if (*progress == ConnectExchange::Progress::open) return finish(std::move(socket_));
  }
}

void Dialler::finish(Result<std::unique_ptr<net::StreamSocket>> result) {
  Done done = std::move(done_);
  cancel();
  done(std::move(result));  // may destroy this Dialler
}

}  // namespace penstock::client
