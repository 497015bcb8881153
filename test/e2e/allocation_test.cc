// Once warm, a packet asks the allocator for nothing on all of its way: out of alice's tunnel, through her queue,
// batch, mask, TLS record and socket, the gateway's TLS, frames, router and bob's session, and the same down to bob's
// tunnel.
//
// Everything is counted, OpenSSL too, and nothing taken out: the fakes on the way (ManualLoop, MemorySocket,
// FakeTunnel) reuse their memory. A program of its own, because of what it replaces.
#include <gtest/gtest.h>
#include <openssl/crypto.h>

#include <cstdlib>
#include <new>
#include <ostream>

#include "base/log.h"
#include "packet/super_packet.h"
#include "test/support/allocations.h"
#include "test/support/network.h"
#include "tls/test_certificates.h"

namespace penstock {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::allocations_in;
using test::Network;
using test::TestClient;

constexpr const char* kServer = R"(
server: {tls_cert: unused, tls_key: unused}
vpn: {subnet: 10.100.0.0/24, tun: off}
auth: {tokens: [a-token, b-token]}
)";
constexpr const char* kAlice = "10.100.0.2";
constexpr const char* kBob = "10.100.0.3";

// Warming up takes until pings were sent; then there are more of them, and looks of the registry at its meters.
constexpr Duration kTurn = milliseconds(25);
constexpr int kTurns = 2000;
constexpr Duration kWarmUp = seconds(30);
constexpr int kWarmUpTurns = kWarmUp / kTurn;

// OpenSSL takes another allocator only before it has used its own, and nothing has when this is initialized.
const bool openssl_is_counted =
    !test::kAllocationsAreCounted || CRYPTO_set_mem_functions(
                                         [](std::size_t size, const char*, int) {
                                           test::count_allocation();
                                           return std::malloc(size);
                                         },
                                         [](void* memory, std::size_t size, const char*, int) {
                                           test::count_allocation();
                                           return std::realloc(memory, size);
                                         },
                                         [](void* memory, const char*, int) { std::free(memory); }) == 1;

// What alice's machine sends in a turn.
using Traffic = PacketBatch (*)();

PacketBatch small_packets() {
  PacketBatch batch;
  for (char flow = 0; flow < 20; ++flow) {
    std::string datagram(44, 'x');
    const std::string header{40, flow, 40, 1, 0, 44, 0, 0};
    batch.push_back(test::ip_packet(kAlice, kBob, datagram.replace(0, header.size(), header)));
  }
  return batch;
}

PacketBatch super_packets() {
  PacketBatch batch;
  for (int i = 0; i < 3; ++i) batch.push_back(test::super_packet(kAlice, kBob, 65000, 1300));
  return batch;
}

PacketBatch segments() {
  PacketBatch batch;
  segment(test::super_packet(kAlice, kBob, 65000, 1300), batch);
  return batch;
}

PacketBatch all_sizes() {
  PacketBatch batch;
  for (const Traffic some : {small_packets, super_packets, segments})
    for (Packet& packet : some()) batch.push_back(std::move(packet));
  return batch;
}

struct Way {
  const char* name;
  Traffic traffic;
  int loops = 1;
  bool alice_is_plain = false;  // speaks plain v1
  bool bob_is_plain = false;
  test::MemorySocketOptions wire = {};
  friend std::ostream& operator<<(std::ostream& out, const Way& way) { return out << way.name; }
};

class AllocationTest : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (!test::kAllocationsAreCounted) GTEST_SKIP() << "a sanitizer has the allocator: they cannot be counted";
    const auto certificate = tls::make_test_certificate(directory_.path());
    net_.core->set_tls(tls::ServerContext::create(certificate.cert_path, certificate.key_path).value());
    net_.run();
    client_tls_ = tls::ClientContext::create({.pin = certificate.pin}).value();
  }

  TestClient& add_client(const std::string& token, bool plain) {
    TestClient& client = net_.make_client(token);
    client.tls = client_tls_;
    client.next_wire = GetParam().wire;
    client.tunnel.kinds = {Offload::Gso::tcp4, Offload::Gso::udp4};
    if (plain) client.config.server.protocol = ClientConfig::Protocol::v1;
    client.restart();
    client.client->start();
    net_.run();
    return client;
  }

  static std::size_t bytes_of(const PacketBatch& batch) {
    std::size_t bytes = 0;
    for (const Packet& packet : batch) bytes += segmented_size_of(packet);
    return bytes;
  }

  log::Capture logs_;
  tls::TestDirectory directory_;
  Network net_{kServer, GetParam().loops};
  std::shared_ptr<tls::ClientContext> client_tls_;
};

