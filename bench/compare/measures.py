"""What is measured through a tunnel: throughput by iperf3, delay by ping, processor time by the scheduler's account.

Throughput is what the receiver got, Mbit/s; up is from the client to the gateway. Delays are milliseconds. Processor time
is seconds for each 10^9 bytes of payload, of all threads of the programs of one side.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import re
import time

from hosts import Failure, Host

PORT = 5201
PING_INTERVAL = 0.01
GRACE = 15.0  # for an end that comes late
TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Tunnel:
    """What a subject has put up: iperf3 and ping run on `near` against `address`, which `far` has inside."""
    near: Host
    far: Host
    address: str
    programs: dict = dataclasses.field(default_factory=dict)  # side -> the process ids of its programs

    def __post_init__(self):
        """The inner TCP's algorithm is its routes', as the outer's. Were it chosen by iperf3, after connecting, a kernel
        whose default is BBR would go on pacing what it sends."""
        there = self.near.choose_congestion(self.address)
        self.far.choose_congestion(there)


def cpu_seconds(pids):
    """Of these processes until now; of one that has ended, nothing."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
            try:
                total += sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
            except FileNotFoundError:  # a kernel without it counts in ticks
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def percentile(values, part):
    """The smallest value that `part` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


class Stream:
    """One run of iperf3 between two hosts; starts at once, and result() waits for its end."""

    def __init__(self, tunnel, seconds, options=(), port=PORT):
        self.seconds = seconds
        self.server = tunnel.far.start("iperf3", "-s", "-1", "-B", tunnel.address, "-p", port, "--forceflush")
        try:
            self.server.wait_for_log("Server listening")
            self.client = tunnel.near.start("iperf3", "-c", tunnel.address, "-p", port, "-t", seconds, "-J",
                                            "--connect-timeout", 5000, *options)
        except BaseException:
            self.server.stop()
            raise

    def result(self):
        """The "end" of iperf3's report."""
        try:
            self.client.wait(self.seconds + GRACE)
            try:
                report = json.loads(self.client.log())
            except json.JSONDecodeError:
                raise Failure("iperf3: " + self.client.tail(2)) from None
            if "error" in report or "sum_received" not in report.get("end", {}):
                raise Failure("iperf3: " + report.get("error", "no result"))
            return report["end"]
        finally:
            self.stop()

    def check_running(self):
        """What was measured beside it was measured without it, if it has ended by now."""
        if not self.client.running():
            raise Failure("the load ended too early: " + self.client.tail(2))

    def stop(self):
        self.client.stop(1.0)
        self.server.stop(1.0)


def mbits(total):
    return total["bits_per_second"] / 1e6


def single(tunnel, direction, seconds):
    """One stream, and what it cost each side."""
    before = {side: cpu_seconds(pids) for side, pids in tunnel.programs.items()}
    received = Stream(tunnel, seconds, ["-R"] if direction == "down" else []).result()["sum_received"]
    if not received["bytes"]:
        raise Failure("nothing arrived")
    measured = {direction: mbits(received)}
    for side, pids in tunnel.programs.items():
        measured[f"cpu_{direction}_{side}"] = (cpu_seconds(pids) - before[side]) / (received["bytes"] / 1e9)
    return measured


def four_streams(tunnel, seconds):
    return {"four": mbits(Stream(tunnel, seconds, ["-P", "4"]).result()["sum_received"])}


def both_ways(tunnel, seconds):
    end = Stream(tunnel, seconds, ["--bidir"]).result()
    up, down = mbits(end["sum_received"]), mbits(end["sum_received_bidir_reverse"])
    return {"both": up + down, "both_up": up, "both_down": down}


def ping_deadline(count):
    """Seconds; ping may wait longer between two than it is told."""
    return math.ceil(2 * count * PING_INTERVAL + 2)


def ping(host, address, count):
    """Times in milliseconds, and how many stayed unanswered."""
    deadline = ping_deadline(count)
    text = host.run("ping", "-n", "-i", PING_INTERVAL, "-c", count, "-w", deadline, "-W", 2, address,
                    seconds=deadline + GRACE, check=False)
    times = [float(time_) for time_ in re.findall(r"time=([0-9.]+)", text)]
    sent = re.search(r"(\d+) packets transmitted", text)
    if not times or not sent:
        raise Failure("no ping came back")
    return times, int(sent.group(1)) - len(times)


def delays(tunnel, load, seconds):
    """Pings while nothing, or one stream in the direction `load`, goes through."""
    count = max(50, round(seconds / PING_INTERVAL))
    if load == "idle":
        times, lost = ping(tunnel.near, tunnel.address, count)
    else:
        stream = Stream(tunnel, ping_deadline(count) + GRACE, ["-R"] if load == "down" else [])
        try:
            time.sleep(1.0)  # beyond the stream's slow start
            times, lost = ping(tunnel.near, tunnel.address, count)
            stream.check_running()
        finally:
            stream.stop()
    return {f"ping_{load}_p50": percentile(times, 0.5), f"ping_{load}_p99": percentile(times, 0.99),
            f"ping_{load}_lost": lost / (lost + len(times))}


def everything(tunnel, seconds):
    """The measurements that a tunnel is put through, each a name and a function."""
    return [
        ("idle ping", lambda: delays(tunnel, "idle", seconds / 2)),
        ("up", lambda: single(tunnel, "up", seconds)),
        ("down", lambda: single(tunnel, "down", seconds)),
        ("four streams", lambda: four_streams(tunnel, seconds)),
        ("both ways", lambda: both_ways(tunnel, seconds)),
        ("ping under load up", lambda: delays(tunnel, "up", seconds)),
        ("ping under load down", lambda: delays(tunnel, "down", seconds)),
    ]
