// Messages for tests: queries as clients write them, replies as servers do, and bytes as neither should.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "dns/message.h"

namespace penstock::dns::testing {

using Bytes = std::vector<std::uint8_t>;

inline Name name(std::string_view text) { return Name::parse(text).value(); }
inline IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }

struct Asking {
  std::uint16_t id = 0x1234;
  std::uint16_t type = type::kA;
  std::uint16_t rclass = kClassIn;
  std::uint8_t opcode = 0;
  bool recursion_desired = true;
  bool checking_disabled = false;
  std::optional<Edns> edns;
};

// `text` keeps its case.
inline Bytes query(std::string_view text, const Asking& asking = {}) {
  Head head;
  head.header = {.id = asking.id,
                 .opcode = asking.opcode,
                 .recursion_desired = asking.recursion_desired,
                 .checking_disabled = asking.checking_disabled};
  head.question = {name(text), asking.type, asking.rclass};
  head.spelling = as_text(head.question.name.wire());
  for (std::size_t i = 0; i < text.size(); ++i)
    if (text[i] != '.') head.spelling[i + 1] = text[i];
  head.edns = asking.edns;
  return write(head, {});
}

// A good reply to `query`, with `records`.
inline Bytes reply(ByteView query, const Records& records, std::uint16_t code = rcode::kNoError,
                   bool truncated = false) {
  Head head = Message::parse(query).value();
  head.header.response = true;
  head.header.recursion_available = true;
  head.header.truncated = truncated;
  head.header.rcode = code;
  return write(head, records);
}

inline Records address_record(std::string_view owner, std::string_view address, std::uint32_t ttl = 300) {
  Records records;
  records.add_address(Section::answer, name(owner), ttl, ip(address));
  return records;
}

// Bytes by hand: text stands for itself.
class Raw {
 public:
  // Of a response with one question for an A of "a.test" and so many records.
  static Raw with_counts(std::uint16_t answers, std::uint16_t authority = 0, std::uint16_t additional = 0) {
    Raw raw;
    raw.u16(7).u16(0x8180).u16(1).u16(answers).u16(authority).u16(additional);
    return raw.label("a").label("test").u8(0).u16(type::kA).u16(kClassIn);
  }
  Raw& u8(unsigned value) {
    bytes.push_back(static_cast<std::uint8_t>(value));
    return *this;
  }
  Raw& u16(unsigned value) { return u8(value >> 8).u8(value & 0xFF); }
  Raw& u32(std::uint32_t value) { return u16(value >> 16).u16(value & 0xFFFF); }
  Raw& label(std::string_view text) {
    u8(static_cast<unsigned>(text.size()));
    bytes.insert(bytes.end(), text.begin(), text.end());
    return *this;
  }
  Raw& pointer(std::size_t to) { return u16(0xC000U | static_cast<unsigned>(to)); }
  // Behind an owner.
  Raw& record(std::uint16_t type, std::uint16_t size, std::uint32_t ttl = 60) {
    return u16(type).u16(kClassIn).u32(ttl).u16(size);
  }
  std::size_t size() const { return bytes.size(); }

  Bytes bytes;
};

}  // namespace penstock::dns::testing
