#!/usr/bin/python3
"""How one gateway serves two clients: whether it shares evenly, and whether a slow one costs the other anything.

    bench/compare/fairness.py --build DIR [--rounds 24] [--seconds 2] [--json FILE]      (as root)

      gateway wire1 -------------------------- wire0 first
      gateway wire2 --[ tbf, 5 Mbit/s ]------- wire0 second      only in the second part

1. Both clients' streams at once, up and then down: the smaller throughput to the larger.
2. The first client's throughput while the second downloads over its slow line, and while it does not, in turns that
   rotate; what the gateway's memory does meanwhile, and the second's pings. A third turn has the second download the
   same without any VPN: what its programs and its line take of the processors that all share.

Exit codes: 0; 1 a must was measured and is not met, or something failed; 130 interrupted.
"""

import argparse
import contextlib
import itertools
import json
import operator
import pathlib
import random
import re
import statistics
import sys
import tempfile
import time

import measures
import report
from hosts import Failure, Lab, certificates, wait_for
from run import cipher_library, common_arguments, machine, prepare, say, say_unmet, versions
from subjects import INNER, STARTING, PenstockClients

SLOW_LINE = ["tbf", "rate", "5mbit", "burst", "32kbit", "latency", "50ms"]
BULK_PORT = 5300
UNDER_WAY = 500_000  # bytes by which a download has filled what queues there are
RESAMPLES = 2000
# Of the second's download; in every order, so that none profits from what went before.
ORDERS = list(itertools.permutations(("without", "with", "bare")))
EVEN = 0.8  # smaller to larger: within 20 %
ROUNDS_TO_JUDGE = 20  # fewer say too little of a difference
SESSION_QUEUE = 8 * 2**20  # bytes; session.queue's default bounds what waits for one client
SLOW_PING = 100.0  # ms


class Place:
    """A gateway with two clients that have logged in."""

    def __init__(self, lab, options):
        penstock = PenstockClients("penstock", "Penstock", options.penstock)
        self.hosts = [lab.client("first"), lab.client("second")]
        self.lab, self.gateway = lab, penstock.start_gateway(lab)
        self.clients = [penstock.start_client(lab, host)[0] for host in self.hosts]
        self.tunnels = [measures.Tunnel(host, lab.gateway, INNER) for host in self.hosts]
        self.bare_second = measures.Tunnel(self.hosts[1], lab.gateway, self.hosts[1].gateway)
        for host in self.hosts:
            host.wait_ping(INNER, STARTING)

    def slow_second(self):
        """Both ends of its wire, so that up is as slow as down."""
        second = self.hosts[1]
        for host, wire in ((self.lab.gateway, second.gateway_wire), (second, second.wire)):
            host.run("tc", "qdisc", "add", "dev", wire, "root", *SLOW_LINE)


def shared(place, direction, seconds):
    """Both at once: Mbit/s of each."""
    backwards = ["-R"] if direction == "down" else []
    streams = []
    try:
        for number, tunnel in enumerate(place.tunnels):
            streams.append(measures.Stream(tunnel, seconds, backwards, measures.PORT + number))
        return [measures.mbits(stream.result()["sum_received"]) for stream in streams]
    finally:
        for stream in streams:
            stream.stop()


def sharing(place, options):
    found = {}
    for direction in ("up", "down"):
        rates = []
        for number in range(options.sharing_rounds):
            rates.append(shared(place, direction, options.sharing_seconds))
            say(f"both {direction} {number + 1}: {rates[-1][0]:.0f} and {rates[-1][1]:.0f} Mbit/s")
        found[direction] = {"mbits": rates, "smaller_to_larger": report.spread([min(r) / max(r) for r in rates])}
    return found


class Download:
    """The second client's, for as long as the block lasts; `way` is a tunnel of the place."""

    def __init__(self, place, way, seconds):
        self.place, self.way, self.seconds = place, way, seconds

    def __enter__(self):
        # Longer than it may be needed; it is stopped.
        self.stream = measures.Stream(self.way, self.seconds + 3 * measures.GRACE, ["-R"], BULK_PORT)
        try:
            begun = self.received()
            wait_for(lambda: self.received() > begun + UNDER_WAY, STARTING, "the slow client's download runs")
        except BaseException:
            self.stream.stop()
            raise
        return self

    def received(self):
        second = self.place.hosts[1]
        return int(second.run("cat", f"/sys/class/net/{second.wire}/statistics/rx_bytes"))

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.stream.check_running()
        finally:
            self.stream.stop()


