#include "websocket/http_head.h"

#include <algorithm>

namespace penstock::websocket {
namespace {

char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_token_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

// Spaces and tabs around a value are no part of it (RFC 9110 section 5.5).
std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

}  // namespace

std::expected<std::optional<std::string>, HeadProblem> HeadReader::take_line(ByteQueue& in) {
  const ByteView head = in.view().first(std::min(in.size(), kMaxHead - taken_));
  for (; scanned_ < head.size(); ++scanned_) {
    const std::uint8_t byte = head[scanned_];
    if (byte == '\r') {
      if (scanned_ + 1 == head.size()) break;  // the next byte decides
      if (head[scanned_ + 1] != '\n') return std::unexpected(HeadProblem::malformed);
      std::string line(as_text(head.first(scanned_)));
      const std::size_t size = line.size() + 2;
      in.consume(size);
      taken_ += size;
      scanned_ = 0;
      return line;
    }
    if ((byte < 0x20 && byte != '\t') || byte == 0x7F) return std::unexpected(HeadProblem::malformed);
  }
  if (taken_ + head.size() == kMaxHead) return std::unexpected(HeadProblem::too_large);
  return std::nullopt;
}

std::expected<void, HeadProblem> append_header(std::string_view line, HttpHeaders& headers) {
  if (headers.size() == kMaxHeaders) return std::unexpected(HeadProblem::too_large);
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
    return std::unexpected(HeadProblem::malformed);
  }
  std::string name(line.substr(0, colon));
  std::ranges::transform(name, name.begin(), to_lower);
  headers.emplace_back(std::move(name), trim(line.substr(colon + 1)));
  return {};
}

std::optional<std::string_view> find_header(const HttpHeaders& headers, std::string_view name) {
  const auto found = std::ranges::find(headers, name, &HttpHeaders::value_type::first);
  if (found == headers.end()) return std::nullopt;
  return found->second;
}

bool has_token(const HttpHeaders& headers, std::string_view name, std::string_view token) {
  for (const auto& [field, value] : headers) {
    if (field != name) continue;
    std::string_view rest = value;
    while (true) {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      if (equals_ignoring_case(trim(rest.substr(0, comma)), token)) return true;
      if (comma == rest.size()) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return false;
}

bool is_token(std::string_view text) { return !text.empty() && std::ranges::all_of(text, is_token_character); }

bool equals_ignoring_case(std::string_view left, std::string_view right) {
  return std::ranges::equal(left, right, {}, to_lower, to_lower);
}

}  // namespace penstock::websocket
