// The operating system is the point here: real sockets, on loopback only.
#include "net/tcp.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "net/asio_loop.h"
#include "net/congestion_control.h"
#include "net/port_holder.h"
#include "net/process_info.h"
#include "net/resolver.h"
#include "net/socket_address.h"

namespace penstock::net {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

Endpoint at(const char* text) { return Endpoint::parse(text).value(); }

class TcpTest : public testing::Test {
 protected:
  TcpTest() {
    deadline_.start(seconds(20), [this] {
      ADD_FAILURE() << "nothing happened for 20 s";
      loop_.stop();
    });
  }

  // Runs the loop until `done()` holds.
  template <typename Condition>
  void run_until(Condition done) {
    std::function<void()> look = [&] {
      if (done()) return loop_.stop();
      look_again_.start(std::chrono::milliseconds(1), [&] { look(); });
    };
    loop_.post([&] { look(); });
    loop_.run();
    look_again_.cancel();
  }

  // A pair of joined sockets: [dialled, accepted].
  std::pair<std::unique_ptr<StreamSocket>, std::unique_ptr<StreamSocket>> connected(TcpListener& listener,
                                                                                    const Endpoint& to) {
    std::unique_ptr<StreamSocket> dialled;
    std::unique_ptr<StreamSocket> accepted;
    listener.on_accept([&](auto socket) { accepted = std::move(socket); });
    const auto attempt = factory_.connect(loop_, to, [&](auto socket) {
      ASSERT_TRUE(socket) << socket.error().message;
      dialled = std::move(*socket);
    });
    run_until([&] { return dialled && accepted; });
    return {std::move(dialled), std::move(accepted)};
  }

  AsioLoop loop_;
  Timer deadline_{loop_};
  Timer look_again_{loop_};
  TcpSocketFactory factory_;
};

TEST_F(TcpTest, BytesTravelBothWaysAndTheEndIsSeen) {
  const auto listener = TcpListener::create(loop_, at("127.0.0.1:0")).value();
  auto [client, server] = connected(*listener, listener->local());
  EXPECT_EQ(client->peer(), listener->local());
  EXPECT_EQ(server->peer(), client->local());

  std::array<std::uint8_t, 64> block{};
  EXPECT_EQ(server->read(block).value(), std::nullopt);
  EXPECT_EQ(client->write(as_bytes("hello")).value(), 5U);
  client->shutdown_write();
  std::string heard;
  bool ended = false;
  std::function<void()> read = [&] {
    for (;;) {
      const auto size = server->read(block).value();
      if (!size) return server->when_readable([&] { read(); });
      if (*size == 0) {
        ended = true;
        return;
      }
      heard += as_text(ByteView(block).first(*size));
    }
  };
  server->when_readable([&] { read(); });
  run_until([&] { return ended; });
  EXPECT_EQ(heard, "hello");
  EXPECT_TRUE(server->write(as_bytes("still open this way")));
}

TEST_F(TcpTest, AFullSocketBlocksAndBecomesWritableWhenThePeerReads) {
  const auto listener = TcpListener::create(loop_, at("127.0.0.1:0")).value();
  auto [client, server] = connected(*listener, listener->local());
  const std::vector<std::uint8_t> chunk(1 << 20, 'x');
  std::size_t written = 0;
  for (;;) {
    const auto size = client->write(chunk).value();
    if (!size) break;
    written += *size;
  }
  bool writable = false;
  client->when_writable([&] { writable = true; });
  std::size_t heard = 0;
  std::vector<std::uint8_t> block(1 << 20);
  std::function<void()> read = [&] {
    for (auto size = server->read(block).value(); size; size = server->read(block).value()) heard += *size;
    server->when_readable([&] { read(); });
  };
  server->when_readable([&] { read(); });
  run_until([&] { return writable && heard == written; });
  EXPECT_GT(written, 0U);
}

TEST_F(TcpTest, AResetIsARefusalThatNamesThePeer) {
  const auto listener = TcpListener::create(loop_, at("127.0.0.1:0")).value();
  auto [client, server] = connected(*listener, listener->local());
  ASSERT_TRUE(client->write(as_bytes("never read")));
  bool readable = false;
  server->when_readable([&] { readable = true; });
  run_until([&] { return readable; });
  readable = false;
  client->when_readable([&] { readable = true; });
  server.reset();  // with unread bytes: the system answers with a reset
  run_until([&] { return readable; });
  std::array<std::uint8_t, 64> block{};
  const auto result = client->read(block);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::closed);
  EXPECT_THAT(result.error().message, HasSubstr(client->peer().to_string()));
  EXPECT_FALSE(client->write(as_bytes("x"))) << "and no SIGPIPE";
}

