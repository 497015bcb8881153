#include "websocket/retry_after.h"

#include <algorithm>
#include <array>

namespace penstock::websocket {
namespace {

using namespace std::chrono;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes a date apart from its front. After the first thing that is not as asked for, all else is nonsense too.
class DateReader {
 public:
  explicit DateReader(std::string_view text) : rest_(text) {}

  void skip(std::string_view expected) {
    good_ = good_ && rest_.starts_with(expected);
    if (good_) rest_.remove_prefix(expected.size());
  }
  // `width` digits; asctime has a space in place of a leading zero.
  int number(std::size_t width, bool padded_by_space = false) {
    good_ = good_ && rest_.size() >= width;
    int value = 0;
    for (std::size_t i = 0; good_ && i < width; ++i) {
      const char c = padded_by_space && i == 0 && rest_[0] == ' ' ? '0' : rest_[i];
      good_ = is_digit(c);
      value = value * 10 + (c - '0');
    }
    if (good_) rest_.remove_prefix(width);
    return value;
  }
  // The place of the word that comes now among `words`, in their case.
  template <std::size_t kCount>
  unsigned one_of(const std::array<std::string_view, kCount>& words) {
    for (std::size_t i = 0; good_ && i < kCount; ++i) {
      if (!rest_.starts_with(words[i])) continue;
      rest_.remove_prefix(words[i].size());
      return static_cast<unsigned>(i);
    }
    good_ = false;
    return 0;
  }
  bool ended_well() const { return good_ && rest_.empty(); }

 private:
  std::string_view rest_;
  bool good_ = true;
};

constexpr std::array<std::string_view, 7> kDays{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
constexpr std::array<std::string_view, 7> kLongDays{"Monday", "Tuesday",  "Wednesday", "Thursday",
                                                    "Friday", "Saturday", "Sunday"};
constexpr std::array<std::string_view, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct Date {
  int year = 0;
  unsigned month = 0;  // 0: January
  int day = 0;
  int hour = 0;
  int minute = 0;
  int second = 0;

  void read_time(DateReader& reader) {
    hour = reader.number(2);
    reader.skip(":");
    minute = reader.number(2);
    reader.skip(":");
    second = reader.number(2);
  }
  std::optional<WallTime> time() const {
    const year_month_day date{std::chrono::year(year), std::chrono::month(month + 1),
                              std::chrono::day(static_cast<unsigned>(day))};
    if (!date.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;  // 60: a leap second
    return sys_days(date) + hours(hour) + minutes(minute) + seconds(second);
  }
};

std::optional<WallTime> parse_imf_fixdate(std::string_view text) {
  DateReader reader(text);
  Date date;
  reader.one_of(kDays);
  reader.skip(", ");
  date.day = reader.number(2);
  reader.skip(" ");
  date.month = reader.one_of(kMonths);
  reader.skip(" ");
  date.year = reader.number(4);
  reader.skip(" ");
  date.read_time(reader);
  reader.skip(" GMT");
  return reader.ended_well() ? date.time() : std::nullopt;
}

std::optional<WallTime> parse_rfc850(std::string_view text, WallTime now) {
  DateReader reader(text);
  Date date;
  reader.one_of(kLongDays);
  reader.skip(", ");
  date.day = reader.number(2);
  reader.skip("-");
  date.month = reader.one_of(kMonths);
  reader.skip("-");
  const int short_year = reader.number(2);
  reader.skip(" ");
  date.read_time(reader);
  reader.skip(" GMT");
  const int latest = static_cast<int>(year_month_day(floor<days>(now)).year()) + 50;
  date.year = latest - (latest - short_year) % 100;
  return reader.ended_well() ? date.time() : std::nullopt;
}

std::optional<WallTime> parse_asctime(std::string_view text) {
  DateReader reader(text);
  Date date;
  reader.one_of(kDays);
  reader.skip(" ");
  date.month = reader.one_of(kMonths);
  reader.skip(" ");
  date.day = reader.number(2, true);
  reader.skip(" ");
  date.read_time(reader);
  reader.skip(" ");
  date.year = reader.number(4);
  return reader.ended_well() ? date.time() : std::nullopt;
}

}  // namespace

std::optional<WallTime> parse_http_date(std::string_view text, WallTime now) {
  if (const auto time = parse_imf_fixdate(text)) return time;
  if (const auto time = parse_rfc850(text, now)) return time;
  return parse_asctime(text);
}

std::optional<std::chrono::seconds> retry_after(const UpgradeResponse& response, WallTime now) {
  if (response.status != 429 && response.status != 503) return std::nullopt;
  const auto text = response.find("retry-after");
  if (!text || text->empty()) return std::nullopt;
  if (std::ranges::all_of(*text, is_digit)) {
    seconds delay{0};
    for (const char c : *text) delay = std::min(delay * 10 + seconds(c - '0'), kLongestRetryAfter);
    return delay;
  }
  const auto at = parse_http_date(*text, now);
  if (!at) return std::nullopt;
  return std::clamp(ceil<seconds>(*at - now), seconds(0), kLongestRetryAfter);
}

}  // namespace penstock::websocket
