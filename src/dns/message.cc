#include "dns/message.h"

#include <algorithm>
#include <array>

#include "dns/rdata_form.h"

namespace penstock::dns {
namespace {

// One name, expanded.
struct NameBuffer {
  std::array<std::uint8_t, Name::kMaxSize> bytes;
  std::size_t size = 0;
  ByteView view() const { return {bytes.data(), size}; }
};

// Reads a message from front to back. Every method says false, or 0 where sizes are asked, when there is not enough.
class Reader {
 public:
  explicit Reader(ByteView message) : message_(message), at_(kHeaderSize) {}

  std::size_t at() const { return at_; }
  bool at_end() const { return at_ == message_.size(); }
  bool has(std::size_t size) const { return message_.size() - at_ >= size; }
  void skip(std::size_t size) { at_ += size; }
  std::uint16_t take16() {
    at_ += 2;
    return load_be16(&message_[at_ - 2]);
  }
  std::uint32_t take32() {
    at_ += 4;
    return load_be32(&message_[at_ - 4]);
  }

  bool take_name(NameBuffer& name) {
    name.size = 0;
    std::size_t at = at_;
    std::size_t bound = at_;  // a pointer leads to before this
    std::size_t pointers = 0;
    while (at < message_.size()) {
      const std::uint8_t length = message_[at];
      if (length >= 0xC0) {
        if (message_.size() - at < 2) return false;
        const std::size_t target = load_be16(&message_[at]) & 0x3FFFU;
        if (pointers == 0) at_ = at + 2;
        if (target < kHeaderSize || target >= bound || ++pointers > Message::kMaxPointers) return false;
        at = bound = target;
        continue;
      }
      const std::size_t size = 1U + length;
      if (length > Name::kMaxLabel || message_.size() - at < size || name.size + size > Name::kMaxSize) return false;
      std::copy_n(&message_[at], size, &name.bytes[name.size]);
      name.size += size;
      at += size;
      if (length == 0) {
        if (pointers == 0) at_ = at;
        return true;
      }
    }
    return false;
  }

  // `size` bytes of rdata of `type`, which are there, onto `out`.
  bool take_rdata(std::uint16_t type, std::size_t size, std::vector<std::uint8_t>& out) {
    const std::size_t end = at_ + size;
    const RdataForm* form = rdata_form_of(type);
    if (form == nullptr) {
      copy(size, out);
      return true;
    }
    if (size < form->before) return false;
    copy(form->before, out);
    for (int i = 0; i < form->names; ++i) {
      NameBuffer name;
      if (!take_name(name) || at_ > end) return false;
      out.insert(out.end(), name.view().begin(), name.view().end());
    }
    if (end - at_ != form->after) return false;
    copy(form->after, out);
    return true;
  }

 private:
  void copy(std::size_t size, std::vector<std::uint8_t>& out) {
    const ByteView bytes = message_.subspan(at_, size);
    out.insert(out.end(), bytes.begin(), bytes.end());
    at_ += size;
  }

