#include "ingress/websocket/doorstep.h"

#include <utility>

#include "base/log.h"
#include "ingress/websocket/warnings.h"
#include "session/outer.h"

namespace penstock::ingress {
namespace {

// Whether the client's first message of TLS is here (RFC 8446 sections 4 and 5.1: a record's header of 5 bytes, and in
// it a message's of 4). What is no TLS at all is for the engine to explain. Refusal: more than a client has to say.
Result<bool> has_client_hello(ByteView said) {
  constexpr std::uint8_t kHandshakeRecord = 22;
  constexpr std::size_t kRecordHeader = 5;
  constexpr std::size_t kMessageHeader = 4;
  if (said.empty()) return false;
  if (said[0] != kHandshakeRecord) return true;
  if (said.size() < kRecordHeader + kMessageHeader) return false;
  const std::size_t record = load_be16(&said[3]);
  const std::size_t message = load_be32(&said[kRecordHeader]) & 0xFFFFFF;
  // A message header cut in two is legal, and done by nobody who means well.
  if (record < kMessageHeader || record > Doorstep::kMaxClientHello + kMessageHeader ||
      message > Doorstep::kMaxClientHello)
    return fail(ErrorCode::protocol_error, "a ClientHello of " + std::to_string(message) +
                                               " bytes in a first record of " + std::to_string(record));
  return said.size() >= kRecordHeader + record;
}

}  // namespace

void Doorstep::start() {
  visitor_.ticket.on_evicted([this] { leave("it made room for a newer one"); });
  deadline_.start_at(visitor_.deadline, [this] {
    door_->limiter_->count(Limit::login_timeout);
    leave("it did not begin in time");
  });
  if (visitor_.proxy) proxy_header_ = std::make_unique<ProxyHeaderParser>();
  listen();
}

void Doorstep::listen() {
  visitor_.socket->when_readable([this] { read(); });
}

void Doorstep::read() {
  ByteQueue& said = visitor_.said;
  std::uint8_t* const buffer = door_->buffer_.bytes.get();
  const auto got = visitor_.socket->read({buffer, kMostSaid - said.size()});
  if (!got) return leave(got.error().message);
  if (!*got) return listen();
  if (**got == 0) return leave("the peer closed the connection");
  said.append({buffer, **got});
  const auto begun = has_begun();
  if (!begun) return leave(begun.error().message);
  if (*begun) {
    visitor_.ticket.has_spoken();
    return door_->begin_handshake(*this, std::move(visitor_));
  }
  PENSTOCK_ASSERT(said.size() < kMostSaid);
  listen();
}

Result<bool> Doorstep::has_begun() {
  if (proxy_header_) {
    auto progress = proxy_header_->next(visitor_.said);
    if (!progress) return std::unexpected(refuse_proxy(std::move(progress).error()));
    if (*progress == ProxyHeaderParser::Progress::more) return false;
    if (const auto& header = proxy_header_->header()) PENSTOCK_TRY_VOID(meet_proxy(*header));
    proxy_header_.reset();
  }
  if (!visitor_.proxy) {
    const Opening opening = opening_of(visitor_.said.view());
    if (opening == Opening::undecided) return false;
    if (opening == Opening::proxy_header) {
      return std::unexpected(refuse_proxy({ErrorCode::protocol_error,
                                           "it sends a PROXY header and is not in server.proxies: if it is a proxy of "
                                           "yours, add " +
                                               visitor_.outer.address.unmapped().to_string() + " there"}));
    }
  }
  if (visitor_.plain_http) return !visitor_.said.empty();
  return has_client_hello(visitor_.said.view());
}

// Its client may be a proxy itself, which has its own say in the upgrade.
Result<void> Doorstep::meet_proxy(const ProxyHeader& header) {
  if (!header.client) return {};
  visitor_.outer = *header.client;
  visitor_.proxy = door_->trusts(visitor_.outer.address);
  if (visitor_.proxy) return {};
  if (const auto claimed = visitor_.ticket.claim(visitor_.outer.address); !claimed)
    return fail(ErrorCode::exhausted, std::string(to_string(claimed.error())));
  return {};
}

Error Doorstep::refuse_proxy(Error error) {
  door_->limiter_->count(Limit::proxy_header);
  if (door_->warnings_->proxies.lets_through(door_->shard_->loop().now()))
    log::warn("proxy refused", {{"proxy", session::outer_name(visitor_.outer)}, {"reason", error.message}});
  return error;
}

void Doorstep::leave(std::string_view reason) {
  log::debug("connection closed before it began", {{"outer", session::outer_name(visitor_.outer)}, {"reason", reason}});
  door_->remove(*this);
}

}  // namespace penstock::ingress
