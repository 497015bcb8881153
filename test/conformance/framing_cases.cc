// RFC 6455 section 5.2: lengths, reserved bits, opcodes.
#include "test/conformance/websocket_case.h"

namespace penstock::conformance {
namespace {

using Length = Frame::Length;

// "Payload length: 7 bits, 7+16 bits, or 7+64 bits": each class, both sides of each border.
void add_lengths(std::vector<Case>& cases) {
  for (const std::size_t size :
       {0U, 1U, 2U, 124U, 125U, 126U, 127U, 128U, 1000U, 65534U, 65535U, 65536U, 65537U, 131072U, 1048576U}) {
    const std::string bytes = std::to_string(size) + "Bytes";
    cases.push_back({"TextOf" + bytes, {sent::text(prose(size))}, {heard::text(prose(size))}, kStaysOpen});
    cases.push_back({"BinaryOf" + bytes, {sent::binary(noise(size))}, {heard::binary(noise(size))}, kStaysOpen});
  }
}

// "The minimal number of bytes MUST be used to encode the length", and the 64-bit form's "most significant bit MUST be
// 0".
void add_wrong_lengths(std::vector<Case>& cases) {
  for (const std::size_t size : {0U, 1U, 125U}) {
    const std::string name = "Length" + std::to_string(size) + "In16Bits";
    cases.push_back({name, {sent::binary(noise(size)).with_length(Length::in_16_bits)}, {}, 1002});
  }
  for (const std::size_t size : {0U, 1U, 125U, 126U, 65535U}) {
    const std::string name = "Length" + std::to_string(size) + "In64Bits";
    cases.push_back({name, {sent::binary(noise(size)).with_length(Length::in_64_bits)}, {}, 1002});
  }
  cases.insert(
      cases.end(),
      {{"LengthNotMinimalOfText", {sent::text("hello").with_length(Length::in_16_bits)}, {}, 1002},
       {"LengthNotMinimalOfFirstFragment", {sent::first_text("hello").with_length(Length::in_16_bits)}, {}, 1002},
       {"LengthNotMinimalOfContinuation",
        {sent::first_text("a"), sent::last("b").with_length(Length::in_64_bits)},
        {},
        1002},
       {"LengthNotMinimalAfterAGoodMessage",
        {sent::text("good"), sent::text("bad").with_length(Length::in_16_bits)},
        {heard::text("good")},
        1002},
       {"LengthWithOnlyTheTopBit", {sent::binary("").announcing(0x8000000000000000)}, {}, 1002},
       {"LengthWithTheTopBitAndMore", {sent::binary("x").announcing(0x8000000000010000)}, {}, 1002},
       {"LengthWithAllBits", {sent::binary("x").announcing(0xFFFFFFFFFFFFFFFE)}, {}, 1002},
       {"LargestLawfulLength", {sent::binary("x").announcing(0x7FFFFFFFFFFFFFFF)}, {}, 1009},
       {"LargestLawfulLengthOfAContinuation",
        {sent::first_binary("x"), sent::last("").announcing(0x7FFFFFFFFFFFFFFF)},
        {},
        1009}});
}

// "RSV1, RSV2, RSV3: MUST be 0 unless an extension is negotiated": each of the seven ways to set them.
void add_reserved_bits(std::vector<Case>& cases) {
  for (int bits = 1; bits < 8; ++bits) {
    const int set = bits << 4;
    const std::string name = "ReservedBits" + std::to_string(bits);
    cases.insert(cases.end(),
                 {{name + "OnText", {sent::frame(0x81 | set, "x")}, {}, 1002},
                  {name + "OnEmptyBinary", {sent::frame(0x82 | set)}, {}, 1002},
                  {name + "OnPing", {sent::frame(0x89 | set, "x")}, {}, 1002},
                  {name + "OnPong", {sent::frame(0x8A | set, "x")}, {}, 1002},
                  {name + "OnClose", {sent::frame(0x88 | set)}, {}, 1002},
                  {name + "OnFirstFragment", {sent::frame(0x01 | set, "x")}, {}, 1002},
                  {name + "OnContinuation", {sent::first_text("a"), sent::frame(0x80 | set, "b")}, {}, 1002},
                  {name + "AfterAGoodMessage",
                   {sent::text("good"), sent::frame(0x81 | set, "bad"), sent::text("late")},
                   {heard::text("good")},
                   1002}});
  }
}

// "If an unknown opcode is received, the receiving endpoint MUST fail the connection".
void add_reserved_opcodes(std::vector<Case>& cases) {
  for (const int opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
    const std::string name = "Opcode" + std::to_string(opcode);
    cases.insert(cases.end(), {{name + "WithoutPayload", {sent::frame(0x80 | opcode)}, {}, 1002},
                               {name + "WithPayload", {sent::frame(0x80 | opcode, "x")}, {}, 1002},
                               {name + "NotFinal", {sent::frame(opcode, "x")}, {}, 1002},
                               {name + "InsideAFragmentedMessage",
                                {sent::first_text("a"), sent::frame(0x80 | opcode, "x"), sent::last("b")},
                                {},
                                1002},
                               {name + "AfterAGoodMessage",
                                {sent::text("good"), sent::frame(0x80 | opcode, "x"), sent::text("late")},
                                {heard::text("good")},
                                1002}});
  }
}

}  // namespace

Section framing_section() {
  Section section{.name = "Section5_2_Framing", .cases = {}};
  add_lengths(section.cases);
  add_wrong_lengths(section.cases);
  add_reserved_bits(section.cases);
  add_reserved_opcodes(section.cases);
  return section;
}

// Sections 5.1 and 5.3: a client masks, a server does not, and "the masking key ... can be any 32-bit value".
Section masking_section() {
  using Mask = Frame::Mask;
  const std::string payload = noise(131);
  Section section{.name = "Section5_3_Masking", .cases = {}};
  for (const std::uint32_t key : {0x00000000U, 0xFFFFFFFFU, 0x00000001U, 0x80000000U, 0x81828889U, 0x01020304U}) {
    const std::string name = "Key" + std::to_string(key);
    section.cases.push_back(
        {name, {sent::binary(payload).with_key(key)}, {heard::binary(payload)}, kStaysOpen, Receiver::server});
  }
  // The key goes on counting from the start of each frame, whatever the length of the one before.
  section.cases.push_back({"ADifferentKeyForEachFragment",
                           {sent::first_binary("abc").with_key(0x11223344), sent::more("defgh").with_key(0),
                            sent::last("i").with_key(0xFFFFFFFF)},
                           {heard::binary("abcdefghi")},
                           kStaysOpen,
                           Receiver::server});
  section.cases.push_back({"MaskedTextThatIsUtf8OnlyWhenUnmasked",
                           {sent::text(prose(200)).with_key(0xC0C1F5FF)},
                           {heard::text(prose(200))},
                           kStaysOpen,
                           Receiver::server});

  const std::pair<const char*, Frame> kinds[] = {{"Text", sent::text("x")},
                                                 {"EmptyText", sent::text("")},
                                                 {"Binary", sent::binary("x")},
                                                 {"LongBinary", sent::binary(noise(300))},
                                                 {"HugeBinary", sent::binary(noise(70000))},
                                                 {"Ping", sent::ping("x")},
                                                 {"EmptyPong", sent::pong()},
                                                 {"Close", sent::close(1000)},
                                                 {"EmptyClose", sent::empty_close()},
                                                 {"FirstFragment", sent::first_text("x")}};
  for (const auto& [kind, frame] : kinds) {
    section.cases.push_back(
        {std::string("Unmasked") + kind + "FromAClient", {frame.with_mask(Mask::never)}, {}, 1002, Receiver::server});
    section.cases.push_back(
        {std::string("Masked") + kind + "FromAServer", {frame.with_mask(Mask::always)}, {}, 1002, Receiver::client});
    section.cases.push_back({std::string("WithAnAllZeroMask") + kind + "FromAServer",
                             {frame.with_mask(Mask::always).with_key(0)},
                             {},
                             1002,
                             Receiver::client});
  }
  section.cases.push_back({"UnmaskedContinuationFromAClient",
                           {sent::first_text("a"), sent::last("b").with_mask(Mask::never)},
                           {},
                           1002,
                           Receiver::server});
  section.cases.push_back({"UnmaskedAfterAGoodMessage",
                           {sent::text("good"), sent::text("bad").with_mask(Mask::never)},
                           {heard::text("good")},
                           1002,
                           Receiver::server});
  section.cases.push_back({"MaskedAfterAGoodMessage",
                           {sent::text("good"), sent::text("bad").with_mask(Mask::always)},
                           {heard::text("good")},
                           1002,
                           Receiver::client});
  return section;
}

}  // namespace penstock::conformance
