#!/usr/bin/python3
"""Holds every #include below src/ to the architecture in architecture.txt, which says who may include whom.

    test/lint/check_includes.py [--root DIR]     prints FILE:LINE: what is not allowed and why; exit 1 if anything is
    test/lint/check_includes.py --self-test      builds good and bad trees and checks what is said of them

Besides the table there are three rules. Our headers are included by their path from src/, in quotes. A header includes
the C++ standard library and our headers, nothing else: whoever includes it must not pay for Boost or meet the system's
macros; the few that must are `inside` headers, which only .cc files and inside headers of their own room include. And
some rooms include no header of an operating system anywhere.

Tests are free of these three, and of the table except for its `apart` lines.
"""

import argparse
import pathlib
import re
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
STANDARD = re.compile(r"^[a-z_]+$|^c(assert|errno|float|limits|math|stddef|stdint|stdio|stdlib|string|time)$")
POSIX = re.compile(r"^(sys|linux|net|netinet|arpa|asm|libmnl)/|"
                   r"^(unistd|fcntl|poll|pthread|signal|netdb|termios|dirent|sched|syslog|pwd|grp|ifaddrs|dlfcn)\.h$")
WINDOWS = re.compile(r"^(windows|winsock2|ws2tcpip|iphlpapi|bcrypt|aclapi|sddl|winternl|schannel|security|shlobj)\.h$")


def within(room, outer):
    """client/core is within client and within client/core."""
    return room == outer or room.startswith(outer + "/")


