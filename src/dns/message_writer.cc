// Writing of messages: compression of names, and cutting to size.
#include <algorithm>
#include <array>

#include "dns/message.h"
#include "dns/rdata_form.h"

namespace penstock::dns {
namespace {

constexpr std::size_t kOptSize = 11;

// The message as it grows, with a memory of where names stand in it.
//
// The memory is a hash table of kSlots places of which kProbes are looked at: whoever makes hashes collide gets a
// longer answer and no more work done.
class Output {
 public:
  explicit Output(std::size_t expected) { bytes_.reserve(expected); }

  std::vector<std::uint8_t>& bytes() { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  void put16(std::uint16_t value) {
    bytes_.resize(bytes_.size() + 2);
    store_be16(&bytes_[bytes_.size() - 2], value);
  }
  void put32(std::uint32_t value) {
    bytes_.resize(bytes_.size() + 4);
    store_be32(&bytes_[bytes_.size() - 4], value);
  }
  void put(ByteView bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  // Takes back what was written from `size` on. No name may follow: the memory would lead to what is gone.
  void cut_to(std::size_t size) { bytes_.resize(size); }

  // `any_case`: a pointer may lead to the same name in another case.
  void put_name(ByteView name, bool any_case) {
    std::array<std::uint8_t, Name::kMaxSize> starts;
    std::size_t labels = 0;
    for (std::size_t at = 0; name[at] != 0; at += 1U + name[at]) starts[labels++] = static_cast<std::uint8_t>(at);
    // The hash of a suffix grows out of that of the shorter ones.
    std::array<std::uint32_t, Name::kMaxSize> hashes;
    std::uint32_t hash = 2166136261U;
    for (std::size_t i = labels; i-- > 0;) {
      for (const std::uint8_t byte : name.subspan(starts[i], 1U + name[starts[i]]))
        hash = (hash ^ to_lower(byte)) * 16777619U;
      hashes[i] = hash;
    }
    for (std::size_t i = 0; i < labels; ++i) {
      const ByteView suffix = name.subspan(starts[i]);
      if (const auto known = find(suffix, hashes[i], any_case))
        return put16(static_cast<std::uint16_t>(0xC000U | known));
      remember(hashes[i]);
      put(suffix.first(1U + suffix[0]));
    }
    bytes_.push_back(0);
  }

 private:
  static constexpr std::size_t kSlots = 1024;
  static constexpr std::size_t kProbes = 4;
  static constexpr std::size_t kMaxOffset = 0x3FFF;

  // 0 where there is none: the header stands there.
  std::uint16_t find(ByteView suffix, std::uint32_t hash, bool any_case) const {
    for (std::size_t probe = 0; probe < kProbes; ++probe) {
      const std::uint16_t at = slots_[(hash + probe) % kSlots];
      if (at == 0) break;
      if (matches(at, suffix, any_case)) return at;
    }
    return 0;
  }
  bool matches(std::size_t at, ByteView suffix, bool any_case) const {
    // It may lead to the name that is being written, which ends where the message does.
    while (at < bytes_.size()) {
      if (bytes_[at] >= 0xC0) {
        at = load_be16(&bytes_[at]) & 0x3FFFU;
        continue;
      }
      const std::size_t size = 1U + bytes_[at];
      if (bytes_[at] != suffix[0] || bytes_.size() - at < size) return false;
      const ByteView label(&bytes_[at], size);
      if (!(any_case ? equal_in_any_case(label, suffix.first(size)) : std::ranges::equal(label, suffix.first(size))))
        return false;
      if (size == 1) return true;
      suffix = suffix.subspan(size);
      at += size;
    }
    return false;
  }
  void remember(std::uint32_t hash) {
    if (bytes_.size() > kMaxOffset) return;
    for (std::size_t probe = 0; probe < kProbes; ++probe) {
      std::uint16_t& slot = slots_[(hash + probe) % kSlots];
      if (slot != 0) continue;
      slot = static_cast<std::uint16_t>(bytes_.size());
      return;
    }
  }

  std::vector<std::uint8_t> bytes_;
  std::array<std::uint16_t, kSlots> slots_{};
};

void put_rdata(Output& out, std::uint16_t type, ByteView rdata) {
  const RdataForm* form = rdata_form_of(type);
  if (form == nullptr || !form->compressed) return out.put(rdata);
  out.put(rdata.first(form->before));
  std::size_t at = form->before;
  for (int i = 0; i < form->names; ++i) {
    const std::size_t size = wire_name_size(rdata, at);
    PENSTOCK_ASSERT(size != 0);
    out.put_name(rdata.subspan(at, size), false);
    at += size;
  }
  out.put(rdata.subspan(at));
}

std::uint16_t flags_of(const Header& header, std::uint16_t code) {
  unsigned flags = (header.opcode & 0x0FU) << 11 | (code & 0x0FU);
  const auto set = [&flags](bool value, int bit) { flags |= static_cast<unsigned>(value) << bit; };
  set(header.response, 15);
  set(header.authoritative, 10);
  set(header.truncated, 9);
  set(header.recursion_desired, 8);
  set(header.recursion_available, 7);
  set(header.authentic, 5);
  set(header.checking_disabled, 4);
  return static_cast<std::uint16_t>(flags);
}

}  // namespace

std::vector<std::uint8_t> write(const Head& head, const Records& records, const Writing& writing) {
  PENSTOCK_ASSERT(writing.limit >= kPlainUdpSize && writing.limit <= kMaxMessage);
  Header header = head.header;
  // Without EDNS there is no place for the upper bits.
  if (header.rcode > 0x0F && !head.edns) header.rcode = rcode::kServFail;

  Output out(std::min(writing.limit,
                      kHeaderSize + Name::kMaxSize + kOptSize + records.expanded_size() + records.all().size() * 10));
  out.bytes().resize(kHeaderSize);
  const ByteView spelling = head.spelling.empty() ? head.question.name.wire() : as_bytes(head.spelling);
  PENSTOCK_ASSERT(equal_in_any_case(spelling, head.question.name.wire()));
  out.put_name(spelling, false);
  out.put16(head.question.type);
  out.put16(head.question.rclass);

  const std::size_t room = writing.limit - (head.edns ? kOptSize : 0);
  std::array<std::uint16_t, 3> counts{};
  for (const Record& record : records.all()) {
    const std::size_t before = out.size();
    out.put_name(records.name_of(record), true);
    out.put16(record.type);
    out.put16(record.rclass);
    const std::uint32_t ttl = std::min(record.ttl, writing.ttl_cap);
    out.put32(ttl - std::min(ttl, writing.age));
    const std::size_t size_at = out.size();
    out.put16(0);
    put_rdata(out, record.type, records.rdata_of(record));
    if (out.size() > room) {
      out.cut_to(before);
      if (record.section != Section::additional) header.truncated = true;
      break;
    }
    store_be16(&out.bytes()[size_at], static_cast<std::uint16_t>(out.size() - size_at - 2));
    ++counts[static_cast<std::size_t>(record.section)];
  }
  if (head.edns) {
    out.bytes().push_back(0);
    out.put16(type::kOpt);
    out.put16(head.edns->udp_size);
    out.put32(static_cast<std::uint32_t>(header.rcode >> 4) << 24 | std::uint32_t{head.edns->version} << 16 |
              std::uint32_t{head.edns->dnssec_ok} << 15);
    out.put16(0);
    ++counts[2];
  }
  std::uint8_t* const at = out.bytes().data();
  store_be16(at, header.id);
  store_be16(at + 2, flags_of(header, header.rcode));
  store_be16(at + 4, 1);
  for (std::size_t i = 0; i < counts.size(); ++i) store_be16(at + 6 + 2 * i, counts[i]);
  return std::move(out.bytes());
}

std::vector<std::uint8_t> bare_answer(ByteView query, std::uint16_t code) {
  const Header header = parse_header(query).value();
  const Header answer{.id = header.id,
                      .opcode = header.opcode,
                      .response = true,
                      .recursion_desired = header.recursion_desired,
                      .recursion_available = true,
                      .checking_disabled = header.checking_disabled};
  std::vector<std::uint8_t> bytes(kHeaderSize);
  store_be16(bytes.data(), answer.id);
  store_be16(&bytes[2], flags_of(answer, code));
  return bytes;
}

}  // namespace penstock::dns
