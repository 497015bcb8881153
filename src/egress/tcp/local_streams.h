// Streams to services of this process: what connects here is one end of a pair of Unix sockets, and the service has the
// other. So a service of the gateway is spoken to as if it had a port of the system, where there is no such port
// (vpn.tun: off).
//
//   TcpTerminator --connect()--> [ pair ] --Serve--> the service of that port; none: refused
//
// Threads     its loop's.
// Ownership   as SocketStreams, which does the rest.
#pragma once

#include <functional>
#include <memory>

#include "egress/tcp/socket_streams.h"

namespace penstock::egress {

class LocalStreams final : public HostStreams {
 public:
  // Gets the other end, of a client at `from` that connected to `to`. False: there is no such service, or it has
  // enough.
  using Serve = std::function<bool(net::FileDescriptor stream, const Endpoint& from, const Endpoint& to)>;

  // Refusal: exhausted, no descriptor.
  static Result<std::unique_ptr<LocalStreams>> create(EventLoop& loop, std::size_t most_streams, Serve serve);

  void set_events(Events& events) { streams_->set_events(events); }

  std::expected<Stream, StreamError> connect(const Endpoint& from, const Endpoint& to, std::uint64_t cookie) override;
  void adopt(Stream stream, std::uint64_t cookie) override { streams_->adopt(stream, cookie); }
  StreamError error(Stream stream) override { return streams_->error(stream); }
  Peeked peek(Stream stream, std::size_t offset, std::span<const MutableByteView> into) override {
    return streams_->peek(stream, offset, into);
  }
  void consume(Stream stream, std::size_t bytes) override { streams_->consume(stream, bytes); }
  Written write(Stream stream, std::span<const ByteView> bytes) override { return streams_->write(stream, bytes); }
  void widen(Stream stream, std::size_t bytes) override { streams_->widen(stream, bytes); }
  void end(Stream stream) override { streams_->end(stream); }
  void close(Stream stream, bool abort) override { streams_->close(stream, abort); }

 private:
  LocalStreams(std::unique_ptr<SocketStreams> streams, std::size_t most_streams, Serve serve)
      : streams_(std::move(streams)), most_streams_(most_streams), serve_(std::move(serve)) {}

  std::unique_ptr<SocketStreams> streams_;
  std::size_t most_streams_;
  Serve serve_;
};

}  // namespace penstock::egress
