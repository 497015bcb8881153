#include "base/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <mutex>

namespace penstock::log {
namespace {

class CaptureSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::string text() {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    text_.append(message.payload.data(), message.payload.size());
    text_ += '\n';
  }
  void flush_() override {}
  std::string text_;
};

struct State {
  std::atomic<Level> level{Level::info};
  std::atomic<Format> format{Format::logfmt};
  std::mutex mutex;  // guards logger and capture against a Capture coming or going
  std::shared_ptr<spdlog::logger> logger = make(std::make_shared<spdlog::sinks::stderr_sink_mt>());
  std::shared_ptr<CaptureSink> capture;

  static std::shared_ptr<spdlog::logger> make(spdlog::sink_ptr sink) {
    auto logger = std::make_shared<spdlog::logger>("penstock", std::move(sink));
    logger->set_pattern("%v");
    logger->set_level(spdlog::level::trace);
    logger->flush_on(spdlog::level::trace);
    return logger;
  }
};

State& state() {
  static State instance;
  return instance;
}

// Quoted where logfmt or JSON asks for it; control characters never reach a terminal raw.
void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          std::array<char, 8> escape{};
          std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
          out += escape.data();
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

bool plain(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == '"' || c == '=' || c == '\\' || c == 0x7F) return false;
  }
  return true;
}

std::string timestamp() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm parts{};
#ifdef _WIN32
  gmtime_s(&parts, &seconds);
#else
  gmtime_r(&seconds, &parts);
#endif
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", parts.tm_year + 1900, parts.tm_mon + 1,
                parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, static_cast<int>(millis));
  return text.data();
}

}  // namespace

Result<Level> parse_level(std::string_view text) {
  for (const Level level : {Level::debug, Level::info, Level::warn, Level::error}) {
    if (text == to_string(level)) return level;
  }
  return fail(ErrorCode::invalid_argument, "\"" + std::string(text) + "\" is not one of debug, info, warn, error");
}

std::string_view to_string(Level level) {
  switch (level) {
    case Level::debug: return "debug";
    case Level::info: return "info";
    case Level::warn: return "warn";
    case Level::error: return "error";
  }
  return "info";
}

Value::Value(double value) : bare_(true) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.6g", value);
  text_ = text.data();
}

void configure(Level level, Format format) {
  state().level = level;
  state().format = format;
}

bool enabled(Level level) { return level >= state().level.load(std::memory_order_relaxed); }

void write(Level level, std::string_view message, Fields fields) {
  if (!enabled(level)) return;
  std::string line;
  line.reserve(256);
  const bool json = state().format.load(std::memory_order_relaxed) == Format::json;
  if (json) {
    line += "{\"ts\":\"" + timestamp() + "\",\"level\":\"";
    line += to_string(level);
    line += "\",\"msg\":";
    append_quoted(line, message);
    for (const Field& field : fields) {
      line += ',';
      append_quoted(line, field.name);
      line += ':';
      if (field.value.bare()) {
        line += field.value.text();
      } else {
        append_quoted(line, field.value.text());
      }
    }
    line += '}';
  } else {
    line += "ts=" + timestamp() + " level=";
    line += to_string(level);
    line += " msg=";
    append_quoted(line, message);
    for (const Field& field : fields) {
      line += ' ';
      line += field.name;
      line += '=';
      if (plain(field.value.text())) {
        line += field.value.text();
      } else {
        append_quoted(line, field.value.text());
      }
    }
  }
  std::shared_ptr<spdlog::logger> logger;
  {
    const std::lock_guard lock(state().mutex);
    logger = state().logger;
  }
  logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

Capture::Capture() {
  auto sink = std::make_shared<CaptureSink>();
  const std::lock_guard lock(state().mutex);
  state().capture = sink;
  state().logger = State::make(sink);
}

Capture::~Capture() {
  const std::lock_guard lock(state().mutex);
  state().capture.reset();
  state().logger = State::make(std::make_shared<spdlog::sinks::stderr_sink_mt>());
}

std::string Capture::text() const {
  const std::lock_guard lock(state().mutex);
  return state().capture->text();
}

}  // namespace penstock::log
