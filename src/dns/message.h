// One DNS message: read strictly from bytes that may be hostile, written anew for whoever gets it (RFC 1035 section 4).
//
//   bytes --Message::parse()--> Head: header, the one question, EDNS
//                               Records: what was said, names uncompressed
//   Head + Records --write()--> bytes: compressed, TTLs counted down, cut to what the receiver takes
//
// Nothing passes the gateway as it came: what a client gets was written here, and so is well-formed whatever an
// upstream sent.
//
// What parse() refuses   more or less than one question; anything that is cut short, or stands behind the last record;
//                        a compression pointer that does not lead back behind the header, to before all that
//                        was read of its name (RFC 9267 section 2); a name of more than 255 bytes; rdata that is not
//                        of its type's form, where the form is known here; two OPT records, or one that is
//                        elsewhere than in the additional section or not of the root (RFC 6891 section 6.1.1).
// Bounds                 kMaxRecords records, kMaxPointers jumps a name, kMaxExpanded bytes of names and rdata. No
//                        recursion: the work is linear in records times the size of a name.
// Case                   the question keeps its spelling beside its Name, owners are in lower case, names
//                        in rdata stay as they were written, for they may be shown to people (RFC 4343 section 3).
// EDNS                   is of one hop (RFC 6891 section 6.2.6): it stands in Head and not among the records, and of
//                        its options none is kept.
// Units                  TTLs in seconds; one with its highest bit set is 0 (RFC 2181 section 8).
// Threads                values and pure functions.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ip.h"
#include "dns/name.h"

namespace penstock::dns {

inline constexpr std::size_t kHeaderSize = 12;
inline constexpr std::size_t kMaxMessage = 65535;
inline constexpr std::size_t kPlainUdpSize = 512;  // without EDNS, RFC 1035 section 2.3.4
inline constexpr std::size_t kOwnUdpSize = 1232;   // fits into IPv6's smallest MTU, so nothing is fragmented
inline constexpr std::uint16_t kClassIn = 1;

// Record types, as far as this room knows them by name. Any other number is as good.
namespace type {
inline constexpr std::uint16_t kA = 1;
inline constexpr std::uint16_t kNs = 2;
inline constexpr std::uint16_t kCname = 5;
inline constexpr std::uint16_t kSoa = 6;
inline constexpr std::uint16_t kPtr = 12;
inline constexpr std::uint16_t kMx = 15;
inline constexpr std::uint16_t kTxt = 16;
inline constexpr std::uint16_t kAaaa = 28;
inline constexpr std::uint16_t kSrv = 33;
inline constexpr std::uint16_t kOpt = 41;
inline constexpr std::uint16_t kIxfr = 251;
inline constexpr std::uint16_t kAxfr = 252;
inline constexpr std::uint16_t kAny = 255;
}  // namespace type

// With the upper bits that EDNS adds.
namespace rcode {
inline constexpr std::uint16_t kNoError = 0;
inline constexpr std::uint16_t kFormErr = 1;
inline constexpr std::uint16_t kServFail = 2;
inline constexpr std::uint16_t kNxDomain = 3;
inline constexpr std::uint16_t kNotImp = 4;
inline constexpr std::uint16_t kRefused = 5;
inline constexpr std::uint16_t kNotAuth = 9;
inline constexpr std::uint16_t kBadVers = 16;
}  // namespace rcode

struct Header {
  std::uint16_t id = 0;
  std::uint16_t rcode = rcode::kNoError;
  std::uint8_t opcode = 0;
  bool response = false;
  bool authoritative = false;
  bool truncated = false;
  bool recursion_desired = false;
  bool recursion_available = false;
  bool authentic = false;          // AD, RFC 4035 section 3.2.3
  bool checking_disabled = false;  // CD
  friend bool operator==(const Header&, const Header&) = default;
};

struct Question {
  Name name;
  std::uint16_t type = type::kA;
  std::uint16_t rclass = kClassIn;
  friend auto operator<=>(const Question&, const Question&) = default;
};

struct Edns {
  std::uint16_t udp_size = kOwnUdpSize;
  std::uint8_t version = 0;
  bool dnssec_ok = false;
  friend bool operator==(const Edns&, const Edns&) = default;
};

// All of a message but its records.
struct Head {
  Header header;
  Question question;
  std::string spelling;  // of question.name in wire form, in the case it came in; empty: as in question.name
  std::optional<Edns> edns;
};

enum class Section : std::uint8_t { answer, authority, additional };

struct Record {
  Section section = Section::answer;
  std::uint16_t type = 0;
  std::uint16_t rclass = kClassIn;
  std::uint32_t ttl = 0;

