#!/usr/bin/python3
"""Checks that docs/requirements.md keeps its word: what is ticked there names a test that exists.

    test/lint/check_requirements.py [--root DIR]   prints FILE:LINE: what is wrong; exit 1 if anything is
    test/lint/check_requirements.py --self-test    builds a small tree and checks what is said of it

A line is `- [x] ID KIND words — names`, each name in backticks and one of

    router_test: AddressPool.HandsAddressesOutInOrder   a case of a test program, as CMake builds it
    test_lan.py::test_iperf3_moves_bytes                a function of a file below test/
    lint: every include is one the architecture allows  a check that a CMakeLists.txt registers by that name
    make demo                                           a target of the Makefile
    docs/operations.md#certificates                     a text, with a heading in it

An open line needs no name, but what it names in one of these forms has to be there as well. No id stands twice.
"""

import argparse
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = "docs/requirements.md"

LINE = re.compile(r"- \[([ x])\] ([A-Z]+(?:-[A-Z]?)?\d+) ([MSOVX]) (\S.*?)(?: — (.+))?$")
CASE = re.compile(r"^TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.MULTILINE)
PROGRAM = re.compile(r"penstock_(room|test_program)\(\s*(\w+)([^)]*)\)")
VARIABLE = re.compile(r"\b(?:set\(|list\(APPEND )(\w+)([^)]*)\)")
LINT = re.compile(r'add_test\(\s*NAME\s+"([^"]+)"')
TARGET = re.compile(r"^([a-z-]+):(?!=)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)


def anchor(heading):
    """As GitHub makes it: lower case, punctuation gone, blanks to dashes."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class Tree:
    """Everything below `root` that a line may name."""

    def __init__(self, root):
        self.root = root
        self.cases, self.functions, self.lints = {}, {}, set()
        for listing in self._files("CMakeLists.txt"):
            self._read_listing(listing)
        for file in self._files("test_*.py"):
            names = re.findall(r"^def (test_\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
            self.functions.setdefault(file.name, set()).update(names)
        makefile = root / "Makefile"
        self.targets = set(TARGET.findall(makefile.read_text(encoding="utf-8"))) if makefile.is_file() else set()

    def _files(self, pattern):
        return [file for top in ("src", "test") for file in sorted((self.root / top).rglob(pattern))]

    def _read_listing(self, listing):
        text = re.sub(r"#.*", "", listing.read_text(encoding="utf-8"))
        self.lints.update(LINT.findall(text))
        values = {}
        for name, value in VARIABLE.findall(text):
            values[name] = values.get(name, "") + " " + value
        for kind, name, words in PROGRAM.findall(text):
            words = re.sub(r"\$\{(\w+)\}", lambda match: values.get(match[1], ""), words)
            cases = self.cases.setdefault(name + "_test" if kind == "room" else name, set())
            for source in re.findall(r"\S+_test\.cc", words):
                file = listing.parent / source
                if file.is_file():
                    cases.update(".".join(case) for case in CASE.findall(file.read_text(encoding="utf-8")))

    def complaint(self, name):
        """What is wrong with `name`; None: it is there; "": it is no name of a test at all."""
        if match := re.fullmatch(r"lint: (.+)", name):
            return None if name in self.lints else f"no CMakeLists.txt registers the check '{name}'"
        if match := re.fullmatch(r"(\w+_test): (\w+\.\w+)", name):
            if match[1] not in self.cases:
                return f"no CMakeLists.txt builds the test program {match[1]}"
            if "DISABLED_" in name:
                return f"{match[2]} is disabled"
            return None if match[2] in self.cases[match[1]] else f"{match[1]} has no case {match[2]}"
        if match := re.fullmatch(r"(test_\w+\.py)::(test_\w+)", name):
            if match[1] not in self.functions:
                return f"there is no {match[1]} below test/"
            return None if match[2] in self.functions[match[1]] else f"{match[1]} has no function {match[2]}"
        if match := re.fullmatch(r"make ([a-z-]+)", name):
            return None if match[1] in self.targets else f"the Makefile has no target {match[1]}"
        if match := re.fullmatch(r"([\w./-]+\.md)(?:#(\S+))?", name):
            file = self.root / match[1]
            if not file.is_file():
                return f"there is no {match[1]}"
            headings = map(anchor, HEADING.findall(file.read_text(encoding="utf-8")))
            return None if not match[2] or match[2] in headings else f"{match[1]} has no heading {match[2]}"
        return ""


def complaints(text, tree):
    """Yields 'FILE:LINE: words' for each line that does not keep its word."""
    first_line = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not re.match(r"\s*- \[", line):
            continue
        place = f"{PAGE}:{number}:"
        match = LINE.fullmatch(line)
        if not match:
            yield f"{place} expected '- [x] ID KIND words — `name`, `name`'"
            continue
        ticked, requirement, _, _, proof = match.groups()
        if requirement in first_line:
            yield f"{place} {requirement} stands in line {first_line[requirement]} already"
        first_line.setdefault(requirement, number)
        found = [(name, tree.complaint(name)) for name in re.findall(r"`([^`]+)`", proof or "")]
        for name, words in found:
            if words:
                yield f"{place} {requirement}: {words}"
            elif words == "" and ticked == "x":
                yield f"{place} {requirement}: `{name}` is no name of a test"
        if ticked == "x" and not found:
            yield f"{place} {requirement} is ticked, but names no test"
    if not first_line:
        yield f"{PAGE}:1: lists no requirement"


SELF_TEST_TREE = {
    "Makefile": "BUILD := build\n.PHONY: demo\ndemo: build ## a demo\n\tscript\n",
    "README.md": "# Name\n\n## Quick start, with `it`\n",
    "src/router/CMakeLists.txt": "set(more late_test.cc)\nlist(APPEND more later_test.cc)\n"
                                 "penstock_room(router SOURCES a.cc\n  TESTS a_test.cc ${more})\n",
    "src/router/a_test.cc": "TEST(Pool, GivesInOrder) {}\nTEST_F(PoolTest,\n       Breaks) {}\n"
                            "TEST(Pool, DISABLED_Slow) {}\n",
    "src/router/late_test.cc": "TEST_P(Late, Comes) {}\n",
    "src/router/later_test.cc": "TEST_F(Late, ComesLater) {}\n",
    "src/router/orphan_test.cc": "TEST(Orphan, IsNotBuilt) {}\n",
    "test/CMakeLists.txt": "penstock_test_program(e2e_test\n  SOURCES e2e/lan_test.cc)  # (whole gateways)\n",
    "test/e2e/lan_test.cc": "TEST_P(LanTest, Works) {}\n",
    "test/lint/CMakeLists.txt": 'add_test(NAME "lint: all is well"\n         COMMAND true)\n',
    "test/netns/test_lan.py": "def test_ping(lab):\n    pass\n\n\ndef helper():\n    pass\n",
}
SELF_TEST = [
    # (a line of the page, what must be said of it; None: nothing)
    ("- [x] A-01 M words — `router_test: Pool.GivesInOrder`", None),
    ("- [x] A-02 M words — `router_test: PoolTest.Breaks`, `e2e_test: LanTest.Works`", None),
    ("- [x] A-30 M words — `router_test: Late.Comes`, `router_test: Late.ComesLater`", None),
    ("- [x] B-A03 X words — with a remark: `test_lan.py::test_ping`", None),
    ("- [x] K4 S words — `lint: all is well`, `make demo`", None),
    ("- [x] A-05 V words — `README.md`, `README.md#quick-start-with-it`", None),
    ("- [ ] A-06 O words", None),
    ("- [ ] A-07 O words — later; the key `internet.mode` is read", None),
    ("- an ordinary item — `nothing: at.all`", None),
    ("- [x] A-01 M words — `make demo`", "A-01 stands in line 1 already"),
    ("- [ ] A-06 M words", "A-06 stands in line 7 already"),
    ("- [x] A-11 M words", "names no test"),
    ("- [x] A-12 M words — surely", "names no test"),
    ("- [x] A-13 M words — `surely`", "`surely` is no name of a test"),
    ("- [x] A-14 M words — `router_test: Pool.GivesOutOfOrder`", "has no case Pool.GivesOutOfOrder"),
    ("- [x] A-15 M words — `e2e_test: Pool.GivesInOrder`", "e2e_test has no case"),
    ("- [x] A-16 M words — `router_test: Orphan.IsNotBuilt`", "has no case Orphan.IsNotBuilt"),
    ("- [x] A-17 M words — `router_test: Pool.DISABLED_Slow`", "is disabled"),
    ("- [x] A-18 M words — `pool_test: Pool.GivesInOrder`", "builds the test program pool_test"),
    ("- [x] A-19 M words — `test_lan.py::test_pong`", "has no function test_pong"),
    ("- [x] A-20 M words — `test_wan.py::test_ping`", "there is no test_wan.py"),
    ("- [x] A-21 M words — `lint: all is ill`", "registers the check"),
    ("- [x] A-22 M words — `make script`", "no target script"),
    ("- [x] A-23 M words — `docs/none.md`", "there is no docs/none.md"),
    ("- [x] A-24 M words — `README.md#slow-start`", "no heading slow-start"),
    ("- [ ] A-25 M words — partly: `test_lan.py::test_pong`", "has no function test_pong"),
    ("- [X] A-26 M words — `make demo`", "expected '- [x] ID KIND"),
    ("- [x] A-27 words — `make demo`", "expected '- [x] ID KIND"),
    ("- [x] A28 words", "expected '- [x] ID KIND"),
]


def self_test():
    """Each line must be judged on its own, and an empty page must not pass."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for path, text in SELF_TEST_TREE.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        tree = Tree(root)
        said = list(complaints("\n".join(line for line, _ in SELF_TEST), tree))
        empty = list(complaints("# Requirements\n", tree))
    wrong = []
    for number, (line, expected) in enumerate(SELF_TEST, 1):
        words = [each for each in said if each.startswith(f"{PAGE}:{number}: ")]
        if expected is None and words:
            wrong.append(f"'{line}' is right, but: {words[0]}")
        elif expected is not None and not any(expected in each for each in words):
            wrong.append(f"'{line}': expected '{expected}', got {words or 'nothing'}")
    if not empty:
        wrong.append("a page without requirements passes")
    for line in wrong:
        print(line)
    print(f"check_requirements.py --self-test: {len(SELF_TEST) + 1 - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=ROOT)
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        sys.exit(self_test())
    found = list(complaints((arguments.root / PAGE).read_text(encoding="utf-8"), Tree(arguments.root)))
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
