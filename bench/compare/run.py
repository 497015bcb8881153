#!/usr/bin/python3
"""Penstock beside other VPNs: throughput, delay and processor time through each, in network namespaces.

    bench/compare/run.py --build DIR [--rounds 3] [--seconds 5] [--json FILE] [--svg FILE] ...      (as root)

Each round runs every subject once, in an order that rotates from round to round, so that what else the machine does hits
all alike. One subject is up at a time. README.md beside this file tells what the figures mean; hosts.py draws the lab.

Exit codes: 0; 1 a target's must was measured and is not met, or a subject that is no peer failed; 130 interrupted.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import shutil
import signal
import sys
import tempfile
import time

import chart
import report
from hosts import Failure, Lab, Skip, certificates, run
from peers import Ocserv, OpenVpn, Tinc, WireguardGo
from subjects import Penstock, PenstockClients, Sketch, TlsPipe, Veth

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ("iperf3", "iproute2", "iputils-ping", "openssl", "libssl3", "libipsec-mb1")
IPSEC_MB = "libIPSec_MB"
IPSEC_MB_NEEDS = set("avx512f avx512dq avx512cd avx512bw avx512vl avx512ifma vaes vpclmulqdq gfni sha_ni".split())
OVER_LONG_LINES = ["tls-pipe", "penstock", "penstock-system-cc", "openvpn-tcp", "ocserv-tls"]
ON_LONG_LINES_ONLY = ["penstock-system-cc"]


def all_subjects(penstock):
    return [
        Veth("veth", "veth, no VPN"),
        TlsPipe("tls-pipe", "bare TLS pipe"),
        Sketch("sketch", "super-packets over it"),
        Penstock("penstock", "Penstock", penstock),
        PenstockClients("penstock-clients", "client to client", penstock),
        Penstock("penstock-offload-off", "offloads off", penstock, server={"vpn": {"offload": "off"}},
                 client=["vpn.offload=off"]),
        Penstock("penstock-v1", "as a plain v1 client", penstock, client=["server.protocol=v1"]),
        Penstock("penstock-system-cc", "with the system's congestion control", penstock,
                 server={"performance": {"congestion_control": "system"}}, client=["performance.congestion_control=system"]),
        OpenVpn("openvpn-tcp", "OpenVPN, TCP", "tcp"),
        OpenVpn("openvpn-udp", "OpenVPN, UDP", "udp"),
        Ocserv("ocserv-tls", "ocserv/openconnect, TLS", dtls=False),
        Ocserv("ocserv-dtls", "ocserv/openconnect, DTLS", dtls=True),
        WireguardGo("wireguard-go", "wireguard-go"),
        Tinc("tinc", "tinc"),
    ]


def versions(packages, penstock):
    """As the package manager tells them; {} of what it does not know."""
    found = {}
    for package in packages:
        with contextlib.suppress(Failure, OSError):
            found[package] = run("dpkg-query", "-W", "-f", "${Version}", package).strip()
    with contextlib.suppress(Failure, OSError):
        found["penstock"] = run(penstock, "--version").strip().removeprefix("penstock ")
    with contextlib.suppress(Failure, OSError):
        found["checkout"] = run("git", "-C", REPOSITORY, "describe", "--always", "--dirty").strip()
    return found


def cipher_library(penstock):
    """What encrypts TLS records in that executable, on this processor (src/tls/aead.h has the choice)."""
    linked = ""
    with contextlib.suppress(Failure, OSError):
        linked = run("ldd", penstock)
    if IPSEC_MB not in linked:
        return "OpenSSL"
    flags = next((line.split() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("flags")), [])
    return "Intel ipsec-mb" if IPSEC_MB_NEEDS <= set(flags) else "OpenSSL (this processor is none for ipsec-mb)"


def ciphers(facts):
    """A line for whoever compares it with the pipe."""
    return f"TLS records: penstock by {facts['cipher_library']}, the TLS pipe and the sketch by OpenSSL"


def machine():
    models = [line.partition(":")[2].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]
    return {"kernel": platform.release(), "cpu": models[0] if models else platform.machine(), "cores": os.cpu_count(),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "load_before": os.getloadavg()[0]}


def measure(subject, condition, options, keys):
    """The part of a record that one subject's turn makes."""
    record = {"status": "measured", "measures": {}, "errors": {}}
    lab = Lab(options.tools, keys, options.congestion, options.outer_offloads == "on", **condition)
    try:
        subject.check()
        with lab:
            try:
                turn = subject.measurements(lab, options.seconds)
                for name, measurement in turn:
                    try:
                        record["measures"].update(measurement())
                    except Failure as failure:
                        record["errors"][name] = str(failure)
            except Failure as failure:
                record.update(status="failed", reason=str(failure))
            if record["errors"] or record["status"] == "failed":
                record["log"] = lab.logs()
            record["congestion"] = lab.congestion_in_use
    except Skip as skip:
        record.update(status="skipped", reason=str(skip))
    except (Failure, OSError) as failure:
        record.update(status="failed", reason=str(failure))
    if record["status"] == "measured" and not record["measures"]:
        record.update(status="failed", reason="no measurement succeeded")
    return record


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def say_unmet(unmet):
    """Whether there is any."""
    for words in unmet:
        say(f"not met: {words}")
    return bool(unmet)