 private:
  friend class Records;
  std::uint8_t name_size_ = 0;
  std::uint16_t rdata_size_ = 0;
  std::uint32_t at_ = 0;  // name, then rdata, in the bytes of its Records
};

// Records with their bytes in one block, in the order of the sections.
class Records {
 public:
  // `owner` is an uncompressed name of any case, `rdata` well-formed and uncompressed. Sections in their order.
  void add(Section section, ByteView owner, std::uint16_t type, std::uint16_t rclass, std::uint32_t ttl,
           ByteView rdata);
  // What the gateway says of its own accord: an A or AAAA; a PTR, NS or CNAME; an SOA that names nobody (RFC 6303
  // section 3), whose `ttl` is also how long a negative answer may be kept.
  void add_address(Section section, const Name& owner, std::uint32_t ttl, const IpAddress& address);
  void add_name(Section section, const Name& owner, std::uint16_t type, std::uint32_t ttl, const Name& target);
  void add_soa(Section section, const Name& zone, std::uint32_t ttl);

  std::span<const Record> all() const { return records_; }
  bool empty() const { return records_.empty(); }
  ByteView name_of(const Record& record) const { return {&bytes_[record.at_], record.name_size_}; }
  ByteView rdata_of(const Record& record) const {
    return {bytes_.data() + record.at_ + record.name_size_, record.rdata_size_};
  }
  // Of all records; nothing where there is none.
  std::optional<std::uint32_t> minimal_ttl() const;
  // How long a negative answer may be kept: the lesser of the TTL and the minimum of the SOA in the authority section
  // (RFC 2308 section 5). Nothing without an SOA.
  std::optional<std::uint32_t> negative_ttl() const;
  std::size_t memory() const { return bytes_.capacity() + records_.capacity() * sizeof(Record); }
  std::size_t expanded_size() const { return bytes_.size(); }
  void shrink();

  friend bool operator==(const Records& a, const Records& b);

 private:
  std::vector<std::uint8_t> bytes_;
  std::vector<Record> records_;
};

enum class Malformed : std::uint8_t {
  cut_short,       // it ends in the middle of something
  question_count,  // not one
  too_much,        // more records, or more bytes once expanded, than are read
  bad_name,        // too long, a pointer that leads nowhere good, or a label of an unknown kind
  bad_rdata,       // not of its type's form
  bad_opt,         // EDNS that is not as RFC 6891 has it
  trailing_bytes,  // behind the last record
};

struct Message : Head {
  static constexpr std::size_t kMaxRecords = 4096;
  static constexpr std::size_t kMaxPointers = 126;  // a name has no more labels
  static constexpr std::size_t kMaxExpanded = std::size_t{256} * 1024;

  static std::expected<Message, Malformed> parse(ByteView bytes);

  Records records;
};

// The header alone; nothing where the bytes are too few for one. Its rcode is without EDNS's upper bits.
std::optional<Header> parse_header(ByteView bytes);

// How records are written.
struct Writing {
  std::size_t limit = kMaxMessage;     // bytes, at least kPlainUdpSize
  std::uint32_t ttl_cap = UINT32_MAX;  // a TTL is at most this
  std::uint32_t age = 0;               // and that much less, but not below 0
};

// `head` with as many records as fit, whole ones: where not all of the answer and authority sections do, TC is set
// (RFC 2181 section 9); additional records are left out without a word. The OPT record always fits.
std::vector<std::uint8_t> write(const Head& head, const Records& records, const Writing& writing = {});

// An answer to what could not be read: its id, opcode and RD, with `code` and no question. `query` has a header.
std::vector<std::uint8_t> bare_answer(ByteView query, std::uint16_t code);

}  // namespace penstock::dns