class Architecture:
    def __init__(self, text):
        self.allowed, self.apart, self.portable, self.inside = {}, [], [], set()
        self.split, self.nowhere = [], set()
        grants = {}
        for number, line in enumerate(text.splitlines(), 1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            name, colon, rest = line.partition(":")
            if not colon:
                sys.exit(f"architecture.txt:{number}: expected NAME: ROOMS")
            if name == "apart":
                left, _, right = rest.partition("|")
                self.apart += [(a, b) for a in left.split() for b in right.split()]
            elif name == "inside":
                self.inside |= set(rest.split())
            elif name == "no operating system in":
                self.portable += rest.split()
            elif name == "operating system by name in":
                self.split += rest.split()
            elif name == "nowhere":
                self.nowhere |= set(rest.split())
            else:
                grants[name.strip()] = (number, rest.split())
        for room, (number, words) in grants.items():
            rooms = {room}
            for word in words:
                if word == "*":
                    rooms |= set(grants)
                elif word.startswith("-"):
                    rooms = {r for r in rooms if not within(r, word[1:])}
                elif word in grants:
                    rooms.add(word)
                else:
                    sys.exit(f"architecture.txt:{number}: no such room: {word}")
            self.allowed[room] = rooms

    def room_of(self, path):
        """The room of src/PATH: the deepest folder with a line in the table."""
        folder = pathlib.PurePosixPath(path).parent
        while str(folder) != ".":
            if str(folder) in self.allowed:
                return str(folder)
            folder = folder.parent
        return None

    def across(self, room, other):
        return any(within(room, left) and within(other, right) for left, right in self.apart)


def is_test(src, path):
    """Whether src/PATH is for tests: by its name, or as a header by its use of GoogleTest."""
    if re.search(r"_test\.cc$|_testing\.(h|cc)$|(^|/)(test|fake)_[^/]*$", str(path)):
        return True
    return str(path).endswith(".h") and "#include <gtest/" in (src / path).read_text(encoding="utf-8")


def complaints(root, architecture):
    """Yields 'FILE:LINE: words' for each include that is not allowed."""
    src = root / "src"
    for file in sorted(src.rglob("*")):
        if file.suffix not in (".h", ".cc"):
            continue
        path = file.relative_to(src)
        room = architecture.room_of(path)
        if room is None:
            yield f"src/{path}:1: no line of architecture.txt is about the folder {path.parent}"
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if match:
                words = complaint(path, room, match[1], match[2], src, architecture)
                if words:
                    yield f"src/{path}:{number}: {words}"


def complaint(path, room, ours, theirs, src, architecture):
    test = is_test(src, path)
    if theirs:
        if theirs in architecture.nowhere:
            return f"<{theirs}> stands nowhere in the tree, tests included; architecture.txt says why"
        if test:
            return None
        named = path.stem.rsplit("_", 1)[-1]
        if WINDOWS.search(theirs) and named != "windows":
            return f"<{theirs}> belongs to Windows, and the name of this file does not end in _windows"
        system = WINDOWS.search(theirs) or POSIX.search(theirs)
        if system and any(within(room, portable) for portable in architecture.portable):
            return f"<{theirs}> belongs to an operating system, and {room} knows none"
        if POSIX.search(theirs) and theirs != "sys/types.h" and named not in ("posix", "linux") and any(
                within(room, split) for split in architecture.split):
            return f"<{theirs}> belongs to an operating system; in {room} that is for files named _posix or _linux"
        public = path.suffix == ".h" and path.as_posix() not in architecture.inside
        if public and not STANDARD.match(theirs) and theirs != "sys/types.h":
            return f"<{theirs}> in a header; only the C++ standard library may be, move it into the .cc"
        return None
    if ours.startswith("test/"):
        return None if test else f'"{ours}" is for tests, and this is not one'
    if not (src / ours).is_file():
        beside = (src / path).parent / ours
        return (f'"{ours}" is not a path from src/; write "{beside.resolve().relative_to(src)}"' if beside.is_file()
                else f'"{ours}" is not below src/; other libraries\' headers go in <>')
    other = architecture.room_of(ours)
    if other is None:
        return f'"{ours}" is in a folder that no line of architecture.txt is about'
    if architecture.across(room, other):
        return f'"{ours}": {room} and {other} stay apart, in tests too'
    if test:
        return None
    if is_test(src, ours):
        return f'"{ours}" is for tests, and this is not one'
    if ours in architecture.inside:
        if other != room:
            return f'"{ours}" is an inside header of {other}'
        if path.suffix == ".h" and path.as_posix() not in architecture.inside:
            return f'"{ours}" is an inside header; only .cc files and inside headers of {room} may include it'
    if other in architecture.allowed[room]:
        return None
    may = " ".join(sorted(architecture.allowed[room] - {room})) or "nothing but itself"
    return f'"{ours}": {room} may not include {other} (it may: {may})'


SELF_TEST = [
    # (path below src/, text, what must be said of it; None: nothing)
    ("base/ip.h", "#include <string>", None),
    ("base/up.h", '#include "router/port.h"', "base may not include router"),
    ("router/port.h", '#include "base/ip.h"\n#include "router/drop.h"', None),
    ("router/drop.h", "#include <cstdint>", None),
    ("router/port.cc", '#include "egress/tun/tun_port.h"', "router and egress/tun stay apart"),
    ("router/socket.cc", "#include <sys/socket.h>", "belongs to an operating system"),
    ("base/file.cc", "#include <unistd.h>", "for files named _posix or _linux"),
    ("base/file_posix.cc", "#include <unistd.h>", None),
    ("base/file_posix_test.cc", "#include <unistd.h>", None),
    ("base/file.h", "#include <sys/types.h>", None),
    ("base/file_windows.cc", "#include <windows.h>\n#include <bcrypt.h>", None),
    ("net/file.cc", "#include <windows.h>", "does not end in _windows"),
    ("router/ring_test.cc", "#include <semaphore>", "stands nowhere"),
    ("net/socket.cc", "#include <sys/socket.h>\n#include <boost/asio.hpp>", None),
    ("net/socket.h", "#include <boost/asio.hpp>", "in a header"),
    ("net/plain.h", "  #  include <unistd.h>", "in a header"),
    ("net/wide.h", "#include <version>\n#include <unordered_map>\n#include <cstdint>", None),
    ("net/types.h", "#include <sys/types.h>", None),
    ("tls/openssl.h", "#include <openssl/ssl.h>", None),
    ("tls/verify.h", '#include "tls/openssl.h"', None),
    ("tls/engine.cc", '#include "tls/verify.h"', None),
    ("tls/engine.h", '#include "tls/verify.h"', "only .cc files and inside headers"),
    ("transport/peek.cc", '#include "tls/openssl.h"', "is an inside header of tls"),
    ("tun/world.h", "#include <gtest/gtest.h>\n#include <sched.h>", None),
    ("tun/world_test.cc", '#include "tun/world.h"', None),
    ("tun/device.cc", '#include "tun/world.h"', "is for tests"),
    ("net/near.cc", '#include "wide.h"', 'write "net/wide.h"'),
    ("net/lost.cc", '#include "spdlog/spdlog.h"', "is not below src/"),
    ("egress/tun/tun_port.h", '#include "router/port.h"', None),
    ("egress/tun/tun_port_test.cc", '#include "net/wide.h"\n#include <gtest/gtest.h>', None),
    ("egress/tun/cross_test.cc", '#include "ingress/websocket/door.h"', "stay apart, in tests too"),
    ("ingress/websocket/door.h", '#include "router/port.h"', None),
    ("ingress/websocket/door.cc", '#include "test/support/world.h"', "is for tests"),
    ("ingress/websocket/door_test.cc", '#include "test/support/world.h"', None),
    ("gateway/gateway.cc", '#include "egress/tun/tun_port.h"\n#include "ingress/websocket/door.h"', None),
    ("gateway/far.cc", '#include "client/core/client.h"', "gateway may not include client/core"),
    ("client/core/client.h", "#include <memory>", None),
    ("attic/old.cc", "#include <memory>", "no line of architecture.txt"),
]


def self_test(architecture):
    """The bad tree must fail, each file for its own reason, and the good files in it must not."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for path, text, _ in SELF_TEST:
            file = root / "src" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("#pragma once\n" + text + "\n", encoding="utf-8")
        said = list(complaints(root, architecture))
    wrong = []
    for path, _, expected in SELF_TEST:
        words = [line for line in said if line.startswith(f"src/{path}:")]
        if expected is None and words:
            wrong.append(f"{path} is allowed, but: {words[0]}")
        elif expected is not None and not any(expected in line for line in words):
            wrong.append(f"{path}: expected '{expected}', got {words or 'nothing'}")
    for line in wrong:
        print(line)
    print(f"check_includes.py --self-test: {len(SELF_TEST) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=HERE.parent.parent)
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    architecture = Architecture((HERE / "architecture.txt").read_text(encoding="utf-8"))
    if arguments.self_test:
        sys.exit(self_test(architecture))
    found = list(complaints(arguments.root, architecture))
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