TEST_F(TcpTest, ASocketMovesToTheLoopOfAnotherThread) {
  const auto listener = TcpListener::create(loop_, at("127.0.0.1:0")).value();
  auto [client, server] = connected(*listener, listener->local());
  server->when_readable([] { FAIL() << "forgotten by detach()"; });
  server->detach();

  std::string heard;
  std::thread other([&heard, moved = std::move(server)]() mutable {
    AsioLoop loop;
    moved->adopt(loop);
    moved->when_readable([&] {
      std::array<std::uint8_t, 64> block{};
      heard = as_text(ByteView(block).first(moved->read(block).value().value()));
      loop.stop();
    });
    loop.run();
    moved.reset();
  });
  ASSERT_TRUE(client->write(as_bytes("over there")));
  other.join();
  EXPECT_EQ(heard, "over there");
}

TEST_F(TcpTest, TheUnspecifiedAddressTakesBothFamiliesAndShowsIpv4AsIpv4) {
  const auto listener = TcpListener::create(loop_, at(":0")).value();
  const std::uint16_t port = listener->local().port;
  auto [client4, server4] = connected(*listener, {IpAddress::parse("127.0.0.1").value(), port});
  EXPECT_EQ(server4->peer(), client4->local());
  EXPECT_TRUE(server4->peer().address.is_v4());
  if (listener->local().address.is_v4()) GTEST_SKIP() << "no IPv6 on this machine";
  auto [client6, server6] = connected(*listener, {IpAddress::parse("::1").value(), port});
  EXPECT_EQ(server6->peer(), client6->local());
  EXPECT_EQ(listener->accepted(), 2U);
}

TEST_F(TcpTest, AcceptedSocketsDoNotDelayAreNonBlockingAndCloseOnExec) {
  const auto listener = TcpListener::create(loop_, at("127.0.0.1:0")).value();
  const FileDescriptor dialled(::socket(AF_INET, SOCK_STREAM, 0));
  auto [client, server] = connected(*listener, listener->local());
  // The two newest descriptors are theirs; ask the system about each TCP socket this process has open.
  int streams = 0;
  for (int fd = dialled.get() + 1; fd < dialled.get() + 16; ++fd) {
    int no_delay = 0;
    socklen_t size = sizeof no_delay;
    if (::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size) != 0) continue;
    ++streams;
    EXPECT_NE(no_delay, 0);
    EXPECT_NE(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  }
  EXPECT_EQ(streams, 2);
}

// The socket of this process that is joined with `peer`.
int socket_towards(const Endpoint& peer) {
  for (int fd = 3; fd < 1024; ++fd) {
    if (const auto there = peer_endpoint(fd); there.port == peer.port && there.address == peer.address) return fd;
  }
  return -1;
}

std::string congestion_control_towards(const Endpoint& peer) {
  return congestion_control_of(socket_towards(peer)).data();
}

TEST_F(TcpTest, BothEndsHaveTheCongestionControlThatIsAskedFor) {
  factory_ = TcpSocketFactory({.mark = 0, .congestion_control = CongestionControl::always("reno")});
  const auto listener = TcpListener::create(loop_, at("127.0.0.1:0"), CongestionControl::always("reno")).value();
  auto [client, server] = connected(*listener, listener->local());
  EXPECT_EQ(congestion_control_towards(client->peer()), "reno");
  EXPECT_EQ(congestion_control_towards(server->peer()), "reno");
}

TEST_F(TcpTest, AWayThatIsMeasuredToBeLongGetsItsOwnCongestionControl) {
  const FileDescriptor another(::socket(AF_INET, SOCK_STREAM, IPPROTO_TCP));
  const std::string system = congestion_control_of(another.get()).data();
  if (system == "reno") GTEST_SKIP() << "this system has no other than reno";
  const auto listener =
      TcpListener::create(loop_, at("127.0.0.1:0"), CongestionControl::for_long_ways(system, Duration::zero(), {}))
          .value();
  auto [client, server] = connected(*listener, listener->local());
  for (const Endpoint& peer : {client->peer(), server->peer()})
    CongestionControl::always("reno").begin(socket_towards(peer));  // as if that were the system's
  ASSERT_TRUE(client->way());
  ASSERT_TRUE(server->way());
  EXPECT_EQ(congestion_control_towards(server->peer()), system);
  EXPECT_EQ(congestion_control_towards(client->peer()), "reno") << "that end was given no choice";
}

TEST_F(TcpTest, APortInUseNamesTheProcessThatHoldsIt) {
  const auto holder = TcpListener::create(loop_, at("127.0.0.1:0")).value();
  const std::string port = std::to_string(holder->local().port);
  for (const std::string& wanted : {"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port}) {
    const auto refused = TcpListener::create(loop_, at(wanted.c_str()));
    ASSERT_FALSE(refused) << wanted;
    EXPECT_EQ(refused.error().code, ErrorCode::address_in_use);
    EXPECT_EQ(refused.error().message, "port " + port + " is in use by net_test (pid " + std::to_string(::getpid()) +
                                           "): stop it or set server.listen_addr to another port");
  }
  const auto metrics = TcpListener::create(loop_, holder->local(), {}, "metrics.listen_addr");
  EXPECT_THAT(metrics.error().message, HasSubstr("set metrics.listen_addr"));
}

TEST_F(TcpTest, APortThatWasListenedOnCanBeTakenAgainAtOnce) {
  auto listener = TcpListener::create(loop_, at("127.0.0.1:0")).value();
  const Endpoint where = listener->local();
  auto [client, server] = connected(*listener, where);
  server.reset();  // our side closes first and rests in TIME_WAIT
  listener->stop_accepting();
  EXPECT_FALSE(find_port_holder(where));
  const auto again = TcpListener::create(loop_, where);
  EXPECT_TRUE(again) << again.error().message;
}

TEST_F(TcpTest, ALowPortWithoutPrivilegeSaysWhatIsMissing) {
  // In a child, for privilege cannot be taken up again.
  const auto as_nobody = [&] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) std::exit(2);
    const auto refused = TcpListener::create(loop_, at("127.0.0.1:1"));
    std::fputs(refused ? "port 1 is free for everybody here" : refused.error().message.c_str(), stderr);
    std::exit(0);
  };
  EXPECT_EXIT(as_nobody(), testing::ExitedWithCode(0),
              "CAP_NET_BIND_SERVICE: .* or set server.listen_addr to another port above 1023|free for everybody");
}

