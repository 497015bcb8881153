// The head of an HTTP/1.1 message (RFC 9112), line by line, as strictly as a handshake can afford.
//
// Lines end in CR LF and hold no other control character than a tab; nothing is folded over two lines; names are
// tokens with the colon right behind. Whatever two implementations could read in two ways is malformed, and it is
// refused with the byte that makes it so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace penstock::websocket {

// Bounds of a whole head, start line included.
inline constexpr std::size_t kMaxHead = 8192;
inline constexpr std::size_t kMaxHeaders = 64;

// Fields in the order of the wire, names in lower case, values without the space around them.
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

enum class HeadProblem : std::uint8_t { too_large, malformed };

// Takes the lines of one head off a queue.
class HeadReader {
 public:
  // The next line without its CR LF, consumed; nothing where it is not whole yet. The empty line ends the head.
  std::expected<std::optional<std::string>, HeadProblem> take_line(ByteQueue& in);

 private:
  std::size_t taken_ = 0;    // bytes of the lines before
  std::size_t scanned_ = 0;  // bytes of this line that were looked at
};

// Splits "Name: value" and appends it.
std::expected<void, HeadProblem> append_header(std::string_view line, HttpHeaders& headers);

// The first field of this lower-case name.
std::optional<std::string_view> find_header(const HttpHeaders& headers, std::string_view name);

// Whether one of the fields `name`, read as comma-separated lists, holds `token` in any case.
bool has_token(const HttpHeaders& headers, std::string_view name, std::string_view token);

// RFC 9110 section 5.6.2.
bool is_token(std::string_view text);

bool equals_ignoring_case(std::string_view left, std::string_view right);

}  // namespace penstock::websocket
