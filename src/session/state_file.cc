#include "session/state_file.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "base/atomic_file.h"
#include "base/digest.h"
#include "base/log.h"

namespace penstock::session {
namespace {

constexpr std::size_t kMaxFileSize = 256UL * 1024 * 1024;
constexpr int kVersion = 1;

}  // namespace

std::string to_json(const std::vector<SavedSession>& sessions) {
  nlohmann::ordered_json document;
  document["version"] = kVersion;
  document["sessions"] = nlohmann::ordered_json::array();
  for (const SavedSession& session : sessions) {
    document["sessions"].push_back({{"key", to_hex(session.key)},
                                    {"credential", session.credential},
                                    {"epoch", session.epoch},
                                    {"address", session.address.to_string()}});
  }
  return document.dump(1) + "\n";
}

Result<std::vector<SavedSession>> parse_saved_sessions(std::string_view json) {
  try {
    const auto document = nlohmann::json::parse(json);
    if (document.at("version") != kVersion)
      return fail(ErrorCode::invalid_argument, "it was written by another version of Penstock");
    std::vector<SavedSession> sessions;
    for (const auto& entry : document.at("sessions")) {
      SavedSession session;
      PENSTOCK_TRY(const auto key, from_hex(entry.at("key").get<std::string>()));
      if (key.size() != session.key.size()) return fail(ErrorCode::invalid_argument, "a key is not 16 bytes");
      std::copy(key.begin(), key.end(), session.key.begin());
      session.credential = entry.at("credential").get<std::string>();
      session.epoch = entry.at("epoch").get<std::uint64_t>();
      PENSTOCK_TRY(session.address, IpAddress::parse(entry.at("address").get<std::string>()));
      sessions.push_back(std::move(session));
    }
    return sessions;
  } catch (const std::exception& error) {
    return fail(ErrorCode::invalid_argument, error.what());
  }
}

// The latest list waits in a slot; the thread takes it from there.
struct StateFile::Writer {
  explicit Writer(std::string path) : path_(std::move(path)), thread_([this] { run(); }) {}
  ~Writer() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  void put(std::vector<SavedSession> sessions) {
    {
      const std::lock_guard lock(mutex_);
      next_ = std::move(sessions);
    }
    wake_.notify_one();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return next_ || stopping_; });
      if (!next_) return;
      const auto sessions = *std::exchange(next_, std::nullopt);
      lock.unlock();
      if (auto written = write_file_atomically(path_, as_bytes(to_json(sessions)), 0600); !written)
        log::error("sessions not saved", {{"error", written.error().message}});
      lock.lock();
    }
  }

  std::string path_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::optional<std::vector<SavedSession>> next_;
  bool stopping_ = false;
  std::thread thread_;
};

StateFile::StateFile(std::string path) : path_(std::move(path)) {
  if (!path_.empty()) writer_ = std::make_unique<Writer>(path_);
}

StateFile::~StateFile() = default;

Result<std::vector<SavedSession>> StateFile::load() const {
  if (path_.empty()) return std::vector<SavedSession>{};
  auto text = read_whole_file(path_, kMaxFileSize);
  if (!text && text.error().code == ErrorCode::not_found) return std::vector<SavedSession>{};
  if (!text) return std::unexpected(std::move(text).error());
  auto sessions = parse_saved_sessions(*text);
  if (!sessions) return fail(sessions.error().code, path_ + ": " + sessions.error().message + "; remove it to go on");
  return sessions;
}

void StateFile::save(std::vector<SavedSession> sessions) {
  if (writer_) writer_->put(std::move(sessions));
}

}  // namespace penstock::session