TEST_P(AllocationTest, AWarmWayFromOneTunnelToAnotherAllocatesNothing) {
  TestClient& alice = add_client("a-token", GetParam().alice_is_plain);
  TestClient& bob = add_client("b-token", GetParam().bob_is_plain);
  ASSERT_TRUE(alice.connected() && bob.connected());
  const PacketBatch traffic = GetParam().traffic();
  const Packet answer = test::ip_packet(kBob, kAlice, "an answer");
  const std::size_t bytes = bytes_of(traffic);

  int whole_turns = 0;
  const auto turns = [&](int count) {
    for (int i = 0; i < count; ++i) {
      for (const Packet& packet : traffic) alice.tunnel.inject(packet.clone());
      bob.tunnel.inject(answer.clone());
      net_.advance(kTurn);
      if (bytes_of(bob.tunnel.written) == bytes && alice.tunnel.written.size() == 1) ++whole_turns;
      bob.tunnel.written.clear();
      alice.tunnel.written.clear();
    }
  };
  turns(kWarmUpTurns);
  EXPECT_EQ(allocations_in([&] { turns(kTurns); }), 0U);
  EXPECT_EQ(whole_turns, kWarmUpTurns + kTurns) << "packets were lost: what was counted is not the whole way";
}

const Way ways[] = {
    {.name = "SmallPackets", .traffic = small_packets},
    {.name = "SuperPackets", .traffic = super_packets},
    {.name = "SuperPacketsToAPlainV1Client", .traffic = super_packets, .bob_is_plain = true},
    {.name = "BetweenPlainV1Clients", .traffic = segments, .alice_is_plain = true, .bob_is_plain = true},
    {.name = "AllSizes", .traffic = all_sizes},
    {.name = "AllSizesAcrossLoops", .traffic = all_sizes, .loops = 2},
    {.name = "AllSizesOverASlowWay", .traffic = all_sizes, .wire = {.capacity = 40'000, .rate = 12'500'000}},
};
INSTANTIATE_TEST_SUITE_P(Ways, AllocationTest, testing::ValuesIn(ways), [](const auto& way) { return way.param.name; });

// That nothing was counted means something only if everything would have been.
TEST(AllocationCount, SeesEveryFormOfNewAndOpenssl) {
  if (!test::kAllocationsAreCounted) GTEST_SKIP() << "a sanitizer has the allocator: they cannot be counted";
  ASSERT_TRUE(openssl_is_counted);
  constexpr std::align_val_t kAligned{64};
  // Calls of the functions, which no compiler may leave out as it may a new expression.
  EXPECT_EQ(allocations_in([] { ::operator delete(::operator new(1)); }), 1U);
  EXPECT_EQ(allocations_in([] { ::operator delete[](::operator new[](1)); }), 1U);
  EXPECT_EQ(allocations_in([] { ::operator delete(::operator new(1, std::nothrow)); }), 1U);
  EXPECT_EQ(allocations_in([] { ::operator delete[](::operator new[](1, std::nothrow)); }), 1U);
  EXPECT_EQ(allocations_in([=] { ::operator delete(::operator new(1, kAligned), kAligned); }), 1U);
  EXPECT_EQ(allocations_in([=] { ::operator delete[](::operator new[](1, kAligned), kAligned); }), 1U);
  EXPECT_EQ(allocations_in([] { OPENSSL_free(OPENSSL_malloc(1)); }), 1U);
}

}  // namespace
}  // namespace penstock
