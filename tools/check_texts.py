#!/usr/bin/python3
"""Checks that the repository's texts are fit to be published.

    tools/check_texts.py               prints FILE:LINE: what is wrong; exit 1 if anything is
    tools/check_texts.py --self-test   checks that it would

No package registry's host (a clone must not depend on whose mirror somebody used), no path of a developer's machine, no
note to do something later (that is an issue, not a comment), no secret key (tests make theirs), no blank at a line's end,
and every relative link in Markdown leads to a file, and to a heading when it names one.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Written with brackets so that this file does not match itself.
FORBIDDEN = [
    (re.compile(r"\b(deb|security|archive|ftp)\.(debia[n]|ubunt[u])\.|npmj[s]\.|\bpyp[i]\.(org|python)|pythonhoste[d]\.|"
                r"crate[s]\.io|(proxy|sum)\.golan[g]\.|rubygem[s]\.org|repo1?\.mave[n]\."), "a package registry's host"),
    (re.compile(r"(?<![\w./-])/w[o]rk/|\.\./share[d]/"), "a path of somebody's machine"),
    (re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b"), "a note to do something later"),
    (re.compile(r"BEGIN ((RSA|EC) )?PRIVATE KE[Y]-----\s*$"), "a private key"),
    (re.compile(r"[ \t]+$"), "a blank at the end of the line"),
]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
FENCE = re.compile(r"^\s*(```|~~~)")


def anchor(heading):
    """The name by which a page's heading is linked to: lower case, words joined by hyphens."""
    words = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", words))


def prose(text):
    """Line numbers and lines of a Markdown text outside code blocks."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors_of(text):
    return {anchor(match[1]) for _, line in prose(text) if (match := HEADING.match(line))}


def wrong_lines(text):
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, what in FORBIDDEN:
            if pattern.search(line):
                yield number, f"{what}: {line.strip()[:100]}"


def wrong_links(file, text, root):
    for number, line in prose(text):
        for match in LINK.finditer(re.sub(r"`[^`]*`", "``", line)):
            target = match[1] or match[2]
            if re.match(r"[a-z]+:", target):
                continue
            path, _, name = target.partition("#")
            page = (file.parent / path).resolve() if path else file
            if not page.exists():
                yield number, f"the link leads nowhere: {target}"
            elif not page.is_relative_to(root):
                yield number, f"the link leaves the repository: {target}"
            elif name and page.suffix == ".md" and name not in anchors_of(page.read_text(encoding="utf-8")):
                yield number, f"no heading is called #{name} in {page.relative_to(root)}"


def self_test():
    bad = ["see pyp" + "i.org", "cd /wo" + "rk/x", "// TO" + "DO: later", "a ", "-----BEGIN PRIVATE KE" + "Y-----"]
    good = ["a network /worker", "mastodon", "https://example.org/work/x", "-----BEGIN CERTIFICATE-----"]
    page = "# The one: two\n[a](#the-one-two) [b](#three) [c](nowhere.md) `[d](nowhere.md)`\n```\n[e](no.md)\n```\n"
    wrong = [line for line in bad if not list(wrong_lines(line))] + [line for line in good if list(wrong_lines(line))]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder).resolve() / "page.md"
        file.write_text(page, encoding="utf-8")
        said = " ".join(words for _, words in wrong_links(file, page, file.parent))
    if said != "no heading is called #three in page.md the link leads nowhere: nowhere.md":
        wrong.append(f"links: {said}")
    print("\n".join(wrong + [f"check_texts.py --self-test: {len(wrong)} failed"]))
    return 1 if wrong else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(self_test())
    files = subprocess.run([ROOT / "tools/sources.sh", "*"], capture_output=True, text=True, check=True).stdout.split("\n")
    bad = 0
    for name in filter(None, files):
        if name.startswith(("fuzz/corpus/", "fuzz/regressions/")):
            continue  # bytes for parsers
        file = ROOT / name
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found = list(wrong_lines(text))
        if file.suffix == ".md":
            found += wrong_links(file, text, ROOT)
        for number, words in found:
            bad += 1
            print(f"{name}:{number}: {words}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
