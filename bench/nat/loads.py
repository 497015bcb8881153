"""UDP by a way, and what it cost: udp_load at both ends, processor time by the scheduler's account, memory."""

import dataclasses
import json
import pathlib
import re
import time

from hosts import Failure
from measures import cpu_seconds

PORT = 9000
GRACE = 25.0  # beyond the longest that udp_load waits for anything
LARGE = 1392  # 1420 with its headers, what a tunnel takes
SEGMENTS = 46  # as many as fit into 64 KiB
SOCKETS = ("UDP", "sock_inode_cache", "filp", "eventpoll_epi", "eventpoll_pwq", "ep_head", "dentry", "nf_conntrack")


@dataclasses.dataclass(frozen=True)
class Load:
    name: str
    title: str
    size: int
    segments: int = 1
    flows: int = 1
    rate: float = 0.0


def loads(pace):
    return [
        Load("small", "64 B", 64),
        Load("flows", "64 B, 16 flows", 64, flows=16),
        Load("large", f"{LARGE} B", LARGE),
        Load("super", f"{LARGE} B in super-datagrams", LARGE, segments=SEGMENTS),
        Load("paced", f"64 B, {pace:g} a second", 64, rate=pace),
    ]


def exchange(lab, way, *options):
    """udp_load on both machines; the accounts of "server" and "client"."""
    tool, started = lab.tools / "udp_load", {}
    try:
        for role, host in (("server", way.server), ("client", way.client)):
            started[role] = host.start(tool, f"--{role}", "--address", way.address, "--port", PORT, *options, name="load")
            if role == "server":
                started[role].wait_for_log("listening")
        for program in started.values():
            if program.wait(GRACE) != 0:
                raise Failure(program.tail(2))
        return {role: json.loads(program.log().splitlines()[-1]) for role, program in started.items()}
    finally:
        for program in started.values():
            program.stop(1.0)


def carry(lab, way, load, direction, seconds):
    """What was received, and what that cost each side's programs."""
    before = {side: cpu_seconds(pids) for side, pids in way.programs.items()}
    accounts = exchange(lab, way, "--direction", direction, "--size", load.size, "--segments", load.segments,
                        "--flows", load.flows, "--seconds", seconds, "--rate", load.rate)
    sent, received = (accounts[side] for side in (("client", "server") if direction == "up" else ("server", "client")))
    packets = received["packets"]
    # A few that came all at once are no rate.
    seconds_taken = max(received["seconds"], sent["seconds"])
    if not packets:
        raise Failure("nothing arrived")
    if received["odd"]:
        raise Failure(f"{received['odd']} datagrams of another size than was sent")
    key = f"{load.name}_{direction}"
    found = {key: packets / seconds_taken, f"{key}_mbit": received["bytes"] * 8 / seconds_taken / 1e6,
             f"{key}_loss": 1 - packets / sent["packets"]}
    for side, pids in way.programs.items():
        found[f"{key}_cpu_{side}"] = (cpu_seconds(pids) - before[side]) / packets * 1e6
    return found


# Memory


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def slabs(names):
    """{cache: bytes in use} of these, and "all" slabs together."""
    found = {}
    for line in pathlib.Path("/proc/slabinfo").read_text().splitlines()[2:]:
        name, active, _, size = line.split()[:4]
        if name in names:
            found[name] = int(active) * int(size)
    found["all"] = int(re.search(r"Slab:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text())[1]) * 1024
    return found


def udp_sockets(host):
    with host.entered():
        return int(re.search(r"^UDP: inuse (\d+)", pathlib.Path("/proc/thread-self/net/sockstat").read_text(), re.M)[1])


def memory(lab, way, ports):
    """Of so many mappings, each: what the translator's process and what the kernel has more of afterwards."""
    before = slabs(SOCKETS), resident(way.translator.pid) if way.translator else 0, udp_sockets(lab.gateway)
    mapped = exchange(lab, way, "--direction", "ports", "--flows", ports)["server"]["ends"]
    time.sleep(0.3)  # for what the closed sockets of the client leave behind
    after = slabs(SOCKETS), resident(way.translator.pid) if way.translator else 0, udp_sockets(lab.gateway)
    if mapped < 0.9 * ports:
        raise Failure(f"of {ports} ports only {mapped} arrived")
    found = {"mappings": mapped, "sockets": after[2] - before[2], "kernel_each": (after[0]["all"] - before[0]["all"]) / mapped}
    if way.translator:
        found["resident_each"] = (after[1] - before[1]) / mapped
    for name in SOCKETS:
        found[f"slab_{name}"] = (after[0].get(name, 0) - before[0].get(name, 0)) / mapped
    return found


def everything(lab, way, seconds, pace, ports, wanted):
    """The measurements, each a name and a function."""
    found = [(f"{load.name} {direction}", lambda load=load, direction=direction: carry(lab, way, load, direction, seconds))
             for load in loads(pace) if load.name in wanted for direction in ("up", "down")]
    return found + ([("memory", lambda: memory(lab, way, ports))] if ports and "memory" in wanted else [])
