#!/usr/bin/python3
"""The internet from user space beside pasta and the kernel: UDP and TCP through translation alone, and through tunnel and
translation.

    bench/nat/run.py --build DIR [--rounds 5] [--seconds 1] [--ways nat,pasta,...] [--loads small,tcp,...] [--json FILE]  (as root)

Each round has every way once, in an order that rotates from round to round; figures are what receivers counted. Ratios
are of the same round. README.md of bench/ tells what the figures mean; ways.py draws the lab.

Exit codes: 0; 1 a target's must was measured and is not met, or one of ours failed; 130 interrupted.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "compare"))

import loads
import tcp_loads
import tcp_report
from hosts import Failure, Lab, Skip, certificates
from report import number, ratio, states, summary, table, unmet, verdict_table, with_spread
from run import machine, say, say_unmet, stop, versions
from ways import KernelNat, KernelRoute, Pasta, TunNat, Tunnel, TunnelLan, bare_pipe

PAIRS = [("nat", "pasta"), ("nat", "pasta-65520"), ("nat", "kernel-nat"), ("nat-no-offload", "pasta"), ("pasta", "kernel-nat"),
         ("kernel-nat", "route"), ("tunnel-userspace", "tunnel-kernel"), ("tunnel-userspace", "tunnel-lan"),
         ("tunnel-userspace", "nat"), ("nat", "nat-other"), ("tunnel-userspace", "tunnel-userspace-other")]
DIRECTIONS = ("up", "down")
UDP_LOADS = [*(load.name for load in loads.loads(1)), "memory"]
UDP_ONLY = ("nat-no-offload", "tunnel-lan")
TCP_ONLY = ("nat-65520",)


def all_ways(penstock, other=None):
    """`other`: of another build directory, beside these."""
    others = [TunNat("nat-other", "another build's", 1420, executable=other / "bench/tun_nat"),
              Tunnel("tunnel-userspace-other", "another build's", other / "penstock", "userspace")] if other else []
    return others + [
        KernelRoute("route", "the kernel routes, nobody translates"),
        KernelNat("kernel-nat", "the kernel translates"),
        TunNat("nat", "ours alone, MTU 1420", 1420),
        TunNat("nat-65520", "the same, MTU 65520", 65520),
        TunNat("nat-no-offload", "the same, a packet a segment", 1420, ["--no-offload"]),
        Pasta("pasta", "pasta, MTU 1420", 1420),
        Pasta("pasta-65520", "pasta, MTU 65520", 65520),
        TunnelLan("tunnel-lan", "Penstock, to the gateway itself", penstock),
        Tunnel("tunnel-kernel", "Penstock, internet.mode: kernel", penstock, "kernel"),
        Tunnel("tunnel-userspace", "Penstock, internet.mode: userspace", penstock, "userspace"),
    ]


def sittings(way, options):
    """What a way is put up for, anew each time, so that nobody's memory is of the load before: pairs of a name and what
    makes of a lab and a Way the measurements."""
    def udp(lab, up):
        alone = options.ports if up.translator or way.name == "kernel-nat" else 0
        return loads.everything(lab, up, options.seconds, options.pace, alone, options.loads)

    def tcp(lab, up):
        return tcp_loads.everything(lab, up, options.seconds, options.connections, options.loads)

    def flows(lab, up):
        return [("tcp-flows", lambda: tcp_loads.flows(lab, up, options.flows))]

    wanted = {"udp": udp} if way.name not in TCP_ONLY and set(options.loads) & set(UDP_LOADS) else {}
    if way.name not in UDP_ONLY and set(options.loads) & set(tcp_loads.NAMES) - {"tcp-flows"}:
        wanted["tcp"] = tcp
    if way.name not in UDP_ONLY and "tcp-flows" in options.loads:
        wanted["flows"] = flows
    return list(wanted.items())


def sit(way, sitting, measurements, options, lab, record):
    def attempt(name, measurement):
        try:
            record["measures"].update(measurement())
        except Failure as failure:
            record["errors"][name] = str(failure)

    def pipes(client):
        for direction in DIRECTIONS:
            attempt(f"pipe {direction}", lambda: bare_pipe(lab, client, direction, options.seconds))

    beside_the_pipe = sitting == "tcp" and "tcp-bulk" in options.loads and isinstance(way, Tunnel)
    up = way.start(lab, pipes) if beside_the_pipe else way.start(lab)
    try:
        if sitting != "udp":
            tcp_loads.reach(lab, up)
        for name, measurement in measurements(lab, up):
            attempt(name, measurement)
    except Failure as failure:
        record["errors"][sitting] = str(failure)
    if up.translator:
        up.translator.stop()
        record.setdefault("translator", {})[sitting] = up.translator.tail(1)


def measure(way, options, keys):
    record = {"status": "measured", "measures": {}, "errors": {}}
    try:
        way.check()
        for sitting, measurements in sittings(way, options):
            with Lab(options.tools, keys, offloads=options.outer_offloads == "on") as lab:
                known = len(record["errors"])
                try:
                    sit(way, sitting, measurements, options, lab, record)
                except Failure as failure:
                    record.update(status="failed", reason=str(failure))
                if len(record["errors"]) > known or record["status"] == "failed":
                    found = lab.logs().items()
                    record.setdefault("log", {}).update({f"{sitting}: {name}": tail for name, tail in found})
            record["congestion"] = lab.congestion_in_use
    except Skip as skip:
        record.update(status="skipped", reason=str(skip))
    except (Failure, OSError) as failure:
        record.update(status="failed", reason=str(failure))
    if record["status"] == "measured" and not record["measures"]:
        record.update(status="failed", reason="no measurement succeeded")
    return record


def in_one_line(record):
    if record["status"] != "measured":
        return f"{record['status']}: {record['reason']}"
    shown = [name for name in record["measures"] if name.rpartition("_")[2] in DIRECTIONS or name == "tcp-connect"]
    return "  ".join([*(f"{name} {thousands(record['measures'][name])}" for name in shown),
                      *(f"[{name}: {reason}]" for name, reason in record["errors"].items())])


def thousands(value):
    return "-" if value is None else number(value / 1000)


def cell(medians, name, scale=1.0):
    found = medians.get(name)
    if not found:
        return "-"
    return with_spread({**found, **{which: found[which] * scale for which in ("median", "min", "max")}})


def ratio_table(title, records, keys, suffix=""):
    rows = [[f"{ours} to {other}", *(with_spread(ratio(records, ours, other, key + suffix)) for key in keys)]
            for ours, other in PAIRS]
    return table([title, *keys], [row for row in rows if any(one != "-" for one in row[1:])])


def text(records, ways, options, lines):
    found, parts = summary(records), []
    for load in loads.loads(options.pace):
        rows = []
        for way in ways:
            medians = found.get(way.name, {})
            if not any(f"{load.name}_{d}" in medians for d in DIRECTIONS):
                continue
            row = [way.name]
            for d in DIRECTIONS:
                key = f"{load.name}_{d}"
                costs = [medians[f"{key}_cpu_{side}"]["median"] for side in ("gateway", "client")
                         if f"{key}_cpu_{side}" in medians]
                row += [cell(medians, key, 1e-3), number(medians[f"{key}_mbit"]["median"]) if key in medians else "-",
                        number(medians[f"{key}_loss"]["median"] * 100) if key in medians else "-",
                        " + ".join(number(cost * 1000) for cost in costs) or "-"]
            rows.append(row)
        parts.append(table([load.title, *(f"{d}: {what}" for d in DIRECTIONS
                                          for what in ("1000/s", "Mbit/s", "lost %", "CPU ns each"))], rows))
    keys = [f"{load.name}_{d}" for load in loads.loads(options.pace) for d in DIRECTIONS]
    paced = {f"{load.name}_{d}" for load in loads.loads(options.pace) if load.rate for d in DIRECTIONS}
    parts.append(ratio_table("packets a second, to another in the same round", records, [k for k in keys if k not in paced]))
    parts.append(ratio_table("gateway's CPU a packet, the same", records, keys, "_cpu_gateway"))
    columns = ["mappings", "sockets", "resident_each", "kernel_each", *(f"slab_{name}" for name in loads.SOCKETS)]
    parts.append(table(["memory, bytes each", *columns],
                       [[way.name, *(cell(found[way.name], column) for column in columns)] for way in ways
                        if "mappings" in found.get(way.name, {})]))
    names = [way.name for way in ways]
    parts += [*tcp_report.tables(records, names), tcp_report.ratio_tables(records, PAIRS), verdict_table(lines)]
    said = states(records)
    parts.append("\n".join(f"{who}: {why}" for who, why in said.items()))
    return "\n\n".join(filter(None, parts))


def finish(ways, options, records, facts):
    judging = options.outer_offloads == "on" and set(options.loads) & set(tcp_loads.NAMES)
    lines = tcp_report.verdict(records, options.flows) if judging else []
    print("\n" + text(records, ways, options, lines))
    print(f"\n{facts['kernel']}, {facts['cpu']}, {facts['cores']} cores, load before {facts['load_before']:.2f}; "
          f"{options.rounds} rounds of {options.seconds:g} s a measurement, outer offloads {options.outer_offloads}")
    facts["congestion"] = sorted({record["congestion"] for record in records if "congestion" in record})
    print(f"TCP is {', '.join(facts['congestion'])}; "
          + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    if options.json:
        found = summary(records)
        compared = [f"{name}_{d}{suffix}" for name in [*(load.name for load in loads.loads(options.pace)), "tcp-bulk"]
                    for d in DIRECTIONS for suffix in ("", "_cpu_gateway")] + ["tcp-connect", "tcp-connect_cpu_gateway"]
        ratios = {f"{ours} to {other}": {key: one for key in compared if (one := ratio(records, ours, other, key))}
                  for ours, other in PAIRS}
        pipe = {name: of_pipe for name in found if (of_pipe := tcp_report.to_pipe(records, name))}
        options.json.write_text(json.dumps({"machine": facts, "summary": found, "ratios": ratios, "to_pipe": pipe,
                                            "verdict": lines, "records": records}, indent=1) + "\n")
    return unmet(lines)


def words(argument):
    return argument.split(",")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [way.name for way in all_ways(pathlib.Path())]
    others = [way.name for way in all_ways(pathlib.Path(), pathlib.Path()) if way.name not in names]
    kinds = [*UDP_LOADS, *tcp_loads.NAMES]
    parser.add_argument("--build", type=pathlib.Path, required=True, help="a build directory with -DPENSTOCK_BENCH=ON")
    parser.add_argument("--penstock", type=pathlib.Path, help="another penstock than the build directory's")
    parser.add_argument("--other", type=pathlib.Path, help="another build directory, whose NAT and penstock run beside these")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="of each measurement")
    parser.add_argument("--pace", type=float, default=50000, help="datagrams a second of the load `paced`")
    parser.add_argument("--ports", type=int, default=15000, help="mappings whose memory is measured; 0: none")
    parser.add_argument("--connections", type=int, default=5000, help="of the load `tcp-connect`")
    parser.add_argument("--flows", type=int, default=10000, help="of the load `tcp-flows`")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--ways", type=words, help="some of: " + ", ".join(names))
    parser.add_argument("--loads", type=words, default=kinds, help="some of: udp, tcp (all of these), " + ", ".join(kinds))
    parser.add_argument("--outer-offloads", choices=["on", "off"], default="on",
                        help="off: wires carry frames of MTU size, as real ones do")
    parser.add_argument("--json", type=pathlib.Path, help="write what was measured there")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    if options.rounds < 1 or not 0.1 <= options.seconds <= 5 or not 0 <= options.ports <= 20000:
        parser.error("at least one round, of 0.1 to 5 s; at most 20000 ports")
    if not 1 <= options.connections <= 50000 or not 1 <= options.flows <= 50000:
        parser.error("1 to 50000 connections and flows")
    kinds_of = {"udp": UDP_LOADS, "tcp": tcp_loads.NAMES}
    options.loads = [name for word in options.loads for name in kinds_of.get(word, [word])]
    names += others if options.other else []
    options.ways = options.ways or names
    for given, known in ((options.ways, names), (options.loads, kinds)):
        if unknown := sorted(set(given) - set(known)):
            parser.error(f"there is no {', '.join(unknown)}")
    return options


def prepare(options):
    if os.geteuid() != 0:
        sys.exit("network namespaces take root")
    options.penstock = (options.penstock or options.build / "penstock").resolve()
    options.other = options.other and options.other.resolve()
    options.tools = (options.build / "bench").resolve()
    missing = [program for program in ("ip", "nft", "openssl", "ping") if shutil.which(program) is None]
    missing += [str(options.tools / tool) for tool in ("udp_load", "tcp_load", "tun_nat", "tls_pipe")
                if not (options.tools / tool).exists()]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}")
    for signal_number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, stop)


def main():
    options = arguments()
    prepare(options)
    ways = [way for way in all_ways(options.penstock, options.other) if way.name in options.ways and sittings(way, options)]
    if not ways:
        sys.exit("by none of these ways goes any of these loads")
    facts = {**machine(), "versions": versions(["passt", "nftables", "iproute2"], options.penstock),
             "options": {name: getattr(options, name) for name in ("rounds", "seconds", "pace", "ports", "connections", "flows",
                                                                  "outer_offloads")}}
    records = []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-keys-") as name:
        keys = pathlib.Path(name)
        keys.chmod(0o755)
        try:
            certificates(keys)
            for turn in range(options.rounds):
                first = turn * max(1, len(ways) // options.rounds) % len(ways)
                for way in ways[first:] + ways[:first]:
                    began = time.monotonic()
                    record = {"round": turn, "subject": way.name, **measure(way, options, keys)}
                    records.append(record)
                    say(f"round {turn + 1}  {way.name:17}{in_one_line(record)}  ({time.monotonic() - began:.0f} s)")
                    for log, tail in record.get("log", {}).items():
                        say(f"    {log}:", *(f"\n      {line}" for line in tail.splitlines()))
        except KeyboardInterrupt:
            options.json = None
            if records:
                finish(ways, options, records, facts)
            sys.exit(130)
    missed = finish(ways, options, records, facts)
    failed = any(record["status"] == "failed" or record["errors"] for record in records
                 if not record["subject"].startswith("pasta"))
    sys.exit(1 if say_unmet(missed) or failed else 0)


if __name__ == "__main__":
    main()