def in_one_line(record):
    if record["status"] != "measured":
        return f"{record['status']}: {record['reason']}"
    measures = record["measures"]
    line = "  ".join(f"{name} {report.number(measures[name])}" for name in ("up", "down", "four", "both") if name in measures)
    return line + "".join(f"  [{name}: {reason}]" for name, reason in record["errors"].items())


def run_rounds(subjects, conditions, options, keys, records):
    """Fills `records`, which keeps what is there if this is interrupted."""
    turns = [(condition, subject) for condition in conditions for subject in subjects]
    step = max(1, len(turns) // options.rounds)
    for number in range(options.rounds):
        first = number * step % len(turns)
        for condition, subject in turns[first:] + turns[:first]:
            began = time.monotonic()
            record = {"round": number, "condition": condition, "subject": subject.name,
                      **measure(subject, condition, options, keys)}
            records.append(record)
            say(f"round {number + 1}  {subject.name:22}{describe(condition, ' ')}{in_one_line(record)}"
                f"  ({time.monotonic() - began:.0f} s)")
            for name, tail in record.get("log", {}).items():
                say(f"    {name}:", *(f"\n      {line}" for line in tail.splitlines()))


def describe(condition, end=""):
    parts = [f"{condition['loss']:g} % loss" if condition["loss"] else "", f"{condition['delay']:g} ms each way"
             if condition["delay"] else ""]
    words = ", ".join(filter(None, parts))
    return words + end if words else ""


def extent(options):
    return f"{options.rounds} round{'s' if options.rounds > 1 else ''} of {options.seconds:g} s a measurement"


def verdict(records, subjects, condition, options):
    """What there are targets for: the plain wire, and a line that loses. None for others."""
    if condition["loss"]:
        return report.loss_verdict(records)
    return report.verdict(records, subjects) if not condition["delay"] and options.outer_offloads == "on" else None


def finish(subjects, conditions, options, records, facts):
    """Prints and writes everything. Returns the musts that were measured and are not met."""
    results, unmet = [], []
    for condition in conditions:
        own = [record for record in records if record["condition"] == condition]
        lines = verdict(own, subjects, condition, options)
        heading = describe(condition)
        print(f"\n{heading}\n" if heading else "")
        print(report.text(own, subjects, lines))
        results.append({"condition": condition, "summary": report.summary(own), "ratios": report.ratios(own, subjects),
                        "verdict": lines})
        unmet += [describe(condition, ": ") + words for words in report.unmet(lines)]
    in_use = sorted({record["congestion"] for record in records if "congestion" in record})
    facts["congestion"] = in_use
    if in_use != [options.congestion]:
        print(f"\nThis kernel has no {options.congestion}: what ran is {', '.join(in_use) or 'nothing'}.")
    print(f"\n{facts['kernel']}, {facts['cpu']}, {facts['cores']} cores, load before {facts['load_before']:.2f}; "
          f"{', '.join(in_use)}; {extent(options)}")
    print(ciphers(facts))
    print(", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "results": results, "records": records}, indent=1) + "\n")
    if options.svg:
        about = (f"{facts['cores']} cores of {facts['cpu']}, Linux {facts['kernel'].split('-')[0]}, "
                 f"{', '.join(in_use)}, {extent(options)}, {facts['date'][:10]}")
        options.svg.write_text(chart.draw(subjects, results[0]["summary"], about, ciphers(facts)))
    return unmet


def numbers(text):
    return [float(part) for part in text.split(",")]


def common_arguments(parser):
    parser.add_argument("--build", type=pathlib.Path, required=True, help="a build directory with -DPENSTOCK_BENCH=ON")
    parser.add_argument("--penstock", type=pathlib.Path, help="another penstock than the build directory's")
    parser.add_argument("--congestion", default="cubic", help="of every TCP, outer and inner (cubic)")
    parser.add_argument("--json", type=pathlib.Path, help="write what was measured there")


def prepare(options):
    """What this and fairness.py need before the first lab."""
    if os.geteuid() != 0:
        sys.exit("network namespaces take root")
    options.penstock = (options.penstock or options.build / "penstock").resolve()
    options.tools = (options.build / "bench").resolve()
    missing = [program for program in ("ip", "iperf3", "nft", "openssl", "ping", "ss", "tc") if shutil.which(program) is None]
    missing += [str(tool) for tool in (options.tools / "tls_pipe", options.tools / "delay_relay") if not tool.exists()]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def stop(*_):
    raise KeyboardInterrupt


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s")
    parser.add_argument("--subjects", help="some of: " + ", ".join(s.name for s in all_subjects(pathlib.Path())))
    parser.add_argument("--outer-offloads", choices=["on", "off"], default="on",
                        help="off: the wire carries frames of MTU size, as a real one does")
    parser.add_argument("--loss", type=numbers, default=[0.0], help="per cent each way, some values by commas; offloads off")
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds each way; offloads off")
    parser.add_argument("--svg", type=pathlib.Path, help="draw it there")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, min(options.seconds, 2.0)
    if options.rounds < 1 or not 1 <= options.seconds <= 600:
        parser.error("at least one round, of 1 to 600 s")
    if not all(0 <= loss < 100 for loss in options.loss) or not 0 <= options.delay <= 10000:
        parser.error("--loss: 0 to 100 per cent; --delay: 0 to 10000 ms")
    return parser, options


def main():
    parser, options = arguments()
    prepare(options)
    conditions = [{"loss": loss, "delay": options.delay} for loss in options.loss]
    subjects = all_subjects(options.penstock)
    known = [subject.name for subject in subjects]
    long_line = any(map(any, (condition.values() for condition in conditions)))
    usual = OVER_LONG_LINES if long_line else [name for name in known if name not in ON_LONG_LINES_ONLY]
    wanted = options.subjects.split(",") if options.subjects else usual
    if unknown := sorted(set(wanted) - set(known)):
        parser.error(f"no such subject: {', '.join(unknown)}")
    subjects = [subject for subject in subjects if subject.name in wanted]
    facts = {**machine(), "versions": versions([*TOOLS, *(p for s in subjects for p in s.packages)], options.penstock),
             "cipher_library": cipher_library(options.penstock)}
    facts["options"] = {name: getattr(options, name) for name in ("rounds", "seconds", "congestion", "outer_offloads",
                                                                  "loss", "delay")}
    records = []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-keys-") as name:
        keys = pathlib.Path(name)
        keys.chmod(0o755)
        try:
            certificates(keys)
            run_rounds(subjects, conditions, options, keys, records)
        except KeyboardInterrupt:
            # Half a run is no reason to lose the whole one of before.
            options.json = options.svg = None
            if records:
                say("\nstopped; what there is so far, and is written nowhere:")
                finish(subjects, conditions, options, records, facts)
            else:
                say("\nstopped before anything was measured")
            sys.exit(130)
    unmet = finish(subjects, conditions, options, records, facts)
    ours = {subject.name for subject in subjects if subject.group != "peer"}
    failed = any(record["status"] == "failed" or record.get("errors") for record in records if record["subject"] in ours)
    sys.exit(1 if say_unmet(unmet) or failed else 0)


if __name__ == "__main__":
    main()