def first_throughput(place, direction, seconds):
    return measures.single(place.tunnels[0], direction, seconds)[direction]


class Peak:
    """The most memory that a process had resident, bytes, since this was made."""

    def __init__(self, pid):
        self.directory = pathlib.Path(f"/proc/{pid}")
        # A kernel that cannot forget tells the most since the process began.
        with contextlib.suppress(OSError):
            (self.directory / "clear_refs").write_text("5")

    def read(self):
        return int(re.search(r"VmHWM:\s+(\d+) kB", (self.directory / "status").read_text())[1]) * 1024


def beside_a_slow_one(place, options):
    rounds = []
    for number in range(options.rounds):
        one = {}
        for kind in ORDERS[number % len(ORDERS)]:
            way = {"with": place.tunnels[1], "bare": place.bare_second}.get(kind)
            with Download(place, way, options.seconds) if way else contextlib.nullcontext():
                peak = Peak(place.gateway.pid)
                one[kind] = first_throughput(place, options.direction, options.seconds)
                one[f"peak_{kind}"] = peak.read()
        say(f"round {number + 1}: the first {options.direction} {one['without']:.0f} Mbit/s, "
            f"{one['with']:.0f} beside the slow one, {one['bare']:.0f} beside it without VPN; gateway {one['peak_without'] / 2**20:.1f} and "
            f"{one['peak_with'] / 2**20:.1f} MiB")
        rounds.append(one)
    return rounds


def second_pings(place, seconds):
    """Of the slow client: while nothing goes on, and while it downloads."""
    count = max(50, round(seconds / measures.PING_INTERVAL))
    found = {}

    def pings():
        times, lost = measures.ping(place.hosts[1], INNER, count)
        return {"p50": measures.percentile(times, 0.5), "p99": measures.percentile(times, 0.99),
                "lost": lost / (lost + len(times))}

    time.sleep(2)  # until what is left of the last download has gone
    found["idle"] = pings()
    with Download(place, place.tunnels[1], measures.ping_deadline(count)):
        found["load"] = pings()
    return found


def difference(rounds, kind):
    """Of this kind of round to the one without: its median, and where that lies in 95 of 100 resamples of the rounds."""
    changes = [one[kind] / one["without"] - 1 for one in rounds]
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(changes, k=len(changes))) for _ in range(RESAMPLES))
    return {"median": statistics.median(changes), "low": medians[int(0.025 * RESAMPLES)],
            "high": medians[int(0.975 * RESAMPLES) - 1], "each": changes}


def verdict(found):
    """The targets; what was not come to is not measured."""
    sharing, slow = found.get("sharing", {}), found.get("slow")
    lines = [report.judged(f"two clients at once {direction}, smaller to larger",
                           sharing[direction]["smaller_to_larger"]["median"] if sharing else None, EVEN)
             for direction in ("up", "down")]
    ping = slow and slow.get("second_ping")
    enough = bool(slow) and len(slow["rounds"]) >= ROUNDS_TO_JUDGE
    lines += [
        # A loss is shown where the whole interval lies below zero.
        report.judged("what a slow client changes for the first, %, upper end of the interval",
                      slow and 100 * slow["difference"]["high"], 0.0 if enough or not slow else None,
                      note="" if enough else f"takes {ROUNDS_TO_JUDGE} rounds"),
        report.judged("gateway's memory, MiB more beside a slow client, at most",
                      slow and (slow["peak_with"]["max"] - slow["peak_before"]) / 2**20, SESSION_QUEUE / 2**20,
                      compare=operator.le),
        report.judged("slow client's ping p99 under load, ms, below", ping and ping["load"]["p99"], SLOW_PING,
                      compare=operator.lt)]
    return lines


def with_interval(change):
    return f"{100 * change['median']:+.1f} ({100 * change['low']:+.1f} to {100 * change['high']:+.1f})"


