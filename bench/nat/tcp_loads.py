"""TCP by a way: a stream, connections, what a flow takes of memory, and how soon small requests are answered; tcp_load
at both ends, processor time by the scheduler's account."""

import contextlib
import json
import os
import pathlib
import re
import signal
import time

from hosts import Failure
from loads import GRACE, resident, slabs
from measures import cpu_seconds

NAMES = ("tcp-bulk", "tcp-latency", "tcp-connect", "tcp-flows")
PORT = 9000
BESIDE = 9100  # of a stream that runs beside requests
PORTS = 16     # of the server: the ports that a client or a translator connects from are bounded for each of them
PARALLEL = 64
WARM = 500
REQUESTS = 200  # a second
REQUEST, ANSWER = 100, 1024
LEAD = 0.7   # of a stream, before requests begin beside it
TAIL = 1.0   # that it lasts longer
SETTLE = 0.5
SOCKETS = ("TCP", "tcp_bind_bucket", "tcp_bind2_bucket", "sock_inode_cache", "lsm_inode_cache", "lsm_file_cache", "filp",
           "dentry", "eventpoll_epi", "eventpoll_pwq", "ep_head", "nf_conntrack")
UNDER = ("idle", "down", "up")


@contextlib.contextmanager
def programs(lab, way, load, *options, port=PORT):
    """tcp_load on both machines, by names."""
    started = {}
    try:
        for role, host in (("server", way.server), ("client", way.client)):
            started[role] = host.start(lab.tools / "tcp_load", f"--{role}", "--address", way.address, "--port", port,
                                       "--load", load, *options, name="tcp_load")
            if role == "server":
                started[role].wait_for_log("listening")
        yield started
    finally:
        for program in reversed(started.values()):
            program.stop(1.0)


def account(program, seconds):
    """What it prints at its end."""
    if program.wait(seconds) != 0:
        raise Failure(program.tail(1))
    return json.loads(program.log().splitlines()[-1])


def asked(lab, way, load, *options):
    """The client's account, of a server that only answers."""
    with programs(lab, way, load, *options) as started:
        return account(started["client"], GRACE)


def streamed(started, direction, seconds):
    """Accounts of who sent and who received."""
    accounts = {role: account(started[role], seconds + GRACE) for role in ("client", "server")}
    sender, receiver = ("client", "server") if direction == "up" else ("server", "client")
    sent, received = accounts[sender], accounts[receiver]
    if not received["bytes"] or received["bytes"] != sent["bytes"]:
        raise Failure(f"of {sent['bytes']} bytes {received['bytes']} arrived")
    return sent, received


def mbits(sent, received):
    return received["bytes"] * 8 / max(received["seconds"], sent["seconds"]) / 1e6


def spent(way):
    return {side: cpu_seconds(pids) for side, pids in way.programs.items()}


def reach(lab, way):
    """So that where no TCP passes that is said once."""
    heard = asked(lab, way, "connect", "--count", 1)
    if not heard["connections"]:
        raise Failure(f"no connection: {', '.join(heard['failures'])}")


def bulk(lab, way, direction, seconds):
    before = spent(way)
    with programs(lab, way, direction, "--seconds", seconds) as started:
        sent, received = streamed(started, direction, seconds)
    key = f"tcp-bulk_{direction}"
    return {key: mbits(sent, received), f"{key}_retransmitted": sent["retransmitted"],
            **{f"{key}_cpu_{side}": (after - before[side]) / (received["bytes"] / 1e9)
               for side, after in spent(way).items()}}


