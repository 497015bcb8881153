// The forms of config_reader.h: what each kind of value must look like.
#include <algorithm>
#include <charconv>

#include "base/config_reader.h"
#include "base/in_quotes.h"
#include "base/units.h"

namespace penstock::form {
namespace {

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return lower;
}

// "on", "off", or nothing where the text is no truth value.
std::string_view truth_word(std::string_view text) {
  const std::string lower = lower_case(text);
  if (lower == "true" || lower == "yes" || lower == "on") return "on";
  if (lower == "false" || lower == "no" || lower == "off") return "off";
  return {};
}

}  // namespace

std::unexpected<Error> expected(std::string_view what, const Node& got) {
  std::string message = "expected " + std::string(what) + ", got ";
  switch (got.kind) {
    case Node::Kind::null: message += "nothing"; break;
    case Node::Kind::scalar: message += in_quotes(got.text); break;
    case Node::Kind::sequence: message += "a list"; break;
    case Node::Kind::map: message += "a section"; break;
  }
  return fail(ErrorCode::invalid_argument, std::move(message));
}

Result<std::string> text(const Node& node) {
  if (!node.is_scalar()) return expected("text", node);
  if (node.text.empty()) return fail(ErrorCode::invalid_argument, "must not be empty");
  return node.text;
}

Result<std::string> secret(const Node& node) { return text(node); }

Result<bool> flag(const Node& node) {
  const std::string_view word = node.is_scalar() ? truth_word(node.text) : std::string_view();
  if (word.empty()) return expected("true or false", node);
  if (node.quoted) return expected("true or false without quotes", node);
  return word == "on";
}

Result<IpAddress> address(const Node& node) {
  if (node.is_scalar()) {
    if (auto address = IpAddress::parse(node.text)) return address;
  }
  return expected("an IP address such as 10.100.0.1", node);
}

Result<Prefix> prefix(const Node& node) {
  if (node.is_scalar()) {
    auto prefix = Prefix::parse(node.text);
    // Where the address is one, the parser's own message says what is wrong with the rest.
    if (prefix || IpAddress::parse(std::string_view(node.text).substr(0, node.text.find('/')))) return prefix;
  }
  return expected("a prefix such as 10.100.0.0/24", node);
}

Result<Endpoint> endpoint(const Node& node) {
  if (node.is_scalar()) {
    if (auto endpoint = Endpoint::parse(node.text)) return endpoint;
  }
  return expected("an address with a port such as 0.0.0.0:443", node);
}

Result<int> IntegerForm::operator()(const Node& node) const {
  if (node.is_scalar() && !node.quoted) {
    int value = 0;
    const char* const last = node.text.data() + node.text.size();
    const auto [end, error] = std::from_chars(node.text.data(), last, value);
    if (error == std::errc{} && end == last && value >= least && value <= most) return value;
  }
  const std::string range = "a number from " + std::to_string(least) + " to " + std::to_string(most);
  return expected(node.quoted ? range + " without quotes" : range, node);
}

Result<std::chrono::milliseconds> DurationForm::operator()(const Node& node) const {
  if (!node.is_scalar()) return expected("a duration such as 30s or 1m30s", node);
  PENSTOCK_TRY(const auto duration, parse_duration(node.text));
  if (duration >= least && duration <= most) return duration;
  return expected("a duration from " + duration_to_string(least) + " to " + duration_to_string(most), node);
}

Result<std::uint64_t> SizeForm::operator()(const Node& node) const {
  if (!node.is_scalar()) return expected("a size such as 64KiB or 1MiB", node);
  PENSTOCK_TRY(const std::uint64_t size, parse_size(node.text));
  if (size >= least && size <= most) return size;
  return expected("a size from " + size_to_string(least) + " to " + size_to_string(most), node);
}

Result<std::size_t> index_of_word(const Node& node, const std::vector<std::string_view>& words) {
  if (node.is_scalar()) {
    auto found = std::ranges::find(words, node.text);
    if (found == words.end() && !node.quoted) found = std::ranges::find(words, truth_word(node.text));
    if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
  }
  std::string choices;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i != 0) choices += i + 1 == words.size() ? " or " : ", ";
    choices += words[i];
  }
  return expected(choices, node);
}

}  // namespace penstock::form
