#include "egress/tcp/tcp_terminator.h"

#include <gtest/gtest.h>

#include "egress/tcp/fake_streams_testing.h"
#include "packet/super_packet.h"
#include "packet/tcp_segment.h"
#include "test/support/manual_loop.h"

namespace penstock::egress {
namespace {

using std::chrono::seconds;
using testing::FakeStreams;

class TcpTerminatorTest : public ::testing::Test, public TcpTerminator::Clients {
 protected:
  TcpTerminatorTest() { streams_.set_events(terminator_.events()); }

  void to_clients(PacketBatch& batch) override {
    for (Packet& packet : batch) got_.push_back(std::move(packet));
    batch.clear();
  }
  std::size_t credit(const Endpoint&) override { return SIZE_MAX; }
  router::PortId wait_for_credit(const Endpoint&, router::CreditWaiter&) override { return {}; }
  void cancel_wait(router::PortId, router::CreditWaiter&) override {}
  void closed(const TcpEnds&) override { ++closed_; }

  void send(std::uint8_t flags, std::uint32_t sequence, std::uint32_t acknowledgement, std::string_view payload = {}) {
    TcpHeader header{.from = ends_.client,
                     .to = ends_.server,
                     .sequence = 1000 + sequence,
                     .acknowledgement = acknowledgement,
                     .flags = flags,
                     .window = 0xFFFF,
                     .options = {}};
    if ((flags & kTcpSyn) != 0) {
      header.options.mss = 1460;
      header.options.sack_permitted = true;
      header.options.window_scale = 7;
    }
    const std::size_t headers = tcp_headers_size(header);
    Packet packet = Packet::with_size(headers + payload.size());
    std::ranges::copy(payload, packet.mutable_bytes().begin() + static_cast<std::ptrdiff_t>(headers));
    write_tcp_headers(packet, header, 1460);
    const IpView view = parse_ip(std::as_const(packet).bytes()).value();
    terminator_.from_client(std::move(packet), view);
    terminator_.flush();
  }
  TcpView last() const {
    const ByteView bytes = got_.back().bytes();
    return parse_tcp(bytes, parse_ip(bytes).value()).value();
  }
  void connect() {
    send(kTcpSyn, 0, 0);
    loop_.run_until_idle();
    streams_.accept(streams_.last());
    loop_.run_until_idle();
    iss_ = last().sequence;
    send(kTcpAck, 1, iss_ + 1);
  }

  test::ManualLoop loop_;
  SeededRandom random_{1};
  FakeStreams streams_{loop_};
  TcpTerminator terminator_{loop_, random_, {}, streams_, *this};
  TcpEnds ends_{{IpAddress::parse("10.0.0.1").value(), 40000}, {IpAddress::parse("192.0.2.1").value(), 80}};
  PacketBatch got_;
  std::size_t closed_ = 0;
  std::uint32_t iss_ = 0;
};

TEST_F(TcpTerminatorTest, NothingIsSaidBeforeTheServerIsThere) {
  send(kTcpSyn, 0, 0);
  loop_.run_until_idle();
  EXPECT_TRUE(got_.empty());
  streams_.accept(1);
  loop_.run_until_idle();
  ASSERT_EQ(got_.size(), 1U);
  EXPECT_EQ(last().flags, kTcpSyn | kTcpAck);
  EXPECT_EQ(last().acknowledgement, 1001U);
}

TEST_F(TcpTerminatorTest, BytesGoBothWaysAndTheEndToo) {
  connect();
  send(kTcpAck | kTcpPsh, 1, iss_ + 1, "hello");
  EXPECT_EQ(std::string(streams_.at(1).heard.begin(), streams_.at(1).heard.end()), "hello");
  const std::string answer = "world";
  streams_.say(1, ByteView(reinterpret_cast<const std::uint8_t*>(answer.data()), answer.size()));
  loop_.run_until_idle();
  EXPECT_EQ(last().payload_size, 5U);
  EXPECT_EQ(last().acknowledgement, 1006U);
  EXPECT_EQ(streams_.at(1).inbox.size(), 5U);
  send(kTcpAck | kTcpFin, 6, iss_ + 6);
  EXPECT_TRUE(streams_.at(1).inbox.empty());
  EXPECT_TRUE(streams_.at(1).ended);
  streams_.end_of_server(1);
  loop_.run_until_idle();
  EXPECT_EQ(last().flags & kTcpFin, kTcpFin);
  send(kTcpAck, 7, iss_ + 7);
  EXPECT_EQ(terminator_.connections(), 0U);
  EXPECT_EQ(terminator_.timers(), 0U);
  EXPECT_EQ(closed_, 1U);
  EXPECT_TRUE(streams_.open.empty());
}

TEST_F(TcpTerminatorTest, ALargeAnswerTravelsInSuperPackets) {
  connect();
  const std::vector<std::uint8_t> much(40'000, 7);
  streams_.say(1, much);
  loop_.run_until_idle();
  const Packet& packet = got_.back();
  EXPECT_EQ(packet.offload.gso, Offload::Gso::tcp4);
  EXPECT_EQ(packet.offload.segment_size, 1460);
  EXPECT_TRUE(check_offload(packet.bytes(), parse_ip(packet.bytes()).value(), packet.offload));
  EXPECT_EQ(last().payload_size, 40'000U);
}

TEST_F(TcpTerminatorTest, AnIdleConnectionTakesLittleMemory) {
  const std::size_t before = terminator_.memory();
  connect();
  EXPECT_LT(terminator_.memory() - before, 1500U);
}

}  // namespace
}  // namespace penstock::egress