def latency(lab, way, under, seconds):
    """Of requests at a pace, while nothing or one stream of the same client goes in the direction `under`."""
    key, found = f"tcp-latency_{under}", {}
    lasting = LEAD + seconds + TAIL
    with contextlib.ExitStack() as stack:
        if under != "idle":
            beside = stack.enter_context(programs(lab, way, under, "--seconds", lasting, port=BESIDE))
            time.sleep(LEAD)
        heard = asked(lab, way, "latency", "--seconds", seconds, "--rate", REQUESTS, "--request", REQUEST, "--answer", ANSWER)
        if under != "idle":
            if not all(program.running() for program in beside.values()):
                raise Failure("the stream beside it ended too early: " + beside["client"].tail(1))
            found[f"{key}_mbit"] = mbits(*streamed(beside, under, lasting))
    if heard["answered"] != heard["requests"]:
        raise Failure(f"of {heard['requests']} requests {heard['answered']} were answered")
    return {f"{key}_p50": heard["p50_ms"], f"{key}_p99": heard["p99_ms"], **found}


def connect(lab, way, count):
    before = spent(way)
    heard = asked(lab, way, "connect", "--ports", PORTS, "--count", count, "--parallel", PARALLEL)
    made = heard["connections"]
    if made < 0.5 * count:
        raise Failure(f"of {count} connections {made} were made: {heard['failures']}")
    return {"tcp-connect": made / heard["seconds"], "tcp-connect_p99": heard["p99_ms"],
            "tcp-connect_failed": sum(heard["failures"].values()),
            **{f"tcp-connect_cpu_{side}": (after - before[side]) / made * 1e6 for side, after in spent(way).items()}}


# Memory


def sockstat(host):
    """TCP's sockets there, and pages of the buffers of all on the machine."""
    with host.entered():
        text = pathlib.Path("/proc/thread-self/net/sockstat").read_text()
    return tuple(int(re.search(rf"^TCP:.* {name} (\d+)", text, re.M)[1]) for name in ("inuse", "mem"))


def memory_now(lab, way):
    used, pages = sockstat(lab.gateway)
    return {"sockets": used, "buffers": pages * os.sysconf("SC_PAGE_SIZE"), **dict.fromkeys(SOCKETS, 0), **slabs(SOCKETS),
            "resident": sum(resident(pid) for pid in way.programs.get("gateway", []))}


def flows(lab, way, count):
    """Of so many idle flows, each: what the gateway's process and what the kernel has more of while they are there. The
    kernel's is what the caches hold that sockets are made of; two sockets of each flow are the ends' own, by whichever
    way."""
    asked(lab, way, "connect", "--ports", PORTS, "--count", WARM, "--parallel", PARALLEL)
    time.sleep(SETTLE)
    before = memory_now(lab, way)
    with programs(lab, way, "flows", "--ports", PORTS, "--count", count, "--parallel", PARALLEL) as started:
        client = started["client"]
        client.wait_for_log("held", GRACE)
        time.sleep(SETTLE)
        after = memory_now(lab, way)
        client.popen.send_signal(signal.SIGTERM)
        heard = account(client, GRACE)
    held = heard["connections"]
    if held < 0.5 * count:
        raise Failure(f"of {count} flows {held} were established: {heard['failures']}")
    more = {name: after[name] - before[name] for name in before}
    found = {"tcp-flows": heard["alive"], "tcp-flows_sockets": more["sockets"],
             "tcp-flows_kernel_each": sum(more[name] for name in SOCKETS) / held,
             "tcp-flows_slabs_each": more["all"] / held,
             "tcp-flows_buffers_each": more["buffers"] / held}
    if way.programs:
        found["tcp-flows_resident_each"] = more["resident"] / held
    return {**found, **{f"tcp-flows_slab_{name}": more[name] / held for name in SOCKETS}}


def everything(lab, way, seconds, connections, wanted):
    """The measurements of one sitting, each a name and a function; flows have one of their own."""
    found = []
    if "tcp-bulk" in wanted:
        found += [(f"tcp-bulk {d}", lambda d=d: bulk(lab, way, d, seconds)) for d in ("up", "down")]
    if "tcp-latency" in wanted:
        found += [(f"tcp-latency {under}", lambda under=under: latency(lab, way, under, 2 * seconds)) for under in UNDER]
    if "tcp-connect" in wanted:
        found.append(("tcp-connect", lambda: connect(lab, way, connections)))
    return found
