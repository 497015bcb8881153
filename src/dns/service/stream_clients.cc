#include "dns/service/stream_clients.h"

#include <array>
#include <utility>
#include <vector>

#include "dns/stream_framing.h"

namespace penstock::dns {
namespace {

constexpr std::size_t kBlock = 4096;

}  // namespace

struct StreamClients::Connection {
  Connection(EventLoop& loop, std::uint64_t client, std::uint64_t stream, std::unique_ptr<net::StreamSocket> accepted)
      : socket(std::move(accepted)),
        key{.client = client, .from = socket->peer(), .stream = stream, .to = socket->local()},
        idle(loop) {}

  bool rests() const { return waiting >= kMaxWaiting || out.size() >= kMaxUnsent; }

  std::unique_ptr<net::StreamSocket> socket;
  const ClientKey key;
  StreamFraming framing{kMaxQuery};
  ByteQueue out;
  std::size_t waiting = 0;
  bool reading = false;  // a readable socket is waited for
  bool writing = false;  // a writable one
  bool taking = false;   // inside take_queries()
  bool more = false;     // queries may have come that are not taken
  bool ended = false;    // the peer has said all
  Timer idle;
};

StreamClients::StreamClients(EventLoop& loop, const Limits& limits, Events events)
    : loop_(&loop), limits_(limits), events_(std::move(events)) {}

StreamClients::~StreamClients() = default;

StreamClients::Connection* StreamClients::find(std::uint64_t stream) {
  const auto found = connections_.find(stream);
  return found == connections_.end() ? nullptr : found->second.get();
}

void StreamClients::add(std::unique_ptr<net::StreamSocket> socket, std::uint64_t client) {
  const auto others = of_client_.find(client);
  if (connections_.size() >= limits_.connections ||
      (others != of_client_.end() ? others->second : 0) >= limits_.of_client) {
    ++counters_.too_many;
    return;
  }
  ++counters_.accepted;
  ++of_client_[client];
  auto made = std::make_unique<Connection>(*loop_, client, ++last_, std::move(socket));
  Connection& connection = *made;
  connections_.emplace(last_, std::move(made));
  start_idle(connection);
  go_on(connection);
}

void StreamClients::start_idle(Connection& connection) {
  connection.idle.start(limits_.idle, [this, stream = connection.key.stream] {
    ++counters_.idle;
    close(stream);
  });
}

void StreamClients::on_readable(std::uint64_t stream) {
  Connection& connection = *find(stream);
  connection.reading = false;
  std::array<std::uint8_t, kBlock> block;
  const auto size = connection.socket->read(block);
  if (!size) return break_off(connection);
  if (*size && **size == 0) connection.ended = true;
  if (*size) connection.framing.append(ByteView(block).first(**size));
  go_on(connection);
}

void StreamClients::go_on(Connection& connection) {
  do {
    take_queries(connection);
    if (connection.framing.broken() || !flush(connection)) return break_off(connection);
    // An answer goes on, or a socket that can be written to.
    if (connection.rests()) return;
  } while (connection.more);
  if (connection.ended) {
    if (connection.waiting == 0 && connection.out.empty()) close(connection.key.stream);
    return;
  }
  if (std::exchange(connection.reading, true)) return;
  connection.socket->when_readable([this, stream = connection.key.stream] { on_readable(stream); });
}

void StreamClients::take_queries(Connection& connection) {
  connection.taking = true;
  connection.more = true;
  while (connection.more && !connection.rests()) {
    const auto query = connection.framing.next();
    connection.more = query.has_value();
    if (!query) break;
    start_idle(connection);
    ++connection.waiting;
    // The answer may come at once: it is kept until all are taken, for writing it could close the connection.
    if (!events_.on_query(connection.key, *query)) --connection.waiting;
  }
  connection.taking = false;
}

void StreamClients::answer(std::uint64_t stream, ByteView message) {
  Connection* const connection = find(stream);
  if (connection == nullptr) return;
  PENSTOCK_ASSERT(connection->waiting > 0);
  --connection->waiting;
  std::vector<std::uint8_t> framed;
  StreamFraming::frame(message, framed);
  connection->out.append(framed);
  if (!connection->taking) go_on(*connection);
}

// False where the socket is broken, or its peer fetches nothing.
bool StreamClients::flush(Connection& connection) {
  if (connection.out.empty()) return true;
  while (!connection.out.empty() && !connection.writing) {
    const auto size = connection.socket->write(connection.out.view());
    if (!size) return false;
    if (*size) {
      connection.out.consume(**size);
      continue;
    }
    connection.writing = true;
    connection.socket->when_writable([this, stream = connection.key.stream] {
      Connection& writable = *find(stream);
      writable.writing = false;
      go_on(writable);
    });
  }
  if (connection.out.empty()) {
    connection.out.release();
    start_idle(connection);
  }
  return connection.out.size() <= kMaxHeld;
}

void StreamClients::break_off(Connection& connection) {
  ++counters_.broken;
  close(connection.key.stream);
}

void StreamClients::forget(std::uint64_t client) {
  std::vector<std::uint64_t> gone;
  for (const auto& [stream, connection] : connections_)
    if (connection->key.client == client) gone.push_back(stream);
  for (const std::uint64_t stream : gone) close(stream);
}

void StreamClients::close(std::uint64_t stream) {
  // Gone from the books first, and the socket last.
  const auto node = connections_.extract(stream);
  const auto others = of_client_.find(node.mapped()->key.client);
  if (--others->second == 0) of_client_.erase(others);
  events_.on_closed(stream);
}

}  // namespace penstock::dns
