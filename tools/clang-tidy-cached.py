#!/usr/bin/python3
"""Runs clang-tidy over the project's translation units, in parallel, and only over those not known to be clean.

    tools/clang-tidy-cached.py [--deep] BUILD_DIR [FILE ...]

A unit is known to be clean when everything that its verdict depends on is as it was in an earlier clean run: its text and
that of every header of ours that it reaches, its compile command, .clang-tidy, and the versions of clang-tidy and of the
installed -dev packages (for the libraries' headers). The hash of all that is the name of an empty file in the cache
directory, ~/.cache/penstock-tidy. Only clean verdicts are kept, so a complaint is repeated until it is dealt with.

Headers are followed by their #include "..." lines without looking at #if, which can only find too many.

--deep adds the path-sensitive analyzer (clang-analyzer-*), which takes three quarters of the time of a run that has it. Units
that include a library of templates (GoogleTest, Asio, spdlog, ...) are spared it even then: it follows calls into the library.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "penstock-tidy"
TIDY = os.environ.get("CLANG_TIDY", "clang-tidy-19")
KEPT_FOR_SECONDS = 60 * 24 * 3600
OUR_FOLDERS = ("src", "test", "fuzz", "bench")
INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)

TEMPLATES = re.compile(rb"^\s*#\s*include\s+<(gtest|gmock|boost|spdlog|nlohmann|yaml-cpp|CLI)/", re.MULTILINE)


def output_of(*command):
    return subprocess.run(command, capture_output=True, check=False).stdout


def toolchain_hash():
    """What is the same for all units: the tool, its settings, the libraries' headers."""
    digest = hashlib.sha256(output_of(TIDY, "--version"))
    digest.update((ROOT / ".clang-tidy").read_bytes())
    packages = output_of("dpkg-query", "-W", "-f", "${Package} ${Version}\n").splitlines()
    digest.update(b"\n".join(line for line in packages if b"-dev " in line))
    digest.update(pathlib.Path(__file__).read_bytes())
    return digest.digest()


def reached_files(source):
    """The unit and every file of ours that it includes, directly or not."""
    reached, waiting = set(), [source]
    while waiting:
        file = waiting.pop()
        if file in reached:
            continue
        reached.add(file)
        for name in INCLUDE.findall(file.read_bytes()):
            for folder in (ROOT / "src", ROOT, file.parent):
                if (folder / os.fsdecode(name)).is_file():
                    waiting.append((folder / os.fsdecode(name)).resolve())
                    break
    return sorted(reached)


def key_of(source, command, common):
    digest = hashlib.sha256(common + command.replace(str(ROOT), "").encode())
    for file in reached_files(source):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def check(source, build, deep):
    command = [TIDY, "-p", str(build), "--quiet"]
    if not deep or TEMPLATES.search(source.read_bytes()):
        command.append("--checks=-clang-analyzer-*")
    start = time.monotonic()
    run = subprocess.run(command + [str(source)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    noise = re.compile(r"^\d+ warnings? (and \d+ errors? )?generated\.$|^Suppressed |^Use -header-filter|^$")
    words = run.stdout + "\n".join(line for line in run.stderr.splitlines() if not noise.match(line))
    return run.returncode == 0, words.strip(), time.monotonic() - start


def new_complaints(words, said):
    """The diagnostics in `words` that no earlier unit had: a complaint about a header comes from everyone who includes it."""
    new = []
    for block in re.split(r"^(?=/\S+:\d+:\d+: (?:error|warning):)", words, flags=re.MULTILINE):
        if block.split("\n")[0] not in said:
            new.append(block)
            said.add(block.split("\n")[0])
    return "".join(new).strip()


def main():
    arguments = sys.argv[1:]
    deep = arguments[:1] == ["--deep"]
    arguments = arguments[1:] if deep else arguments
    if not arguments:
        sys.exit(__doc__)
    build = pathlib.Path(arguments[0]).resolve()
    wanted = {pathlib.Path(name).resolve() for name in arguments[1:]}
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = pathlib.Path(entry["directory"], entry["file"]).resolve()
        inside = source.is_relative_to(ROOT) and source.relative_to(ROOT).parts[0] in OUR_FOLDERS
        if inside and source.is_file() and (not wanted or source in wanted):
            commands[source] = entry["command"]

    CACHE.mkdir(parents=True, exist_ok=True)
    common = toolchain_hash() + (b"deep" if deep else b"")
    keys = {source: key_of(source, command, common) for source, command in commands.items()}
    todo = []
    for source, key in keys.items():
        if (CACHE / key).exists():
            (CACHE / key).touch()
        else:
            todo.append(source)
    for old in CACHE.iterdir():
        if time.time() - old.stat().st_mtime > KEPT_FOR_SECONDS:
            old.unlink(missing_ok=True)

    # The largest first, so that no long one is left for the end while the other core has nothing to do.
    todo.sort(key=lambda source: -source.stat().st_size)
    start, failed, slowest, said = time.monotonic(), 0, (0.0, None), set()
    jobs = int(os.environ.get("JOBS", os.cpu_count() or 1))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        runs = {pool.submit(check, source, build, deep): source for source in todo}
        for run in concurrent.futures.as_completed(runs):
            source = runs[run]
            clean, words, seconds = run.result()
            slowest = max(slowest, (seconds, source), key=lambda pair: pair[0])
            if clean:
                (CACHE / keys[source]).touch()
            else:
                failed += 1
                print(f"{source.relative_to(ROOT)}: not clean\n{new_complaints(words, said)}\n", flush=True)
    note = f", the slowest {slowest[1].relative_to(ROOT)} {slowest[0]:.0f} s" if slowest[1] else ""
    print(f"clang-tidy: {len(commands)} units, {len(commands) - len(todo)} known to be clean, {len(todo)} checked in "
          f"{time.monotonic() - start:.0f} s{note}, {failed} not clean")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
