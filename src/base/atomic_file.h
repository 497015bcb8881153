// Small files that must never be seen half written: keys, leases, state that outlives a restart.
//
// A write goes to a new file beside the target, reaches the disk, takes the target's name in one step, and then the
// directory reaches the disk: after a power cut there is the old content or the new, never a mixture. Two writers at a
// time are safe; the last rename wins. A target that is a symbolic link is replaced by the file, not followed.
//
// Errors      Every message begins with the path it is about.
// Threads     any.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace penstock {

// `mode` is exactly what the file gets, whatever the umask and whatever the old file had: 0600 for secrets.
// The old content stays where anything fails, and nothing else is left behind.
Result<void> write_file_atomically(const std::string& path, ByteView content, mode_t mode);

// The whole of a regular file, or of a pipe up to its end. Refusals: not_found, permission_denied, exhausted when it
// is larger than `max_size` bytes, invalid_argument for a directory.
Result<std::string> read_whole_file(const std::string& path, std::size_t max_size);

// A file that decides who may do what is no better than those who may change it: permission_denied when somebody but
// its owner may write to it, or when its owner is neither root nor this process's user.
Result<void> refuse_if_writable_by_others(const std::string& path);

}  // namespace penstock
