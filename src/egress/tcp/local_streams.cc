#include "egress/tcp/local_streams.h"

#include <sys/socket.h>

#include <array>
#include <utility>

namespace penstock::egress {

Result<std::unique_ptr<LocalStreams>> LocalStreams::create(EventLoop& loop, std::size_t most_streams, Serve serve) {
  SocketStreams::Settings settings;
  settings.most_streams = most_streams;
  PENSTOCK_TRY(auto streams, SocketStreams::create(loop, settings));
  return std::unique_ptr<LocalStreams>(new LocalStreams(std::move(streams), most_streams, std::move(serve)));
}

std::expected<HostStreams::Stream, StreamError> LocalStreams::connect(const Endpoint& from, const Endpoint& to,
                                                                      std::uint64_t cookie) {
  std::array<int, 2> pair{};
  if (streams_->streams() >= most_streams_ ||
      ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return std::unexpected(StreamError::exhausted);
  net::FileDescriptor ours(pair[0]);
  if (!serve_(net::FileDescriptor(pair[1]), from, to)) return std::unexpected(StreamError::refused);
  const Stream stream = ours.release();
  streams_->adopt(stream, cookie);
  return stream;
}

}  // namespace penstock::egress
