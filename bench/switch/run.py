#!/usr/bin/python3
"""What the switch costs a packet with 10 and with 10 000 sessions, in memory: instructions, and processor time.

    bench/switch/run.py --build DIR [--few 10] [--many 10000] [--packets 50000] [--instructions-only]

Instructions are counted by callgrind, the same on every run to a few in a million, so their ratio is a verdict: above
--most the exit code is 1. Nanoseconds are of rounds in turn; their ratio shows what caches make of it, and is not.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

FUNCTION = "switch_packets"


def instructions(options, sessions):
    """Executed inside FUNCTION and what it calls, a packet."""
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out", "--collect-atstart=no",
             f"--toggle-collect={FUNCTION}", options.program, "--once", str(sessions), "--packets", str(options.packets)],
            capture_output=True, text=True, timeout=options.deadline, check=False)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not collected:
        sys.exit(f"callgrind failed:\n{done.stderr}")
    return int(collected[1]) / options.packets


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="a build directory with -DPENSTOCK_BENCH=ON")
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--many", type=int, default=10000)
    parser.add_argument("--packets", type=int, default=50000)
    parser.add_argument("--rounds", type=int, default=21, help="of the processor time")
    parser.add_argument("--most", type=float, default=1.1, help="the ratio of instructions that is still good")
    parser.add_argument("--instructions-only", action="store_true")
    parser.add_argument("--deadline", type=float, default=300, help="seconds of each run")
    options = parser.parse_args()
    options.program = options.build / "bench/switch_bench"

    few, many = instructions(options, options.few), instructions(options, options.many)
    print(f"| | {options.few} sessions | {options.many} sessions | ratio |\n| --- | --- | --- | --- |")
    print(f"| instructions a packet | {few:.1f} | {many:.1f} | {many / few:.4f} |")
    if not options.instructions_only:
        done = subprocess.run([options.program, "--few", str(options.few), "--many", str(options.many), "--rounds",
                               str(options.rounds)], stdout=subprocess.PIPE, timeout=options.deadline, check=True)
        times = json.loads(done.stdout)
        print(f"| CPU ns a packet | {times['cpu_ns_per_packet_few']:.0f} | {times['cpu_ns_per_packet_many']:.0f} "
              f"| {times['cpu_ratio']:.2f} |")
    sys.exit(many > options.most * few)


if __name__ == "__main__":
    main()
