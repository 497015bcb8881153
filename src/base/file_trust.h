// Whom one believes by believing a file: everybody who may change it. POSIX; atomic_file.h has what every system has.
//
// Believed are root, this process's user, and whoever asked sudo for this process ($SUDO_UID: nobody can set that for a
// process which is not theirs already). A file is refused when anybody else
//   owns it, or owns the directory that it stands in, since a file can be exchanged where it cannot be written to;
//   may write to it as one of its group, or as anybody;
//   may so write to its directory, unless that has the sticky bit, which leaves files to their owners (/tmp).
// Where the path is a symbolic link this holds for the link and its directory, and for the file and its own. Pipes and
// devices (`--config <(...)`) are not looked at: whoever started us opened them.
//
// A private group is nobody else: the one named like a believed user, that user's own, with no further members. Systems
// with umask 002 (Ubuntu) make every file writable by that. So is a group that has no name, with the user's own number.
//
// Threads     any.
#pragma once

#include <string>

#include "base/result.h"

namespace penstock {

// refuse_if_writable_by_others() of atomic_file.h, where the file's owner is believed too, whoever that is: a key that
// is renewed by a user of its own is as good as that user.
Result<void> refuse_if_writable_by_others_than_owner(const std::string& path);

// Whether somebody who is neither its owner nor in its group may read it. False where it cannot be looked at.
bool readable_by_everybody(const std::string& path);

// "mode 0644, owner root, group adm", with numbers where there are no names; empty where it cannot be looked at.
std::string describe_access(const std::string& path);

}  // namespace penstock
