// TCP may cut the stream anywhere, or bring a thousand frames in one read. Every case of the other sections is
// delivered in several ways already; here are those whose size makes the difference.
#include <utility>

#include "test/conformance/websocket_case.h"

namespace penstock::conformance {
namespace {

Case many_frames(std::string name, std::size_t count, std::size_t size) {
  Case one{.name = std::move(name), .wire = {}, .heard = {}};
  for (std::size_t i = 0; i < count; ++i) {
    const std::string payload = std::to_string(i) + prose(size);
    switch (i % 4) {
      case 0:
        one.wire.push_back(sent::text(payload));
        one.heard.push_back(heard::text(payload));
        break;
      case 1:
        one.wire.push_back(sent::binary(payload));
        one.heard.push_back(heard::binary(payload));
        break;
      case 2:
        one.wire.push_back(sent::ping("p"));
        one.heard.push_back(heard::ping("p"));
        break;
      default:
        one.wire.push_back(sent::first_text(payload));
        one.wire.push_back(sent::last(payload));
        one.heard.push_back(heard::text(payload + payload));
    }
  }
  return one;
}

}  // namespace

Section delivery_section() {
  Section section{.name = "Delivery", .cases = {}};
  // The same large message in reads of every size that matters.
  for (const std::size_t piece : {1U, 2U, 3U, 64U, 997U, 1460U, 4096U, 16384U, 65535U, 65536U}) {
    const std::string name = "InReadsOf" + std::to_string(piece);
    Case text{name + "Text", {sent::text(prose(66000))}, {heard::text(prose(66000))}, kStaysOpen};
    Case binary{name + "BinaryFragments",
                {sent::first_binary(noise(33000)), sent::ping("p"), sent::last(noise(33000))},
                {heard::ping("p"), heard::binary(noise(33000) + noise(33000))},
                kStaysOpen};
    text.piece = piece;
    binary.piece = piece;
    section.cases.push_back(std::move(text));
    section.cases.push_back(std::move(binary));
  }
  section.cases.push_back(many_frames("AThousandSmallFramesInOneRead", 1000, 3));
  section.cases.push_back(many_frames("AThousandPacketSizedFramesInOneRead", 1000, 1400));
  section.cases.push_back(many_frames("ManyEmptyLookingFramesInOneRead", 4000, 0));
  for (auto it = section.cases.end() - 3; it != section.cases.end(); ++it) it->piece = std::size_t{1} << 30;

  Case broken_last = many_frames("AViolationBehindAThousandFramesInOneRead", 1000, 3);
  broken_last.wire.push_back(sent::frame(0x83));
  broken_last.wire.push_back(sent::text("late"));
  broken_last.answer = 1002;
  section.cases.push_back(std::move(broken_last));
  Case close_last = many_frames("ACloseBehindAThousandFramesInOneRead", 1000, 3);
  close_last.wire.push_back(sent::close(1001));
  close_last.wire.push_back(sent::text("late"));
  close_last.heard.push_back(heard::close(1001));
  close_last.answer = 1001;
  section.cases.push_back(std::move(close_last));

  // A frame that is not whole is waited for, wherever it ends.
  for (const std::size_t arriving : {0U, 1U, 99U}) {
    section.cases.push_back({"WaitsAfter" + std::to_string(arriving) + "BytesOfAPayload",
                             {sent::text("before"), sent::binary(noise(100)).cut_after(arriving)},
                             {heard::text("before")},
                             kWaits});
  }
  section.cases.push_back({"WaitsForTheRestOfAPing", {sent::ping("payload").cut_after(6)}, {}, kWaits});
  section.cases.push_back({"WaitsForTheRestOfAHugeBinary", {sent::binary(noise(100000)).cut_after(99999)}, {}, kWaits});
  return section;
}

}  // namespace penstock::conformance