TEST_F(TcpTest, AnAddressOfAnotherMachineIsRefusedInWords) {
  const auto refused = TcpListener::create(loop_, at("192.0.2.1:4443"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("this machine has no address 192.0.2.1"));
}

TEST_F(TcpTest, WithoutDescriptorsTheListenerShedsRestsAndGoesOn) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "UBSan's check of virtual calls needs a descriptor of its own";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
  GTEST_SKIP() << "UBSan's check of virtual calls needs a descriptor of its own";
#endif
#endif
  const auto listener = TcpListener::create(loop_, at("127.0.0.1:0")).value();
  std::vector<std::unique_ptr<StreamSocket>> accepted;
  listener->on_accept([&](auto socket) { accepted.push_back(std::move(socket)); });

  // The clients exist before the limit falls.
  constexpr std::size_t kClients = 3;
  std::vector<FileDescriptor> clients;
  clients.reserve(kClients);
  for (std::size_t i = 0; i < kClients; ++i) clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(listener->local().port);
  for (const FileDescriptor& client : clients) {
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  }

  const log::Capture log;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(clients.back().get()) + 1;
  // Descriptors below the limit that are free would still be given out.
  std::vector<FileDescriptor> plugs;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  for (FileDescriptor plug(::dup(0)); plug; plug = FileDescriptor(::dup(0))) plugs.push_back(std::move(plug));

  run_until([&] { return listener->shed() >= 1; });
  EXPECT_TRUE(accepted.empty());
  EXPECT_TRUE(log.contains("raise the limit of open files"));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  run_until([&] { return accepted.size() + listener->shed() == kClients; });
  EXPECT_GE(accepted.size(), 1U);
}

TEST_F(TcpTest, StopAcceptingWorksFromItsOwnCallbackAndRefusesTheNext) {
  const auto listener = TcpListener::create(loop_, at("127.0.0.1:0")).value();
  const Endpoint where = listener->local();
  std::unique_ptr<StreamSocket> accepted;
  listener->on_accept([&](auto socket) {
    accepted = std::move(socket);
    listener->stop_accepting();
  });
  std::unique_ptr<StreamSocket> client;
  const auto attempt = factory_.connect(loop_, where, [&](auto socket) { client = std::move(*socket); });
  run_until([&] { return accepted && client; });
  EXPECT_TRUE(accepted->write(as_bytes("lives on")));

  std::string reason;
  const auto refused = factory_.connect(loop_, where, [&](auto socket) {
    if (!socket) reason = std::move(socket).error().message;
  });
  EXPECT_EQ(reason, "") << "never inside connect()";
  run_until([&] { return !reason.empty(); });
  EXPECT_EQ(reason, "Connection refused");
}

TEST_F(TcpTest, AnAbandonedAttemptNeverCallsBack) {
  const auto listener = TcpListener::create(loop_, at("127.0.0.1:0")).value();
  bool called = false;
  std::unique_ptr<StreamSocket> accepted;
  listener->on_accept([&](auto socket) { accepted = std::move(socket); });
  factory_.connect(loop_, listener->local(), [&](auto) { called = true; }).reset();
  Timer patience(loop_);
  bool waited = false;
  patience.start(std::chrono::milliseconds(20), [&] { waited = true; });
  run_until([&] { return waited; });
  EXPECT_FALSE(called);
}

// connect_test.cc in earnest: with the system's sockets and names.
TEST(Connector, ReachesARealListenerByName) {
  AsioLoop loop;
  const auto listener = TcpListener::create(loop, Endpoint::parse(":0").value()).value();
  SystemResolver resolver(loop);
  TcpSocketFactory sockets;
  Connector connector(loop, resolver, sockets);
  std::optional<Result<std::unique_ptr<StreamSocket>>> result;
  connector.connect("localhost", listener->local().port, seconds(20), [&](auto connected) {
    result = std::move(connected);
    loop.stop();
  });
  loop.run();
  ASSERT_TRUE(*result) << result->error().message;
  EXPECT_EQ((**result)->peer().port, listener->local().port);
}

}  // namespace
}  // namespace penstock::net
