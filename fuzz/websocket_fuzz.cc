// MessageDecoder, both roles: never more memory than its limit, and the same messages however the bytes are cut.
#include <string>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "pieces.h"
#include "websocket/frame.h"

namespace {

using namespace penstock;
using namespace penstock::websocket;

constexpr std::size_t kLimit = 4096;
using Heard = std::vector<std::tuple<int, std::string, int>>;

void drain(MessageDecoder& decoder, ByteQueue& in, Heard& heard) {
  while (true) {
    const auto message = decoder.next(in);
    if (!message) {
      heard.emplace_back(-1, message.error().reason, message.error().close_code);
      PENSTOCK_ASSERT(decoder.dead());
      return;
    }
    if (!*message) break;
    const auto& [kind, payload, close_code] = **message;
    PENSTOCK_ASSERT(payload.size() <= kLimit);
    heard.emplace_back(static_cast<int>(kind), std::string(as_text(payload)), close_code);
  }
  PENSTOCK_ASSERT(decoder.dead() || in.size() <= kLimit + kMaxFrameHeader);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Role role = (data[0] & 1) != 0 ? Role::client : Role::server;
  fuzz::Pieces pieces(ByteView(data, size).subspan(1));

  MessageDecoder whole_decoder(role, kLimit);
  ByteQueue whole;
  Heard heard_whole;
  whole.append(pieces.whole());
  drain(whole_decoder, whole, heard_whole);

  MessageDecoder decoder(role, kLimit);
  ByteQueue in;
  Heard heard;
  while (!pieces.done() && !decoder.dead()) {
    in.append(pieces.next());
    drain(decoder, in, heard);
  }
  PENSTOCK_ASSERT(heard == heard_whole);
  return 0;
}
