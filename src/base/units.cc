#include "base/units.h"

#include <array>
#include <charconv>
#include <optional>

#include "base/in_quotes.h"

namespace penstock {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::array kDurations = {Unit{"d", 86'400'000}, Unit{"h", 3'600'000}, Unit{"m", 60'000}, Unit{"s", 1'000},
                                   Unit{"ms", 1}};
constexpr std::uint64_t kLongestDuration = 10'000 * kDurations[0].factor;

// The largest first, so that printing finds the one to use.
constexpr std::array kSizes = {Unit{"TiB", 1ULL << 40},
                               Unit{"TB", 1'000'000'000'000},
                               Unit{"GiB", 1ULL << 30},
                               Unit{"GB", 1'000'000'000},
                               Unit{"MiB", 1ULL << 20},
                               Unit{"MB", 1'000'000},
                               Unit{"KiB", 1ULL << 10},
                               Unit{"KB", 1'000},
                               Unit{"B", 1}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes a number off the front of `text`; none where there is no digit, or too many of them.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t value = 0;
  if (text.empty() || !is_digit(text.front())) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

// Takes the letters off the front of `text`.
std::string_view take_letters(std::string_view& text) {
  std::size_t end = 0;
  while (end < text.size() && !is_digit(text[end])) ++end;
  const std::string_view letters = text.substr(0, end);
  text.remove_prefix(end);
  return letters;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::unexpected<Error> refuse(std::string_view what, std::string_view text, std::string_view usual_unit) {
  std::string message = "expected " + std::string(what) + ", got " + in_quotes(text);
  if (is_number(text)) message += "; a number needs a unit, for example " + std::string(text) + std::string(usual_unit);
  return fail(ErrorCode::invalid_argument, std::move(message));
}

}  // namespace

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  const auto refusal = [text] { return refuse("a duration such as 30s or 1m30s", text, "s"); };
  std::string_view rest = text;
  std::uint64_t total = 0;
  const Unit* smallest = nullptr;
  do {
    const auto number = take_number(rest);
    if (!number) return refusal();
    const std::string_view name = take_letters(rest);
    const Unit* unit = nullptr;
    for (const Unit& candidate : kDurations) {
      if (candidate.name == name) unit = &candidate;
    }
    if (unit == nullptr || (smallest != nullptr && unit->factor >= smallest->factor)) return refusal();
    if (*number > (kLongestDuration - total) / unit->factor) {
      return fail(ErrorCode::invalid_argument, in_quotes(text) + " is longer than 10000 days");
    }
    total += *number * unit->factor;
    smallest = unit;
  } while (!rest.empty());
  return std::chrono::milliseconds(total);
}

std::string duration_to_string(std::chrono::milliseconds duration) {
  std::string text;
  auto rest = static_cast<std::uint64_t>(duration.count());
  if (duration.count() < 0) {
    text = "-";
    rest = 0 - rest;
  }
  if (rest == 0) return "0s";
  for (const Unit& unit : kDurations) {
    if (rest < unit.factor) continue;
    text += std::to_string(rest / unit.factor);
    text += unit.name;
    rest %= unit.factor;
  }
  return text;
}

Result<std::uint64_t> parse_size(std::string_view text) {
  std::string_view rest = text;
  const auto number = take_number(rest);
  for (const Unit& unit : kSizes) {
    if (!number || rest != unit.name) continue;
    if (*number > (std::uint64_t{1} << 62) / unit.factor) {
      return fail(ErrorCode::invalid_argument, in_quotes(text) + " is more than any machine holds");
    }
    return *number * unit.factor;
  }
  return refuse("a size such as 64KiB or 1MiB", text, "B");
}

std::string size_to_string(std::uint64_t bytes) {
  for (const Unit& unit : kSizes) {
    if (bytes >= unit.factor && bytes % unit.factor == 0) {
      return std::to_string(bytes / unit.factor) + std::string(unit.name);
    }
  }
  return "0B";
}

}  // namespace penstock