def print_report(found):
    if "sharing" in found:
        rows = [[direction, report.with_spread(part["smaller_to_larger"])] for direction, part in found["sharing"].items()]
        print("\n" + report.table(["two clients at once, smaller to larger", "median (min-max)"], rows))
    if "slow" in found:
        slow = found["slow"]
        rows = [[f"first client {slow['direction']}, Mbit/s, {kind} the download", report.with_spread(slow[kind])]
                for kind in ("without", "with")]
        rows += [["the same beside that download without VPN", report.with_spread(slow["bare"])],
                 ["difference, %", with_interval(slow["difference"])],
                 ["difference without VPN, %", with_interval(slow["difference_bare"])],
                 ["gateway's most resident memory, MiB, before", report.number(slow["peak_before"] / 2**20)],
                 *([f"the same {kind} the download",
                    report.with_spread({k: v / 2**20 if k != "rounds" else v for k, v in slow[f"peak_{kind}"].items()})]
                   for kind in ("without", "with"))]
        rows += [[f"slow client's ping p50/p99, ms, {load}", f"{report.number(p['p50'])}/{report.number(p['p99'])}"
                  f" ({100 * p['lost']:.1f} % lost)"] for load, p in slow.get("second_ping", {}).items()]
        print("\n" + report.table(["beside a client of 5 Mbit/s", "median (min-max)"], rows))
    print("\n" + report.verdict_table(found["verdict"]))
    facts = found["machine"]
    print(f"\n{facts['kernel']}, {facts['cpu']}, {facts['cores']} cores, load before {facts['load_before']:.2f}; "
          f"{facts['congestion']}; TLS records by {facts['cipher_library']}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common_arguments(parser)
    parser.add_argument("--rounds", type=int, default=24, help="beside the slow client")
    parser.add_argument("--seconds", type=float, default=2, help="of each throughput in them")
    parser.add_argument("--direction", choices=["up", "down"], default="down", help="of the first client's stream in them")
    parser.add_argument("--sharing-rounds", type=int, default=3)
    parser.add_argument("--sharing-seconds", type=float, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds beside the slow client, one of sharing of 2 s")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.sharing_rounds, options.sharing_seconds = 2, 1, 2
    if min(options.rounds, options.sharing_rounds) < 1 or not 1 <= min(options.seconds, options.sharing_seconds) <= 600:
        parser.error("at least one round, of 1 to 600 s")
    return options


def main():
    options = arguments()
    prepare(options)
    found = {"machine": {**machine(), "versions": versions(["iperf3", "iproute2"], options.penstock),
                         "cipher_library": cipher_library(options.penstock)}}
    exit_code = 0
    with tempfile.TemporaryDirectory(prefix="penstock-bench-keys-") as name:
        keys = pathlib.Path(name)
        keys.chmod(0o755)
        try:
            certificates(keys)
            with Lab(options.tools, keys, options.congestion) as lab:
                try:
                    place = Place(lab, options)
                    found["machine"]["congestion"] = lab.congestion_in_use
                    found["sharing"] = sharing(place, options)
                    place.slow_second()
                    peak = Peak(place.gateway.pid)
                    first_throughput(place, options.direction, options.seconds)
                    before = peak.read()
                    rounds = beside_a_slow_one(place, options)
                    found["slow"] = {
                        "direction": options.direction, "line": " ".join(SLOW_LINE), "rounds": rounds,
                        **{kind: report.spread([one[kind] for one in rounds]) for kind in rounds[0]},
                        "difference": difference(rounds, "with"), "difference_bare": difference(rounds, "bare"), "peak_before": before}
                    found["slow"]["second_ping"] = second_pings(place, 2 * options.seconds)
                except Failure as failure:
                    exit_code = 1
                    say(f"failed: {failure}")
                    for log, tail in lab.logs().items():
                        say(f"  {log}:", *(f"\n    {line}" for line in tail.splitlines()))
        except KeyboardInterrupt:
            say("\nstopped; what there is so far, and is written nowhere:")
            exit_code, options.json = 130, None
    found["machine"].setdefault("congestion", options.congestion)
    found["verdict"] = verdict(found)
    print_report(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    unmet = say_unmet(report.unmet(found["verdict"]))
    sys.exit(exit_code or (1 if unmet else 0))


if __name__ == "__main__":
    main()
