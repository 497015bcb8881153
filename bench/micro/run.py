#!/usr/bin/python3
"""What the parts of a packet's way cost one by one: nanoseconds, and instructions as callgrind counts them.

    bench/micro/run.py --build DIR [--filter REGEX] [--min-time 0.2] [--no-instructions] [--json FILE]

Instructions are the difference between two runs of few and of more iterations, divided by those: what comes once falls
out, and they are the same on every run. Of records there are none: valgrind's processor has no VAES, so what it would
count is not what runs.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FEW = 50
WORTH = 5e6  # nanoseconds: of so many iterations more, some 10 000 instructions that differ for other reasons are no matter
NOT_COUNTED = "record"


def run(options, *arguments, environment=None):
    done = subprocess.run([*options.wrap, options.program, *arguments], capture_output=True, text=True,
                          timeout=options.deadline, check=False, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stderr}")
    return done


def times(options):
    """{name: nanoseconds of processor time}"""
    options.wrap = []
    report = run(options, f"--benchmark_filter={options.filter}", f"--benchmark_min_time={options.min_time}",
                 "--benchmark_format=json").stdout
    if not report.startswith("{"):
        sys.exit(f"no benchmark's name matches {options.filter}")
    return {one["name"]: one["cpu_time"] for one in json.loads(report)["benchmarks"] if "error_occurred" not in one}


def executed(options, name, iterations):
    with tempfile.TemporaryDirectory() as directory:
        options.wrap = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out"]
        done = run(options, f"--benchmark_filter=^{re.escape(name)}/iterations:{iterations}$",
                   environment={"PENSTOCK_BENCH_ITERATIONS": str(iterations)})
    if name not in done.stdout:
        sys.exit(f"{name} did not run {iterations} times:\n{done.stdout}{done.stderr}")
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def instructions(options, name, nanoseconds):
    more = min(100_000, max(500, int(WORTH / nanoseconds)))
    return (executed(options, name, FEW + more) - executed(options, name, FEW)) / more


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="a build directory with -DPENSTOCK_BENCH=ON")
    parser.add_argument("--filter", default=".", help="of benchmarks' names")
    parser.add_argument("--min-time", type=float, default=0.2, help="seconds of each")
    parser.add_argument("--no-instructions", action="store_true")
    parser.add_argument("--deadline", type=float, default=300, help="seconds of each run")
    parser.add_argument("--json", type=pathlib.Path, help="write what was measured there too")
    options = parser.parse_args()
    options.program = options.build / "bench/micro/micro_bench"
    if not options.program.exists():
        sys.exit(f"{options.program} was not built: that takes libbenchmark-dev")
    counting = not options.no_instructions and shutil.which("valgrind") is not None
    if not counting and not options.no_instructions:
        print("no valgrind, so no instructions", file=sys.stderr)

    found = {}
    print("| | ns | instructions |\n| --- | --- | --- |")
    for name, nanoseconds in times(options).items():
        counted = instructions(options, name, nanoseconds) if counting and NOT_COUNTED not in name else None
        found[name] = {"ns": nanoseconds, "instructions": counted}
        print(f"| {name} | {nanoseconds:,.0f} | {'' if counted is None else format(counted, ',.0f')} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
