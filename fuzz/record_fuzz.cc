// RecordLayer::open(), both roles: records of a peer that holds the right keys and says in them what the fuzzer likes,
// some of them damaged, and bytes that are no records at all. However they are cut, the same comes out; and what does
// is what the peer said as data, in order.
//
// Input: a byte for our role and whether it is all raw, then pieces.h. Of what that delivers each step is a byte for
// what to do, then its own: see peer_says().
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "pieces.h"
#include "tls/test_records.h"

namespace {

using namespace penstock;
using namespace penstock::tls;

constexpr std::size_t kMaxWire = std::size_t{1} << 18;

struct Conversation {
  std::vector<std::uint8_t> wire;
  std::string data;  // what may come out at most
};

class Script {
 public:
  explicit Script(ByteView rest) : rest_(rest) {}
  bool done() const { return rest_.empty(); }
  std::uint8_t byte() {
    const ByteView one = bytes(1);
    return one.empty() ? std::uint8_t{0} : one[0];
  }
  ByteView bytes(std::size_t size) {
    const ByteView taken = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }

 private:
  ByteView rest_;
};

Conversation peer_says(Role role, Script script) {
  ForgingPeer peer(role);
  Conversation said;
  const auto put = [&](ByteView record) { said.wire.insert(said.wire.end(), record.begin(), record.end()); };
  while (!script.done() && said.wire.size() < kMaxWire) {
    const std::uint8_t step = script.byte();
    switch (step % 8) {
      case 0:
      case 1: {
        const ByteView content = script.bytes(step / 8);
        put(peer.record(kDataType, content, step % 2 == 0 ? 0 : script.byte()));
        said.data += as_text(content);
        break;
      }
      case 2: put(peer.record(kHandshakeType, script.bytes(step / 8))); break;
      case 3: put(peer.record(kAlertType, script.bytes(2))); break;
      case 4: put(peer.key_update(step >= 128)); break;
      case 5: {  // any type, or none
        const ByteView inner = script.bytes(1U + step / 8);
        if (inner.empty()) break;
        put(peer.record_of(inner));
        const std::size_t last = as_text(inner).find_last_not_of('\0');
        if (last != std::string_view::npos && inner[last] == kDataType) said.data += as_text(inner.first(last));
        break;
      }
      case 6: {  // sizes around the greatest
        const std::vector<std::uint8_t> content(16370U + step / 8, 'x');
        put(peer.record(kDataType, content));
        said.data.append(content.size(), 'x');
        break;
      }
      default:
        if (step >= 128) {
          put(script.bytes(step % 64));
        } else if (!said.wire.empty()) {  // one of the last bytes damaged
          said.wire[said.wire.size() - 1 - script.byte() % said.wire.size()] ^= static_cast<std::uint8_t>(1 + step / 8);
        }
    }
  }
  return said;
}

struct Heard {
  std::string data;
  int ending = -1;
  bool closed = false;
  bool operator==(const Heard&) const = default;
};

// `sizes` says how it is cut; null: it comes at once.
Heard hear(Role role, ByteView wire, fuzz::Pieces* sizes) {
  RecordLayer layer(role, test_secrets(), 1 << 23);
  ByteQueue plain;
  ByteQueue out;
  std::optional<Ending> ending;
  while (!wire.empty() && !ending && !layer.peer_closed()) {
    const std::size_t piece =
        sizes == nullptr || sizes->done() ? wire.size() : std::max<std::size_t>(sizes->next().size(), 1);
    const ByteView now = wire.first(std::min(piece, wire.size()));
    wire = wire.subspan(now.size());
    ending = layer.open(now, plain, out);
    if (sizes != nullptr && piece % 4 == 0) layer.release_idle_memory();
  }
  Heard heard{std::string(as_text(plain.view())), -1, layer.peer_closed()};
  if (ending) heard.ending = static_cast<int>(ending->cause) * 256 + ending->alert;
  const bool told = ending && ending->cause != Ending::Cause::alert;
  PENSTOCK_ASSERT(out.empty() != told);
  PENSTOCK_ASSERT(!(ending && heard.closed));
  return heard;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Role role = (data[0] & 1) != 0 ? Role::client : Role::server;
  fuzz::Pieces pieces(ByteView(data, size).subspan(1));
  Conversation said;
  if ((data[0] & 2) != 0) {
    said.wire.assign(pieces.whole().begin(), pieces.whole().end());
  } else {
    said = peer_says(role == Role::client ? Role::server : Role::client, Script(pieces.whole()));
  }
  const Heard heard = hear(role, said.wire, nullptr);
  PENSTOCK_ASSERT(hear(role, said.wire, &pieces) == heard);
  PENSTOCK_ASSERT(said.data.starts_with(heard.data));
  return 0;
}
