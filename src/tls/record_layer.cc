#include "tls/record_layer.h"

#include <algorithm>

#include "tls/engine.h"

namespace penstock::tls {

enum class RecordLayer::ContentType : std::uint8_t { alert = 21, handshake = 22, application_data = 23 };

namespace {

constexpr std::size_t kHeader = 5;
constexpr std::size_t kOverhead = kHeader + 1 + kAeadTagSize;  // the 1 is the content type
// RFC 8446 5.4: content, its type and padding are 2^14 + 1 bytes together. 5.2's 2^14 + 256 leaves room for ciphers
// that expand it by more than ours.
constexpr std::size_t kMaxBody = kMaxRecordPlaintext + 1 + kAeadTagSize;
constexpr std::uint32_t kMaxSilentRecords = 32;

// RFC 8446 4: messages that may come after the handshake; 6: alerts.
constexpr std::uint8_t kNewSessionTicket = 4;
constexpr std::uint8_t kKeyUpdate = 24;
constexpr std::uint8_t kWarning = 1;
constexpr std::uint8_t kFatal = 2;
constexpr std::uint8_t kCloseNotify = 0;
constexpr std::uint8_t kUnexpectedMessage = 10;
constexpr std::uint8_t kBadRecordMac = 20;
constexpr std::uint8_t kRecordOverflow = 22;
constexpr std::uint8_t kIllegalParameter = 47;
constexpr std::uint8_t kDecodeError = 50;
constexpr std::uint8_t kUserCanceled = 90;

// RFC 8446 4.6.1: lifetime, age_add, nonce, ticket, extensions, at their least and at their most.
constexpr std::uint32_t kMinTicket = 4 + 4 + 1 + 2 + 1 + 2;
constexpr std::uint32_t kMaxTicket = 4 + 4 + 1 + 255 + 2 + 65535 + 2 + 65534;

Ending violation(std::uint8_t alert, std::string_view reason) { return {Ending::Cause::violation, alert, reason}; }

std::size_t body_size(const std::uint8_t* header) { return load_be16(header + 3); }

}  // namespace

RecordLayer::RecordLayer(Role role, const Secrets& secrets, std::uint64_t records_per_key, MakeAead make_aead)
    : role_(role),
      records_per_key_(records_per_key),
      read_(role == Role::client ? secrets.server : secrets.client, make_aead),
      write_(role == Role::client ? secrets.client : secrets.server, make_aead) {}

void RecordLayer::seal(ByteView plain, ByteQueue& out) {
  const std::size_t records = (plain.size() + kMaxRecordPlaintext - 1) / kMaxRecordPlaintext;
  if (owes_key_update_ || write_.records() + records > records_per_key_) change_key(out);
  out.prepare(plain.size() + records * kOverhead);
  while (!plain.empty()) {
    const ByteView content = plain.first(std::min(plain.size(), kMaxRecordPlaintext));
    seal_record(ContentType::application_data, content, out);
    plain = plain.subspan(content.size());
  }
}

void RecordLayer::seal_record(ContentType type, ByteView content, ByteQueue& out) {
  std::uint8_t* const record = out.prepare(content.size() + kOverhead).data();
  // RFC 8446 5.2: outside, every record is application data of TLS 1.2.
  record[0] = static_cast<std::uint8_t>(ContentType::application_data);
  store_be16(record + 1, 0x0303);
  store_be16(record + 3, static_cast<std::uint16_t>(content.size() + kOverhead - kHeader));
  write_.seal({record, kHeader}, content, static_cast<std::uint8_t>(type), record + kHeader);
  out.commit(content.size() + kOverhead);
}

// RFC 8446 4.6.3: the last record of the old key.
void RecordLayer::change_key(ByteQueue& out) {
  constexpr std::uint8_t kNotRequested = 0;
  constexpr std::array<std::uint8_t, 5> kMessage{kKeyUpdate, 0, 0, 1, kNotRequested};
  seal_record(ContentType::handshake, kMessage, out);
  write_.advance();
  owes_key_update_ = false;
}

void RecordLayer::close(ByteQueue& out) {
  constexpr std::array<std::uint8_t, 2> kAlert{kWarning, kCloseNotify};
  seal_record(ContentType::alert, kAlert, out);
}

std::optional<Ending> RecordLayer::open(ByteView bytes, ByteQueue& plain, ByteQueue& out) {
  std::optional<Ending> ending;
  plain.prepare(incomplete_.size() + bytes.size());
  while (!ending && !peer_closed_ && !bytes.empty()) {
    // One that began earlier, or whose end is not here.
    if (!incomplete_.empty() || bytes.size() < kHeader || bytes.size() < kHeader + body_size(bytes.data())) {
      bytes = bytes.subspan(complete(bytes));
      if (incomplete_.size() < kHeader) continue;
      ending = check_header(incomplete_.data());
      if (ending || incomplete_.size() < kHeader + body_size(incomplete_.data())) continue;
      ending = open_record(incomplete_, plain);
      incomplete_.clear();
    } else {
      const ByteView record = bytes.first(kHeader + body_size(bytes.data()));
      bytes = bytes.subspan(record.size());
      ending = check_header(record.data());
      if (!ending) ending = open_record(record, plain);
    }
  }
  if (ending && ending->cause != Ending::Cause::alert)
    seal_record(ContentType::alert, std::array<std::uint8_t, 2>{kFatal, ending->alert}, out);
  return ending;
}

// Takes what the header lacks, or else what the body lacks. Says how many bytes that were.
std::size_t RecordLayer::complete(ByteView bytes) {
  const std::size_t whole = incomplete_.size() < kHeader ? kHeader : kHeader + body_size(incomplete_.data());
  const std::size_t taken = std::min(bytes.size(), whole - incomplete_.size());
  incomplete_.reserve(whole);
  incomplete_.insert(incomplete_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
  return taken;
}

// RFC 8446 5.1 has the version ignored; as associated data it is covered by the tag all the same.
std::optional<Ending> RecordLayer::check_header(const std::uint8_t* header) const {
  if (header[0] != static_cast<std::uint8_t>(ContentType::application_data))
    return violation(kUnexpectedMessage, "a record that is not encrypted after the handshake");
  if (body_size(header) > kMaxBody) return violation(kRecordOverflow, "a record longer than TLS allows");
  if (body_size(header) < kAeadTagSize) return violation(kBadRecordMac, "a record too short for TLS 1.3");
  return std::nullopt;
}

std::optional<Ending> RecordLayer::open_record(ByteView record, ByteQueue& plain) {
  const ByteView sealed = record.subspan(kHeader);
  const MutableByteView inner = plain.prepare(sealed.size()).first(sealed.size() - kAeadTagSize);
  if (!read_.open(record.first(kHeader), sealed, inner.data()))
    return Ending{Ending::Cause::damaged, kBadRecordMac, "a record that is not authentic"};

  // RFC 8446 5.4: the type is the last byte that is not zero.
  std::size_t size = inner.size();
  while (size != 0 && inner[size - 1] == 0) --size;
  if (size == 0) return violation(kUnexpectedMessage, "a record without content type");
  const ByteView content = inner.first(--size);
  switch (static_cast<ContentType>(inner[size])) {
    case ContentType::application_data: return take_data(content.size(), plain);
    case ContentType::alert: return take_alert(content);
    case ContentType::handshake: return take_handshake(content);
    default: return violation(kUnexpectedMessage, "a record of a type that is out of place");
  }
}

std::optional<Ending> RecordLayer::take_data(std::size_t size, ByteQueue& plain) {
  if (in_message()) return violation(kUnexpectedMessage, "data in the middle of a handshake message");
  if (size == 0) return count_silence();
  silent_records_ = 0;
  bytes_received_ += size;
  plain.commit(size);
  return std::nullopt;
}

std::optional<Ending> RecordLayer::take_alert(ByteView content) {
  if (content.size() != 2) return violation(kDecodeError, "an alert that is none");
  const std::uint8_t alert = content[1];
  // RFC 8446 6: of all alerts only these two are no errors, whatever level they claim.
  if (alert != kCloseNotify && alert != kUserCanceled) return Ending{Ending::Cause::alert, alert, {}};
  if (in_message()) return violation(kUnexpectedMessage, "an alert in the middle of a handshake message");
  if (alert == kUserCanceled) return count_silence();
  peer_closed_ = true;
  return std::nullopt;
}

std::optional<Ending> RecordLayer::count_silence() {
  if (++silent_records_ > kMaxSilentRecords) return violation(kUnexpectedMessage, "too many empty records");
  return std::nullopt;
}

std::optional<Ending> RecordLayer::take_handshake(ByteView content) {
  if (content.empty()) return violation(kUnexpectedMessage, "an empty handshake record");
  while (!content.empty()) {
    if (ticket_left_ != 0) {
      const auto skipped = static_cast<std::uint32_t>(std::min<std::size_t>(ticket_left_, content.size()));
      ticket_left_ -= skipped;
      content = content.subspan(skipped);
      continue;
    }
    message_[message_size_++] = content.front();
    content = content.subspan(1);
    const bool is_ticket = message_[0] == kNewSessionTicket && role_ == Role::client;
    if (!is_ticket && message_[0] != kKeyUpdate)
      return violation(kUnexpectedMessage, "a handshake message that is out of place");
    if (message_size_ == 4) {
      const std::uint32_t size = load_be32(message_.data()) & 0xFFFFFF;
      if (is_ticket ? size < kMinTicket || size > kMaxTicket : size != 1)
        return violation(kDecodeError, "a handshake message of a wrong length");
      if (is_ticket) {
        ticket_left_ = size;
        message_size_ = 0;
      }
    } else if (message_size_ == 5) {
      message_size_ = 0;
      // RFC 8446 5.1: what follows has another key.
      if (!content.empty()) return violation(kUnexpectedMessage, "a KeyUpdate that does not end its record");
      return take_key_update(message_[4]);
    }
  }
  return std::nullopt;
}

// RFC 8446 4.6.3: an answer is due before our next data, one for however many requests.
std::optional<Ending> RecordLayer::take_key_update(std::uint8_t request) {
  if (request > 1) return violation(kIllegalParameter, "a KeyUpdate that asks for what does not exist");
  if (changes_keys_without_need(++key_updates_, bytes_received_))
    return Ending{Ending::Cause::key_updates, kUnexpectedMessage, "too many KeyUpdates"};
  read_.advance();
  owes_key_update_ = owes_key_update_ || request == 1;
  return std::nullopt;
}

void RecordLayer::release_idle_memory() {
  read_.release();
  write_.release();
  incomplete_.shrink_to_fit();
}

}  // namespace penstock::tls