  ByteView message_;
  std::size_t at_;
};

// RFC 6891 section 6.1.2: options are whole.
bool options_are_whole(ByteView options) {
  while (!options.empty()) {
    if (options.size() < 4) return false;
    const std::size_t size = 4U + load_be16(&options[2]);
    if (options.size() < size) return false;
    options = options.subspan(size);
  }
  return true;
}

}  // namespace

void Records::add(Section section, ByteView owner, std::uint16_t type, std::uint16_t rclass, std::uint32_t ttl,
                  ByteView rdata) {
  PENSTOCK_ASSERT(owner.size() <= Name::kMaxSize && rdata.size() <= kMaxMessage);
  PENSTOCK_ASSERT(records_.empty() || records_.back().section <= section);
  Record record;
  record.section = section;
  record.type = type;
  record.rclass = rclass;
  record.ttl = ttl > INT32_MAX ? 0 : ttl;
  record.name_size_ = static_cast<std::uint8_t>(owner.size());
  record.rdata_size_ = static_cast<std::uint16_t>(rdata.size());
  record.at_ = static_cast<std::uint32_t>(bytes_.size());
  for (const std::uint8_t byte : owner) bytes_.push_back(to_lower(byte));
  bytes_.insert(bytes_.end(), rdata.begin(), rdata.end());
  records_.push_back(record);
}

void Records::add_address(Section section, const Name& owner, std::uint32_t ttl, const IpAddress& address) {
  add(section, owner.wire(), address.is_v4() ? type::kA : type::kAaaa, kClassIn, ttl, address.bytes());
}

void Records::add_name(Section section, const Name& owner, std::uint16_t type, std::uint32_t ttl, const Name& target) {
  add(section, owner.wire(), type, kClassIn, ttl, target.wire());
}

void Records::add_soa(Section section, const Name& zone, std::uint32_t ttl) {
  constexpr std::array<std::uint8_t, 16> kNobody{6, 'n', 'o', 'b', 'o', 'd', 'y', 7, 'i', 'n', 'v', 'a', 'l', 'i', 'd'};
  std::vector<std::uint8_t> rdata(zone.wire().begin(), zone.wire().end());
  rdata.insert(rdata.end(), kNobody.begin(), kNobody.end());
  constexpr std::uint32_t kSerial = 1;
  constexpr std::uint32_t kRefresh = 3600;
  constexpr std::uint32_t kRetry = 1200;
  constexpr std::uint32_t kExpire = 604800;
  for (const std::uint32_t value : {kSerial, kRefresh, kRetry, kExpire, ttl}) {
    rdata.resize(rdata.size() + 4);
    store_be32(&rdata[rdata.size() - 4], value);
  }
  add(section, zone.wire(), type::kSoa, kClassIn, ttl, rdata);
}

std::optional<std::uint32_t> Records::minimal_ttl() const {
  if (records_.empty()) return std::nullopt;
  return std::ranges::min_element(records_, {}, &Record::ttl)->ttl;
}

std::optional<std::uint32_t> Records::negative_ttl() const {
  for (const Record& record : records_) {
    if (record.section != Section::authority || record.type != type::kSoa) continue;
    const std::uint32_t minimum = load_be32(rdata_of(record).last(4).data());
    return std::min(record.ttl, minimum > INT32_MAX ? 0 : minimum);
  }
  return std::nullopt;
}

void Records::shrink() {
  bytes_.shrink_to_fit();
  records_.shrink_to_fit();
}

bool operator==(const Records& a, const Records& b) {
  return std::ranges::equal(a.records_, b.records_, [&](const Record& x, const Record& y) {
    return x.section == y.section && x.type == y.type && x.rclass == y.rclass && x.ttl == y.ttl &&
           std::ranges::equal(a.name_of(x), b.name_of(y)) && std::ranges::equal(a.rdata_of(x), b.rdata_of(y));
  });
}

std::optional<Header> parse_header(ByteView bytes) {
  if (bytes.size() < kHeaderSize) return std::nullopt;
  const std::uint16_t flags = load_be16(&bytes[2]);
  const auto has = [flags](int bit) { return (flags >> bit & 1) != 0; };
  Header header;
  header.id = load_be16(bytes.data());
  header.rcode = flags & 0x0F;
  header.opcode = flags >> 11 & 0x0F;
  header.response = has(15);
  header.authoritative = has(10);
  header.truncated = has(9);
  header.recursion_desired = has(8);
  header.recursion_available = has(7);
  header.authentic = has(5);
  header.checking_disabled = has(4);
  return header;
}

std::expected<Message, Malformed> Message::parse(ByteView bytes) {
  const auto header = parse_header(bytes);
  if (!header) return std::unexpected(Malformed::cut_short);
  if (bytes.size() > kMaxMessage) return std::unexpected(Malformed::too_much);
  if (load_be16(&bytes[4]) != 1) return std::unexpected(Malformed::question_count);
  const std::array<std::size_t, 3> counts{load_be16(&bytes[6]), load_be16(&bytes[8]), load_be16(&bytes[10])};
  if (counts[0] + counts[1] + counts[2] > kMaxRecords) return std::unexpected(Malformed::too_much);

  Message message;
  message.header = *header;
  Reader reader(bytes);
  NameBuffer name;
  if (!reader.take_name(name)) return std::unexpected(Malformed::bad_name);
  if (!reader.has(4)) return std::unexpected(Malformed::cut_short);
  message.question.name = Name::from_wire(name.view());
  message.spelling = as_text(name.view());
  message.question.type = reader.take16();
  message.question.rclass = reader.take16();

  std::vector<std::uint8_t> rdata;
  for (std::size_t i = 0; i < counts[0] + counts[1] + counts[2]; ++i) {
    const Section section = i < counts[0]               ? Section::answer
                            : i < counts[0] + counts[1] ? Section::authority
                                                        : Section::additional;
    if (reader.at_end()) return std::unexpected(Malformed::cut_short);
    if (!reader.take_name(name)) return std::unexpected(Malformed::bad_name);
    if (!reader.has(10)) return std::unexpected(Malformed::cut_short);
    const std::uint16_t type = reader.take16();
    const std::uint16_t rclass = reader.take16();
    const std::uint32_t ttl = reader.take32();
    const std::size_t size = reader.take16();
    if (!reader.has(size)) return std::unexpected(Malformed::cut_short);
    if (type == type::kOpt) {
      // RFC 6891 section 6.1.3 for what the class and the TTL mean here.
      const bool good = section == Section::additional && name.size == 1 && !message.edns &&
                        options_are_whole(bytes.subspan(reader.at(), size));
      if (!good) return std::unexpected(Malformed::bad_opt);
      message.edns =
          Edns{.udp_size = rclass, .version = static_cast<std::uint8_t>(ttl >> 16), .dnssec_ok = (ttl >> 15 & 1) != 0};
      message.header.rcode = static_cast<std::uint16_t>(message.header.rcode | (ttl >> 24) << 4);
      reader.skip(size);
      continue;
    }
    rdata.clear();
    if (!reader.take_rdata(type, size, rdata)) return std::unexpected(Malformed::bad_rdata);
    message.records.add(section, name.view(), type, rclass, ttl, rdata);
    if (message.records.expanded_size() > kMaxExpanded) return std::unexpected(Malformed::too_much);
  }
  if (!reader.at_end()) return std::unexpected(Malformed::trailing_bytes);
  return message;
}

}  // namespace penstock::dns
