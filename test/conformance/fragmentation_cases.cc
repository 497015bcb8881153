// RFC 6455 section 5.4: fragmentation, and section 10.4: what is too big, whole or in fragments.
#include "test/conformance/websocket_case.h"

namespace penstock::conformance {
namespace {

// The same message cut into `count` fragments of nearly equal size.
std::vector<Frame> in_fragments(bool is_text, const std::string& payload, std::size_t count) {
  std::vector<Frame> frames;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t from = payload.size() * i / count;
    const std::size_t to = payload.size() * (i + 1) / count;
    const int opcode = i > 0 ? 0 : is_text ? 1 : 2;
    frames.push_back(sent::frame((i + 1 == count ? 0x80 : 0) | opcode, payload.substr(from, to - from)));
  }
  return frames;
}

}  // namespace

Section fragmentation_section() {
  Section section{
      .name = "Section5_4_Fragmentation",
      .cases = {
          {"TwoFragmentsOfText", {sent::first_text("ab"), sent::last("cd")}, {heard::text("abcd")}, kStaysOpen},
          {"TwoFragmentsOfBinary", {sent::first_binary("ab"), sent::last("cd")}, {heard::binary("abcd")}, kStaysOpen},
          {"ThreeFragments",
           {sent::first_text("a"), sent::more("b"), sent::last("c")},
           {heard::text("abc")},
           kStaysOpen},
          {"EmptyFirstFragment", {sent::first_text(""), sent::last("a")}, {heard::text("a")}, kStaysOpen},
          {"EmptyMiddleFragments",
           {sent::first_text("a"), sent::more(""), sent::more(""), sent::last("b")},
           {heard::text("ab")},
           kStaysOpen},
          {"EmptyLastFragment", {sent::first_binary("a"), sent::last("")}, {heard::binary("a")}, kStaysOpen},
          {"AllFragmentsOfTextEmpty",
           {sent::first_text(""), sent::more(""), sent::last("")},
           {heard::text("")},
           kStaysOpen},
          {"AllFragmentsOfBinaryEmpty", {sent::first_binary(""), sent::last("")}, {heard::binary("")}, kStaysOpen},
          {"NothingIsHeardBeforeTheLastFragment", {sent::first_text("a"), sent::more("b")}, {}, kWaits},
          {"FragmentsOfEveryLengthClass",
           {sent::first_binary(noise(125)), sent::more(noise(126)), sent::more(noise(65535)), sent::last(noise(65536))},
           {heard::binary(noise(125) + noise(126) + noise(65535) + noise(65536))},
           kStaysOpen},
          {"AFragmentedMessageAfterAnother",
           {sent::first_text("a"), sent::last("b"), sent::first_binary("c"), sent::last("d")},
           {heard::text("ab"), heard::binary("cd")},
           kStaysOpen},
          {"WholeMessagesAroundAFragmentedOne",
           {sent::text("a"), sent::first_text("b"), sent::last("c"), sent::binary("d")},
           {heard::text("a"), heard::text("bc"), heard::binary("d")},
           kStaysOpen},

          // "Control frames MAY be injected in the middle of a fragmented message."
          {"PingBetweenFragments",
           {sent::first_text("a"), sent::ping("p"), sent::last("b")},
           {heard::ping("p"), heard::text("ab")},
           kStaysOpen},
          {"PongBetweenFragments",
           {sent::first_binary("a"), sent::pong("p"), sent::last("b")},
           {heard::pong("p"), heard::binary("ab")},
           kStaysOpen},
          {"LongestPingBetweenFragments",
           {sent::first_binary("a"), sent::ping(noise(125)), sent::last("b")},
           {heard::ping(noise(125)), heard::binary("ab")},
           kStaysOpen},
          {"PingsBetweenAllFragments",
           {sent::first_text("a"), sent::ping("1"), sent::more("b"), sent::ping("2"), sent::ping("3"), sent::last("c")},
           {heard::ping("1"), heard::ping("2"), heard::ping("3"), heard::text("abc")},
           kStaysOpen},
          {"PingBetweenEmptyFragments",
           {sent::first_text(""), sent::ping(), sent::last("")},
           {heard::ping(), heard::text("")},
           kStaysOpen},
          {"CloseBetweenFragments", {sent::first_text("a"), sent::close(1001)}, {heard::close(1001)}, 1001},
          {"NothingIsHeardOfWhatACloseInterrupts",
           {sent::first_text("a"), sent::close(1000), sent::last("b")},
           {heard::close(1000)},
           1000},

          // "... a first frame with FIN clear and an opcode other than 0, followed by ... opcode set to 0".
          {"ContinuationOfNothing", {sent::last("a")}, {}, 1002},
          {"EmptyContinuationOfNothing", {sent::last("")}, {}, 1002},
          {"UnfinishedContinuationOfNothing", {sent::more("a")}, {}, 1002},
          {"ContinuationOfNothingBeforeText", {sent::more("a"), sent::text("b")}, {}, 1002},
          {"ContinuationAfterAWholeMessage", {sent::text("a"), sent::last("b")}, {heard::text("a")}, 1002},
          {"ContinuationAfterALastFragment",
           {sent::first_text("a"), sent::last("b"), sent::last("c")},
           {heard::text("ab")},
           1002},
          {"ContinuationAfterAPing", {sent::ping("p"), sent::last("b")}, {heard::ping("p")}, 1002},
          {"TextInsideAFragmentedText", {sent::first_text("a"), sent::text("b"), sent::last("c")}, {}, 1002},
          {"BinaryInsideAFragmentedText", {sent::first_text("a"), sent::binary("b")}, {}, 1002},
          {"TextInsideAFragmentedBinary", {sent::first_binary("a"), sent::text("b")}, {}, 1002},
          {"EmptyTextInsideAFragmentedText", {sent::first_text("a"), sent::text("")}, {}, 1002},
          {"TwoFirstFragments", {sent::first_text("a"), sent::first_text("b")}, {}, 1002},
          {"TwoFirstFragmentsOfTwoKinds", {sent::first_text("a"), sent::first_binary("b")}, {}, 1002},
          {"NewMessageAfterAPingBetweenFragments",
           {sent::first_text("a"), sent::ping("p"), sent::text("b")},
           {heard::ping("p")},
           1002},
      }};
  const std::string text = prose(4000);
  const std::string bytes = noise(4000);
  for (const std::size_t count : {2U, 3U, 7U, 100U, 4000U, 5000U}) {
    section.cases.push_back({"TextIn" + std::to_string(count) + "Fragments",
                             in_fragments(true, text, count),
                             {heard::text(text)},
                             kStaysOpen});
    section.cases.push_back({"BinaryIn" + std::to_string(count) + "Fragments",
                             in_fragments(false, bytes, count),
                             {heard::binary(bytes)},
                             kStaysOpen});
  }
  return section;
}

