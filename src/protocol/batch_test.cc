#include "protocol/batch.h"

#include <gtest/gtest.h>

#include "packet/super_packet.h"
#include "test/support/packets.h"

namespace penstock::protocol {
namespace {

using Gso = Offload::Gso;
using test::batch_of;
using test::ip_packet;

Packet super_packet(std::size_t payload, std::uint16_t segment_size) {
  return test::super_packet("10.0.0.2", "10.0.0.3", payload, segment_size);
}

Packet with_partial_checksum(Packet packet) {
  packet.offload.needs_checksum = true;
  return packet;
}

std::vector<std::uint8_t> message_of(std::span<const Packet> packets) {
  std::vector<std::uint8_t> message;
  for (const Packet& packet : packets) {
    std::array<std::uint8_t, kEntryHeader> header{};
    write_entry_header(header.data(), packet);
    message.insert(message.end(), header.begin(), header.end());
    message.insert(message.end(), packet.bytes().begin(), packet.bytes().end());
  }
  return message;
}

constexpr Format kBatches{.batches = true, .gso = {Gso::tcp4}, .max_packet = 65535, .batch_bytes = kBatchBytes};

TEST(Format, IsPlainV1ForWhoSaysNothing) {
  const Format format = format_of(std::nullopt);
  EXPECT_FALSE(format.batches);
  EXPECT_TRUE(format.gso.empty());
}

TEST(Format, IsWhatThePeerSaidAndUnknownKindsMeanNothing) {
  const Format format = format_of(Receive{.max_packet = 9000, .gso = {"udp6", "sctp", "tcp4"}, .batch_bytes = 10000});
  EXPECT_EQ(format, (Format{.batches = true, .gso = {Gso::tcp4, Gso::udp6}, .max_packet = 9000, .batch_bytes = 10000}));
}

TEST(Format, OfWhatWeSayIsWhatWeMeant) {
  const GsoKinds kinds{Gso::tcp4, Gso::tcp6, Gso::udp4};
  const Receive said = receive_of(kinds, 1420);
  EXPECT_EQ(said.gso, (std::vector<std::string>{"tcp4", "tcp6", "udp4"}));
  EXPECT_EQ(said.mtu, 1420U);
  EXPECT_EQ(format_of(said).gso, kinds);
}

TEST(Format, IsToldToPeopleInItsOwnWords) {
  EXPECT_EQ(describe(format_of(std::nullopt)), "v1");
  EXPECT_EQ(describe(format_of(receive_of({}, 1420))), "batches");
  EXPECT_EQ(describe(format_of(receive_of({Offload::Gso::tcp4, Offload::Gso::udp6}, 1420))), "batches,tcp4,udp6");
}

TEST(Adapt, LeavesAloneWhatThePeerTakes) {
  PacketBatch batch = batch_of(super_packet(3000, 1000), with_partial_checksum(super_packet(10, 0)));
  batch[1].offload.gso = Gso::none;
  const auto* const bytes = batch[0].bytes().data();
  PacketBatch scratch;
  EXPECT_EQ(adapt(batch, kBatches, scratch), 0U);
  ASSERT_EQ(batch.size(), 2U);
  EXPECT_EQ(batch[0].bytes().data(), bytes);
  EXPECT_EQ(batch[0].offload.gso, Gso::tcp4);
  EXPECT_TRUE(batch[1].offload.needs_checksum);
}

TEST(Adapt, SegmentsWhatThePeerCannotTakeApartAndKeepsTheOrder) {
  PacketBatch batch = batch_of(ip_packet("10.0.0.2", "10.0.0.3", "first"), super_packet(2500, 1000),
                               ip_packet("10.0.0.2", "10.0.0.3", "last"));
  PacketBatch scratch;
  EXPECT_EQ(adapt(batch, {.batches = true, .gso = {Gso::udp4}}, scratch), 0U);
  ASSERT_EQ(batch.size(), 5U);
  EXPECT_EQ(batch[0].size(), 25U);
  EXPECT_EQ(batch[1].size(), 1040U);
  EXPECT_EQ(batch[3].size(), 540U);
  EXPECT_EQ(batch[4].size(), 24U);
  for (const Packet& packet : batch) EXPECT_EQ(packet.offload, Offload{});
  EXPECT_TRUE(scratch.empty());
}

TEST(Adapt, FinishesChecksumsForPlainV1) {
  Packet packet = super_packet(100, 0);
  packet.offload = {.needs_checksum = true};
  PacketBatch batch = batch_of(std::move(packet));
  PacketBatch scratch;
  EXPECT_EQ(adapt(batch, {}, scratch), 0U);
  ASSERT_EQ(batch.size(), 1U);
  EXPECT_FALSE(batch[0].offload.needs_checksum);
}

TEST(Adapt, DropsWhatIsTooLargeForThePeerEvenInParts) {
  PacketBatch batch = batch_of(super_packet(4000, 2000), ip_packet("10.0.0.2", "10.0.0.3", std::string(1000, 'x')));
  PacketBatch scratch;
  EXPECT_EQ(adapt(batch, {.batches = true, .gso = {Gso::tcp4}, .max_packet = 1500}, scratch), 2U);
  ASSERT_EQ(batch.size(), 1U);
  EXPECT_EQ(batch[0].size(), 1020U);
}

TEST(Messages, HoldOnePacketEachInPlainV1) {
  const PacketBatch batch = batch_of(ip_packet("10.0.0.2", "10.0.0.3"), ip_packet("10.0.0.2", "10.0.0.3"));
  const Message message = next_message(batch, {});
  EXPECT_EQ(message.packets, 1U);
  EXPECT_EQ(message.bytes, 25U);
}

TEST(Messages, HoldAsManyPacketsAsThePeerTakesAndOneAtLeast) {
  PacketBatch batch;
  for (int i = 0; i < 10; ++i) batch.push_back(ip_packet("10.0.0.2", "10.0.0.3", std::string(80, 'x')));
  const Message message = next_message(batch, {.batches = true, .gso = {}, .batch_bytes = 576});
  EXPECT_EQ(message.packets, 5U);
  EXPECT_EQ(message.bytes, 530U);
  batch.clear();
  batch.push_back(super_packet(65000, 1000));
  batch.push_back(super_packet(65000, 1000));
  EXPECT_EQ(next_message(batch, kBatches).packets, 1U);
}

TEST(BatchReader, ReadsWhatWasWritten) {
  PacketBatch batch = batch_of(super_packet(3000, 1000), ip_packet("fd00::2", "fd00::3", "six"),
                               with_partial_checksum(super_packet(10, 0)));
  batch[2].offload.gso = Gso::none;
  const auto message = message_of(batch);
  BatchReader reader{ByteView(message)};
  for (const Packet& packet : batch) {
    const auto entry = reader.next();
    ASSERT_TRUE(entry);
    EXPECT_TRUE(std::ranges::equal(entry->packet.bytes(), packet.bytes()));
    EXPECT_EQ(entry->offload, packet.offload);
  }
  EXPECT_FALSE(reader.next());
  EXPECT_FALSE(reader.malformed());
}

TEST(BatchReader, AMessageWithoutAnEntryIsNoBatch) {
  BatchReader reader({});
  EXPECT_FALSE(reader.next());
  EXPECT_TRUE(reader.malformed());
}

TEST(BatchReader, DeliversWhatCameBeforeAnEntryThatIsNone) {
  const PacketBatch batch = batch_of(ip_packet("10.0.0.2", "10.0.0.3"));
  const auto whole = message_of(batch);
  struct Case {
    const char* name;
    std::vector<std::uint8_t> tail;
  };
  const std::vector<Case> cases{
      {"a header that is cut short", {0, 0, 0, 1, 0}},
      {"a kind that nobody knows", {5, 0, 0, 0, 0, 0}},
      {"a flag that nobody knows", {0, 2, 0, 0, 0, 0}},
      {"a length beyond the message", {0, 0, 0, 2, 0, 0, 0x45}},
      {"a segment size without segments", {0, 0, 0, 0, 0, 1}},
  };
  for (const Case& c : cases) {
    auto message = whole;
    message.insert(message.end(), c.tail.begin(), c.tail.end());
    BatchReader reader{ByteView(message)};
    EXPECT_TRUE(reader.next()) << c.name;
    EXPECT_FALSE(reader.malformed()) << c.name;
    EXPECT_FALSE(reader.next()) << c.name;
    EXPECT_TRUE(reader.malformed()) << c.name;
  }
}

}  // namespace
}  // namespace penstock::protocol
