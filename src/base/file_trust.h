// Whom one believes by believing a file: everybody who may change it. POSIX; atomic_file.h has what every system has.
//
// Believed are root, this process's user, and whoever asked sudo for this process ($SUDO_UID: nobody can set that for a
// process which is not theirs already). A file is refused when anybody else
//   owns it, or owns a directory on the way to it from / on, since what is in a directory can be exchanged by whoever
//   may write to that, were it a whole tree;
//   may write to it as one of its group, or as anybody;
//   may so write to one of those directories, unless that has the sticky bit, which leaves what is in it to its owners
//   (/tmp).
// A symbolic link, at the end or on the way, is followed step by step: its owner must be believed, and so must the
// directories on the way to what it names. Pipes and devices (`--config <(...)`) are not looked at: whoever started us
// opened them.
//
// Races       The way is walked from / downwards, so each name is looked up where nobody who is not believed can change
//             it any more, and the same path opened afterwards leads to what was looked at. Only those who are believed
//             could still exchange it in between. Not seen: who has held the file open for writing since a time when
//             its mode was looser, and what a network's file server does by itself.
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