Section limits_section() {
  constexpr std::size_t kLimit = 1000;
  const std::string full = noise(kLimit);
  Section section{
      .name = "Section10_4_Limits",
      .cases = {
          {"TheLargestMessage", {sent::binary(full)}, {heard::binary(full)}, kStaysOpen},
          {"OneByteMore", {sent::binary(full + "x")}, {}, 1009},
          {"OneByteMoreOfText", {sent::text(prose(kLimit + 1))}, {}, 1009},
          {"TheHeaderIsEnough", {sent::binary("").announcing(kLimit + 1)}, {}, 1009},
          {"AHeaderOf64BitsIsEnough", {sent::binary("").announcing(1 << 20)}, {}, 1009},
          {"AHeaderOf4GigabytesIsEnough", {sent::binary("").announcing(std::uint64_t{1} << 32)}, {}, 1009},
          {"AHeaderOfAFirstFragmentIsEnough", {sent::first_text("").announcing(kLimit + 1)}, {}, 1009},
          {"TheLargestMessageTwice",
           {sent::binary(full), sent::binary(full)},
           {heard::binary(full), heard::binary(full)},
           kStaysOpen},
          {"TooBigAfterAGoodMessage", {sent::text("good"), sent::binary(full + "x")}, {heard::text("good")}, 1009},
          {"TheLargestMessageInFragments", in_fragments(false, full, 10), {heard::binary(full)}, kStaysOpen},
          {"TheLargestMessageInFragmentsOfAByte", in_fragments(false, full, kLimit), {heard::binary(full)}, kStaysOpen},
          {"TheLargestFragmentedMessageTwice",
           {sent::first_binary(full), sent::last(""), sent::first_binary(""), sent::last(full)},
           {heard::binary(full), heard::binary(full)},
           kStaysOpen},
          {"TheLargestFragmentedMessageThenAWholeOne",
           {sent::first_binary(full), sent::last(""), sent::binary(full)},
           {heard::binary(full), heard::binary(full)},
           kStaysOpen},
          {"FragmentsOfOneByteMore", {sent::first_binary(full), sent::last("x")}, {}, 1009},
          {"ManyFragmentsOfOneByteMore", in_fragments(false, full + "x", 7), {}, 1009},
          {"AnUnfinishedFragmentOfOneByteMore", {sent::first_text(prose(kLimit)), sent::more("x")}, {}, 1009},
          {"TheHeaderOfAContinuationIsEnough", {sent::first_binary("x"), sent::last("").announcing(kLimit)}, {}, 1009},
          {"PingsBetweenFragmentsDoNotCount",
           {sent::first_binary(full), sent::ping(noise(125)), sent::last("")},
           {heard::ping(noise(125)), heard::binary(full)},
           kStaysOpen},
          {"BrokenTextIsRefusedBeforeItIsTooBig", {sent::first_text("\xFF"), sent::last(noise(kLimit))}, {}, 1007},
      }};
  for (Case& one : section.cases) one.max_message = kLimit;
  section.cases.push_back(
      {"ControlFramesWhereNoDataIsAllowed", {sent::ping(noise(125))}, {heard::ping(noise(125))}, kWaits});
  section.cases.back().max_message = 0;
  section.cases.push_back({"EmptyMessageWhereNoDataIsAllowed", {sent::text("")}, {heard::text("")}, kWaits});
  section.cases.back().max_message = 0;
  section.cases.push_back({"OneByteWhereNoDataIsAllowed", {sent::text("x")}, {}, 1009});
  section.cases.back().max_message = 0;
  return section;
}

}  // namespace penstock::conformance
