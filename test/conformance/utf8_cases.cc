// RFC 6455 sections 5.6 and 8.1: text is UTF-8 (RFC 3629), whole over the message but not in each frame, and what
// cannot become UTF-8 any more is refused with the byte that makes it so.
#include <utility>

#include "test/conformance/websocket_case.h"

namespace penstock::conformance {
namespace {

struct Sample {
  std::string name;
  std::string text;
};

std::vector<Sample> valid_samples() {
  return {
      {"Ascii", "Hello, world"},
      {"Nul", std::string("a\0b", 3)},
      {"LastOfOneByte", "\x7F"},
      {"FirstOfTwoBytes", "\xC2\x80"},
      {"LastOfTwoBytes", "\xDF\xBF"},
      {"FirstOfThreeBytes", "\xE0\xA0\x80"},
      {"LastBeforeTheSurrogates", "\xED\x9F\xBF"},
      {"FirstAfterTheSurrogates", "\xEE\x80\x80"},
      {"ReplacementCharacter", "\xEF\xBF\xBD"},
      {"NoncharacterFdd0", "\xEF\xB7\x90"},
      {"NoncharacterFffe", "\xEF\xBF\xBE"},
      {"LastOfThreeBytes", "\xEF\xBF\xBF"},
      {"FirstOfFourBytes", "\xF0\x90\x80\x80"},
      {"Noncharacter1Ffff", "\xF0\x9F\xBF\xBF"},
      {"FirstOfPlane16", "\xF4\x80\x80\x80"},
      {"LastOfAll", "\xF4\x8F\xBF\xBF"},
      {"ByteOrderMark",
       "\xEF\xBB\xBF"
       "text"},
      {"CombiningMark", "e\xCC\x81"},
      {"Cyrillic", "\xD0\xA8\xD0\xBB\xD1\x8E\xD0\xB7"},
      {"Greek", "\xCF\x80\xCE\xBF\xCF\x84\xCE\xB1\xCE\xBC\xCF\x8C\xCF\x82"},
      {"Han", "\xE6\xB0\xB4\xE9\x97\xA8"},
      {"EmojiSequence", "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x94\xA7"},
      {"AllWidths", "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"},
  };
}

// `text` is impossible from its byte `impossible_at` on; kAtTheEnd: it only lacks its end.
constexpr std::size_t kAtTheEnd = ~std::size_t{0};
struct BrokenSample {
  std::string name;
  std::string text;
  std::size_t impossible_at;
};

std::vector<BrokenSample> broken_samples() {
  return {
      // Bytes that continue nothing.
      {"FirstContinuationByteAlone", "\x80", 0},
      {"LastContinuationByteAlone", "\xBF", 0},
      {"ContinuationBytesOnly", "\x80\xBF\x80\xBF\x80\xBF", 0},
      {"AContinuationByteTooMuch", "\xC3\xA9\xA9", 2},
      {"AContinuationByteTooMuchAfterFour", "\xF0\x9F\x98\x80\x80", 4},
      // Starts that nothing continues.
      {"TwoByteStartThenSpace", "\xC3 ", 1},
      {"ThreeByteStartThenSpace", "\xE2 ", 1},
      {"ThreeByteStartAndOneThenSpace", "\xE2\x82 ", 2},
      {"FourByteStartThenSpace", "\xF0 ", 1},
      {"FourByteStartAndOneThenSpace", "\xF0\x9F ", 2},
      {"FourByteStartAndTwoThenSpace", "\xF0\x9F\x98 ", 3},
      {"StartAfterStart", "\xC3\xC3", 1},
      {"HalfACharacterThenAWholeOne", "\xE2\x82\xC3\xA9", 2},
      // Texts that end inside a character.
      {"EndsAfterTheFirstOfTwo", "abc\xC3", kAtTheEnd},
      {"EndsAfterTheFirstOfThree", "abc\xE2", kAtTheEnd},
      {"EndsAfterTheSecondOfThree", "abc\xE2\x82", kAtTheEnd},
      {"EndsAfterTheFirstOfFour", "abc\xF0", kAtTheEnd},
      {"EndsAfterTheSecondOfFour", "abc\xF0\x9F", kAtTheEnd},
      {"EndsAfterTheThirdOfFour", "abc\xF0\x9F\x98", kAtTheEnd},
      {"EndsInsideTheLastOfAll", "\xF4\x8F\xBF", kAtTheEnd},
      // Bytes that never stand in UTF-8: starts of five and six bytes, and two that start nothing.
      {"ByteC0", "\xC0\x80", 0},
      {"ByteC1", "\xC1\xBF", 0},
      {"ByteF5", "\xF5\x80\x80\x80", 0},
      {"ByteF7", "\xF7\xBF\xBF\xBF", 0},
      {"FiveBytes", "\xF8\x88\x80\x80\x80", 0},
      {"SixBytes", "\xFC\x84\x80\x80\x80\x80", 0},
      {"ByteFE", "\xFE", 0},
      {"ByteFF", "\xFF", 0},
      {"Utf16MarkLittleEndian", "\xFF\xFE", 0},
      // Longer than need be (section 3 of RFC 3629): slash, NUL and the largest of each.
      {"OverlongSlashInTwo", "\xC0\xAF", 0},
      {"OverlongSlashInThree", "\xE0\x80\xAF", 1},
      {"OverlongSlashInFour", "\xF0\x80\x80\xAF", 1},
      {"OverlongSlashInFive", "\xF8\x80\x80\x80\xAF", 0},
      {"OverlongSlashInSix", "\xFC\x80\x80\x80\x80\xAF", 0},
      {"OverlongNulInThree", "\xE0\x80\x80", 1},
      {"OverlongNulInFour", "\xF0\x80\x80\x80", 1},
      {"LargestOverlongInThree", "\xE0\x9F\xBF", 1},
      {"LargestOverlongInFour", "\xF0\x8F\xBF\xBF", 1},
      // Surrogates, alone and in pairs (CESU-8).
      {"FirstHighSurrogate", "\xED\xA0\x80", 1},
      {"LastHighSurrogate", "\xED\xAF\xBF", 1},
      {"FirstLowSurrogate", "\xED\xB0\x80", 1},
      {"LastLowSurrogate", "\xED\xBF\xBF", 1},
      {"SurrogatePair", "\xED\xA0\xBD\xED\xB8\x80", 1},
      {"LowSurrogateBeforeHigh", "\xED\xB8\x80\xED\xA0\xBD", 1},
      // Above U+10FFFF.
      {"FirstBehindTheLast", "\xF4\x90\x80\x80", 1},
      {"FarBehindTheLast", "\xF4\xBF\xBF\xBF", 1},
  };
}

// One frame a byte.
std::vector<Frame> byte_by_byte(const std::string& text) {
  std::vector<Frame> frames;
  for (std::size_t i = 0; i < text.size(); ++i) {
    frames.push_back(sent::frame((i + 1 == text.size() ? 0x80 : 0) | (i == 0 ? 1 : 0), text.substr(i, 1)));
  }
  return frames;
}

void add_valid(std::vector<Case>& cases) {
  for (const auto& [name, text] : valid_samples()) {
    cases.push_back({"Valid" + name, {sent::text(text)}, {heard::text(text)}, kStaysOpen});
    if (text.size() > 1) {
      cases.push_back({"Valid" + name + "AFragmentAByte", byte_by_byte(text), {heard::text(text)}, kStaysOpen});
    }
  }
}

void add_broken(std::vector<Case>& cases) {
  const std::string before = "\xC3\xA9t\xC3\xA9 ";
  for (const auto& [name, text, impossible_at] : broken_samples()) {
    const std::string whole = before + text;
    cases.push_back({"Broken" + name, {sent::text(whole)}, {}, 1007});
    cases.push_back({"Broken" + name + "AFragmentAByte", byte_by_byte(whole), {}, 1007});
    if (impossible_at == kAtTheEnd) {
      cases.push_back({"Broken" + name + "MayStillBeContinued", {sent::first_text(whole)}, {}, kWaits});
    } else {
      // 8.1 lets an endpoint wait for the end of the message. Ours does not: the byte is enough, and the one before is
      // not.
      const Frame frame = sent::text(whole + "and so on");
      const std::size_t at = before.size() + impossible_at;
      cases.push_back({"Broken" + name + "IsRefusedAtOnce", {frame.cut_after(at + 1)}, {}, 1007});
      cases.push_back({"Broken" + name + "IsNotRefusedBefore", {frame.cut_after(at)}, {}, kWaits});
    }
  }
}

}  // namespace

Section utf8_section() {
  Section section{
      .name = "Section8_1_Utf8",
      .cases = {
          {"ACharacterOverTwoFragments",
           {sent::first_text("\xE2\x82"), sent::last("\xAC")},
           {heard::text("\xE2\x82\xAC")},
           kStaysOpen},
          {"ACharacterAroundAnEmptyFragment",
           {sent::first_text("\xE2"), sent::more(""), sent::last("\x82\xAC")},
           {heard::text("\xE2\x82\xAC")},
           kStaysOpen},
          {"ACharacterAroundAPing",
           {sent::first_text("\xE2\x82"), sent::ping("\xFF"), sent::last("\xAC")},
           {heard::ping("\xFF"), heard::text("\xE2\x82\xAC")},
           kStaysOpen},
          {"ACharacterOverTwoMessages", {sent::text("\xE2\x82"), sent::text("\xAC")}, {}, 1007},
          {"AnEmptyLastFragmentCompletesNothing", {sent::first_text("\xE2\x82"), sent::last("")}, {}, 1007},
          {"ABrokenFirstFragmentIsNotWaitedFor", {sent::first_text("good \xC0")}, {}, 1007},
          {"ABrokenMiddleFragmentIsNotWaitedFor", {sent::first_text("good"), sent::more("\xFF")}, {}, 1007},
          {"TheStateOfOneMessageDoesNotLeakIntoTheNext",
           {sent::first_text("\xC3"), sent::last("\xA9"), sent::text("ok"), sent::first_text("\xC3"),
            sent::last("\xA9")},
           {heard::text("\xC3\xA9"), heard::text("ok"), heard::text("\xC3\xA9")},
           kStaysOpen},
          {"BinaryIsNotChecked",
           {sent::binary("\xC0\xFF\xED\xA0\x80")},
           {heard::binary("\xC0\xFF\xED\xA0\x80")},
           kStaysOpen},
          {"BinaryFragmentsAreNotChecked",
           {sent::first_binary("\xC0"), sent::last("\xFF")},
           {heard::binary("\xC0\xFF")},
           kStaysOpen},
          {"BrokenTextAfterAGoodMessage", {sent::text("good"), sent::text("\xFF")}, {heard::text("good")}, 1007},
          {"BrokenTextAfterBinary", {sent::binary("\xFF"), sent::text("\xFF")}, {heard::binary("\xFF")}, 1007},
          {"BrokenAtTheEndOfALongText", {sent::text(prose(65536) + "\xFF")}, {}, 1007},
          {"BrokenInTheMiddleOfALongText", {sent::text(prose(40000) + "\xFF" + prose(40000))}, {}, 1007},
          {"ALongTextInFragmentsOfOddSizes",
           {sent::first_text(prose(4000).substr(0, 1333)), sent::more(prose(4000).substr(1333, 1)),
            sent::more(prose(4000).substr(1334, 1999)), sent::last(prose(4000).substr(3333))},
           {heard::text(prose(4000))},
           kStaysOpen},
      }};
  add_valid(section.cases);
  add_broken(section.cases);
  return section;
}

}  // namespace penstock::conformance
