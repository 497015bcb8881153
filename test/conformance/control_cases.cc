// RFC 6455 section 5.5: control frames; sections 5.5.1 and 7.4: the close.
#include "test/conformance/websocket_case.h"

namespace penstock::conformance {
namespace {

using Length = Frame::Length;

// "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented."
void add_limits(std::vector<Case>& cases) {
  const struct {
    std::string kind;
    int opcode;
  } kinds[] = {{"Ping", 9}, {"Pong", 10}, {"Close", 8}};
  for (const auto& [kind, opcode] : kinds) {
    const auto frame = [number = opcode](std::size_t size) {
      // For close: a lawful code in front.
      return sent::frame(0x80 | number, ("\x03\xE8" + prose(size)).substr(0, size));
    };
    cases.insert(cases.end(),
                 {{kind + "Of126Bytes", {frame(126)}, {}, 1002},
                  {kind + "Of127Bytes", {frame(127)}, {}, 1002},
                  {kind + "Of65536Bytes", {frame(65536)}, {}, 1002},
                  {kind + "Of2BytesIn16Bits", {frame(2).with_length(Length::in_16_bits)}, {}, 1002},
                  {kind + "Of2BytesIn64Bits", {frame(2).with_length(Length::in_64_bits)}, {}, 1002},
                  {kind + "Fragmented", {sent::frame(opcode, "\x03\xE8")}, {}, 1002},
                  {kind + "FragmentedAndEmpty", {sent::frame(opcode)}, {}, 1002},
                  {kind + "FragmentedWithItsContinuation", {sent::frame(opcode, "a"), sent::last("b")}, {}, 1002},
                  {kind + "FragmentedInsideAFragmentedMessage",
                   {sent::first_text("a"), sent::frame(opcode, "x"), sent::last("b")},
                   {},
                   1002}});
  }
  for (const std::size_t size : {0U, 1U, 4U, 124U, 125U}) {
    const std::string name = "Of" + std::to_string(size) + "Bytes";
    cases.push_back({"Ping" + name, {sent::ping(noise(size))}, {heard::ping(noise(size))}, kStaysOpen});
    cases.push_back({"Pong" + name, {sent::pong(noise(size))}, {heard::pong(noise(size))}, kStaysOpen});
  }
}

}  // namespace

Section control_section() {
  const std::string like_frames("\x88\x00\x81\x01x", 5);
  Section section{
      .name = "Section5_5_ControlFrames",
      .cases = {
          // 5.5.2, 5.5.3: application data of any kind.
          {"PingWithBytesThatAreNotText", {sent::ping("\xC0\xFF\xFE")}, {heard::ping("\xC0\xFF\xFE")}, kStaysOpen},
          {"PingWithANul", {sent::ping(std::string(3, '\0'))}, {heard::ping(std::string(3, '\0'))}, kStaysOpen},
          {"PongThatNobodyAskedFor", {sent::pong("unasked")}, {heard::pong("unasked")}, kStaysOpen},
          {"PongThatNobodyAskedForThenPing",
           {sent::pong("unasked"), sent::ping("p")},
           {heard::pong("unasked"), heard::ping("p")},
           kStaysOpen},
          {"PingsAroundMessages",
           {sent::ping("1"), sent::text("a"), sent::ping("2"), sent::binary("b"), sent::pong("3")},
           {heard::ping("1"), heard::text("a"), heard::ping("2"), heard::binary("b"), heard::pong("3")},
           kStaysOpen},
          {"PingWhosePayloadLooksLikeFrames",
           {sent::ping(like_frames), sent::text("a")},
           {heard::ping(like_frames), heard::text("a")},
           kStaysOpen},
          {"PingBeforeAClose", {sent::ping("p"), sent::close(1000)}, {heard::ping("p"), heard::close(1000)}, 1000},
          {"PingAfterAClose", {sent::close(1000), sent::ping("p")}, {heard::close(1000)}, 1000},
          {"PingAfterAViolation", {sent::frame(0x83), sent::ping("p")}, {}, 1002},
          {"TenPings", {}, {}, kStaysOpen},
      }};
  for (int i = 0; i < 10; ++i) {
    section.cases.back().wire.push_back(sent::ping("payload " + std::to_string(i)));
    section.cases.back().heard.push_back(heard::ping("payload " + std::to_string(i)));
  }
  add_limits(section.cases);
  return section;
}

Section close_section() {
  const std::string longest = prose(123);
  Section section{
      .name = "Section7_4_Close",
      .cases = {
          // 5.5.1: "The Close frame MAY contain a body"; an empty one is answered with a normal closure.
          {"EmptyClose", {sent::empty_close()}, {heard::close(1005)}, 1000},
          {"CloseOfOneByte", {sent::frame(0x88, "\x03")}, {}, 1002},
          {"CloseOfOneByteThatIsNoCode", {sent::frame(0x88, "\xFF")}, {}, 1002},
          {"CloseOfOneByteBeforeTheByteThatWouldMakeItACode", {sent::frame(0x88, "\x03"), sent::frame(0xE8)}, {}, 1002},
          {"CloseWithACode", {sent::close(1000)}, {heard::close(1000)}, 1000},
          {"CloseWithAReason", {sent::close(1000, "bye")}, {heard::close(1000, "bye")}, 1000},
          {"CloseWithTheLongestReason", {sent::close(1000, longest)}, {heard::close(1000, longest)}, 1000},
          {"CloseWithAReasonOfOneByteMore", {sent::close(1000, longest + ".")}, {}, 1002},
          {"CloseWithAReasonInUtf8",
           {sent::close(1001, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80")},
           {heard::close(1001, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80")},
           1001},
          {"CloseWithANulInItsReason",
           {sent::close(1000, std::string("a\0b", 3))},
           {heard::close(1000, std::string("a\0b", 3))},
           1000},
          // 5.5.1 and 8.1: the reason is UTF-8, and ends with a whole character.
          {"CloseWithABrokenReason", {sent::close(1000, "\xFF")}, {}, 1007},
          {"CloseWithAnOverlongReason", {sent::close(1000, "\xC0\xAF")}, {}, 1007},
          {"CloseWithASurrogateInItsReason", {sent::close(1000, "\xED\xA0\x80")}, {}, 1007},
          {"CloseWithHalfACharacter", {sent::close(1000, "abc\xE2\x82")}, {}, 1007},
          {"CloseWithABrokenReasonAtItsEnd", {sent::close(1000, longest.substr(0, 120) + "\xF8")}, {}, 1007},
          {"CloseWithABadCodeAndABrokenReason", {sent::close(1005, "\xFF")}, {}, 1002},

          // 5.5.1: "the application MUST NOT send any more data frames", and 1.4: what comes after is discarded.
          {"TextAfterAClose", {sent::close(1000), sent::text("late")}, {heard::close(1000)}, 1000},
          {"CloseAfterAClose", {sent::close(1000), sent::close(1001)}, {heard::close(1000)}, 1000},
          {"RubbishAfterAClose", {sent::close(1000), sent::frame(0xFF, noise(200))}, {heard::close(1000)}, 1000},
          {"HalfAFrameAfterAClose",
           {sent::close(4000), sent::binary(noise(100)).cut_after(10)},
           {heard::close(4000)},
           4000},
          {"ABigMessageAfterAClose", {sent::close(1000), sent::binary(noise(200000))}, {heard::close(1000)}, 1000},
          {"MessagesBeforeAClose",
           {sent::text("a"), sent::binary("b"), sent::close(1001, "done")},
           {heard::text("a"), heard::binary("b"), heard::close(1001, "done")},
           1001},
          {"CloseAfterAViolation", {sent::frame(0x83), sent::close(1000)}, {}, 1002},
          {"HalfACloseIsNoneYet", {sent::close(1000, "bye").cut_after(3)}, {}, kWaits},
      }};
  // 7.4.1 and 7.4.2, with IANA's registry: 1012, 1013 and 1014 were assigned later.
  for (const int code :
       {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999}) {
    const auto same = static_cast<std::uint16_t>(code);
    section.cases.push_back(
        {"Code" + std::to_string(code) + "IsEchoed", {sent::close(code, "why")}, {heard::close(same, "why")}, same});
  }
  for (const int code :
       {0, 1, 125, 999, 1004, 1005, 1006, 1015, 1016, 1099, 1100, 1999, 2000, 2999, 5000, 5999, 32768, 65535}) {
    section.cases.push_back({"Code" + std::to_string(code) + "IsRefused", {sent::close(code)}, {}, 1002});
    section.cases.push_back(
        {"Code" + std::to_string(code) + "WithAReasonIsRefused", {sent::close(code, "why")}, {}, 1002});
  }
  return section;
}

}  // namespace penstock::conformance
