// Keeps the list of sessions on disk, so that a restarted gateway knows whose address is whose.
//
// One JSON document, replaced atomically (written beside, synced, renamed): a reader sees the old list or the new one,
// never half of one. Writing happens on a thread of its own, the latest list at a time: a list that is overtaken while
// the disk is busy is never written. So a crash loses at most what changed in the last moments; a client with a lease
// loses nothing even then (auth/lease_ticket.h).
//
// Threads   save() from one thread; load() before the first save().
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ip.h"
#include "base/result.h"

namespace penstock::session {

struct SavedSession {
  std::array<std::uint8_t, 16> key{};
  std::string credential;
  std::uint64_t epoch = 0;
  IpAddress address;

  friend bool operator==(const SavedSession&, const SavedSession&) = default;
};

class StateFile {
 public:
  // An empty path keeps nothing (tests).
  explicit StateFile(std::string path);
  // Writes what was saved last, then returns.
  ~StateFile();
  StateFile(const StateFile&) = delete;
  StateFile& operator=(const StateFile&) = delete;

  // Nothing saved yet is an empty list. Refusal: a file that cannot be read or is not ours, naming it and the way out.
  Result<std::vector<SavedSession>> load() const;
  void save(std::vector<SavedSession> sessions);

 private:
  struct Writer;
  std::string path_;
  std::unique_ptr<Writer> writer_;
};

std::string to_json(const std::vector<SavedSession>& sessions);
// invalid_argument for anything that to_json() does not write.
Result<std::vector<SavedSession>> parse_saved_sessions(std::string_view json);

}  // namespace penstock::session
