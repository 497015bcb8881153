// Structured log lines: a level, an event in words, and named fields.
//
//   log::info("session attached", {{"session", id}, {"client", name}, {"address", address}});
//
// prints one line of logfmt (or JSON), to standard error:
//
//   ts=2026-11-21T08:00:00.123Z level=info msg="session attached" session=7 client=alice address=10.100.0.2
//
// A secret (token, lease, key, password) is never a field: log the name of the credential instead. Per-packet events
// are counted (router/drop.h); only at debug level are packets logged, and callers ask enabled() before they build the
// fields. Any thread; a line is written whole.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/result.h"

namespace penstock::log {

enum class Level : std::uint8_t { debug, info, warn, error };
enum class Format : std::uint8_t { logfmt, json };

// "debug", "info", "warn", "error".
Result<Level> parse_level(std::string_view text);
std::string_view to_string(Level level);

// A field's value: text, a number, a truth value, or anything with to_string().
class Value {
 public:
  Value(std::string_view text) : text_(text) {}
  Value(const std::string& text) : text_(text) {}
  Value(const char* text) : text_(text) {}
  Value(bool value) : text_(value ? "true" : "false"), bare_(true) {}
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  Value(T value) : text_(std::to_string(value)), bare_(true) {}
  Value(double value);
  template <typename T>
    requires requires(const T& t) {
      { t.to_string() } -> std::convertible_to<std::string>;
    }
  Value(const T& value) : text_(value.to_string()) {}

  const std::string& text() const { return text_; }
  // A number or truth value: unquoted in JSON.
  bool bare() const { return bare_; }

 private:
  std::string text_;
  bool bare_ = false;
};

struct Field {
  std::string_view name;
  Value value;
};
using Fields = std::initializer_list<Field>;

// Before the first call the level is info and the format logfmt.
void configure(Level level, Format format);
bool enabled(Level level);
void write(Level level, std::string_view message, Fields fields);

inline void debug(std::string_view message, Fields fields = {}) {
  if (enabled(Level::debug)) write(Level::debug, message, fields);
}
inline void info(std::string_view message, Fields fields = {}) { write(Level::info, message, fields); }
inline void warn(std::string_view message, Fields fields = {}) { write(Level::warn, message, fields); }
inline void error(std::string_view message, Fields fields = {}) { write(Level::error, message, fields); }

// Tests read what was logged: while one of these lives, lines go to it instead of standard error.
class Capture {
 public:
  Capture();
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  std::string text() const;
  bool contains(std::string_view needle) const { return text().find(needle) != std::string::npos; }
};

}  // namespace penstock::log
