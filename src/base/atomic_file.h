// Small files that must never be seen half written: keys, leases, state that outlives a restart.
//
// A write goes to a new file beside the target, reaches the disk, takes the target's name in one step, and then the
// directory reaches the disk: after a power cut there is the old content or the new, never a mixture. Two writers at a
// time are safe; the last rename wins. A target that is a symbolic link is replaced by the file, not followed.
//
// On Windows  Access lists stand for modes: one that gives others nothing (0600, 0640) makes a file for this user,
//             SYSTEM and Administrators alone; with any other the file has what its directory passes on. A target that
//             somebody holds open without sharing its deletion cannot be replaced: a refusal. Paths are UTF-8.
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

// A file that decides who may do what is no better than those who may change it: permission_denied when that is anybody
// but root and this process's user, with the file's mode and owner and the command that mends it. file_trust.h tells
// what counts, of the file and of every directory on the way to it. (On Windows SYSTEM, Administrators and
// TrustedInstaller count as root, and only the file's own directory is looked at.)
Result<void> refuse_if_writable_by_others(const std::string& path);

}  // namespace penstock
