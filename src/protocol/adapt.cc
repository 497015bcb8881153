#include <algorithm>
#include <utility>

#include "packet/super_packet.h"
#include "protocol/batch.h"

namespace penstock::protocol {

std::size_t adapt(PacketBatch& batch, const Format& format, PacketBatch& scratch) {
  const std::size_t most = std::min(format.max_packet, format.batch_bytes - (format.batches ? kEntryHeader : 0));
  const auto fits = [&](const Packet& packet) {
    const Offload& offload = packet.offload;
    return packet.size() <= most && format.gso.has(offload.gso) && (format.batches || !offload.needs_checksum);
  };
  if (std::ranges::all_of(batch, fits)) return 0;
  for (Packet& packet : batch) {
    if (fits(packet)) {
      scratch.push_back(std::move(packet));
    } else if (packet.offload.gso != Offload::Gso::none) {
      segment(std::move(packet), scratch);
    } else {
      finish_checksum(packet);
      scratch.push_back(std::move(packet));
    }
  }
  batch.clear();
  batch.swap(scratch);
  return std::erase_if(batch, [&](const Packet& packet) { return packet.size() > most; });
}

}  // namespace penstock::protocol
