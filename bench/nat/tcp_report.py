"""Tables and verdict of the TCP loads."""

import operator
import statistics

import tcp_loads
from report import judged, judged_ratio, number, ratio, rounds, spread, summary, table, with_spread

DIRECTIONS = ("up", "down")
OURS, OURS_LARGE, PASTA, PASTA_LARGE, TUNNEL = "nat", "nat-65520", "pasta", "pasta-65520", "tunnel-userspace"


def of_each(records, way, value):
    """The spread of `value(measures)`, round by round, where there is one."""
    values = [value(measures[way], measures) for measures in rounds(records).values() if way in measures]
    values = [one for one in values if one is not None]
    return spread(values) if values else None


def to_pipe(records, way):
    """{direction: spread} of a stream by a tunnel to the bare TLS pipe that ran before it between the same machines."""
    def one(direction):
        def value(own, _):
            stream, pipe = own.get(f"tcp-bulk_{direction}"), own.get(f"pipe_{direction}")
            return stream / pipe if stream and pipe else None

        return of_each(records, way, value)

    return {direction: found for direction in DIRECTIONS if (found := one(direction))}


def kernel_own(records, way):
    """What the kernel has of a flow beyond the two sockets of its ends, which `route` shows in the same round."""
    key = "tcp-flows_kernel_each"

    def value(own, measures):
        ends = measures.get("route", {}).get(key)
        return own[key] - ends if key in own and ends is not None else None

    return of_each(records, way, value) if way != "route" else None


def median(measure, scale=1.0):
    return number(measure["median"] * scale) if measure else "-"


def scaled(measure, scale):
    return measure and {**measure, **{which: measure[which] * scale for which in ("median", "min", "max")}}


def costs(medians, key, scale=1.0):
    return " + ".join(median(medians[name], scale) for side in ("gateway", "client")
                      if (name := f"{key}_cpu_{side}") in medians) or "-"


def bulk_table(found, names):
    rows = []
    for name in names:
        medians = found.get(name, {})
        if not any(f"tcp-bulk_{d}" in medians for d in DIRECTIONS):
            continue
        rows.append([name, *(cell for d in DIRECTIONS for cell in (
            with_spread(scaled(medians.get(f"tcp-bulk_{d}"), 1e-3)), costs(medians, f"tcp-bulk_{d}"),
            median(medians.get(f"tcp-bulk_{d}_retransmitted"))))])
    pipe = [medians for name in names if "pipe_up" in (medians := found.get(name, {}))]
    if pipe:
        cells = []
        for d in DIRECTIONS:
            middle = statistics.median(medians[f"pipe_{d}"]["median"] for medians in pipe if f"pipe_{d}" in medians)
            cells += [number(middle / 1e3), costs(pipe[0], f"pipe_{d}"), "-"]
        rows.append(["(bare TLS pipe)", *cells])
    return table(["TCP, one stream", *(f"{d}: {what}" for d in DIRECTIONS for what in ("Gbit/s", "CPU s a GB", "resent"))], rows)


def connect_table(found, names):
    rows = [[name, with_spread(medians["tcp-connect"]), median(medians.get("tcp-connect_p99")),
             median(medians.get("tcp-connect_failed")), costs(medians, "tcp-connect")]
            for name in names if "tcp-connect" in (medians := found.get(name, {}))]
    return table(["TCP connections", "a second", "p99 ms", "failed", "CPU us each"], rows)


def latency_table(found, names):
    rows = []
    for name in names:
        medians = found.get(name, {})
        if not any(f"tcp-latency_{under}_p99" in medians for under in tcp_loads.UNDER):
            continue
        cells = []
        for under in tcp_loads.UNDER:
            key = f"tcp-latency_{under}"
            cells += [median(medians.get(f"{key}_p50")), with_spread(medians.get(f"{key}_p99"))]
            cells += [median(medians.get(f"{key}_mbit"), 1e-3)] if under != "idle" else []
        rows.append([name, *cells])
    head = [what for under in tcp_loads.UNDER[1:] for what in (f"{under}: p50", "p99", "Gbit/s beside")]
    return table(["requests, ms", "idle: p50", "p99", *head], rows)


def flows_table(records, found, names):
    columns = ["tcp-flows", "tcp-flows_sockets", "tcp-flows_resident_each", "tcp-flows_kernel_each"]
    slabs = [slab for slab in (*(f"slab_{name}" for name in tcp_loads.SOCKETS), "buffers_each")
             if any(medians.get(f"tcp-flows_{slab}", {}).get("median") for medians in found.values())]
    rows = [[name, *(with_spread(medians.get(column)) for column in columns), with_spread(kernel_own(records, name)),
             *(median(medians.get(f"tcp-flows_{slab}")) for slab in slabs)]
            for name in names if "tcp-flows" in (medians := found.get(name, {}))]
    return table(["TCP flows, bytes each", "alive", "sockets", "resident", "kernel", "less route's", *slabs], rows)


def tables(records, names):
    found = summary(records)
    return [bulk_table(found, names), latency_table(found, names), connect_table(found, names),
            flows_table(records, found, names)]


def ratio_tables(records, pairs):
    keys = [f"tcp-bulk_{d}{suffix}" for suffix in ("", "_cpu_gateway") for d in DIRECTIONS]
    keys += ["tcp-connect", "tcp-connect_cpu_gateway"]
    pairs = [(OURS_LARGE, PASTA_LARGE), *pairs]
    rows = [[f"{ours} to {other}", *(with_spread(ratio(records, ours, other, key)) for key in keys)] for ours, other in pairs]
    for way in summary(records):
        if found := to_pipe(records, way):
            rows.append([f"{way} to the bare TLS pipe", *(with_spread(found.get(d)) for d in DIRECTIONS), *["-"] * 4])
    return table(["TCP, to another in the same round", *keys], [row for row in rows if any(one != "-" for one in row[1:])])


def verdict(records, flows):
    found = summary(records)
    ours = found.get(OURS, {})
    lines = [judged_ratio(records, f"the exit alone {d}, MTU {mtu}, to pasta's", one, other, f"tcp-bulk_{d}", must)
             for one, other, mtu, must in ((OURS_LARGE, PASTA_LARGE, 65520, 1.0), (OURS, PASTA, 1420, 3.0))
             for d in DIRECTIONS]
    pipe = to_pipe(records, TUNNEL)
    lines += [judged(f"through tunnel and user-space NAT {d}, to the TLS pipe", pipe.get(d, {}).get("median"), 0.40, 0.65,
                     note=with_spread(pipe.get(d))) for d in DIRECTIONS]
    alive, each = ours.get("tcp-flows"), ours.get("tcp-flows_resident_each")
    lines.append(judged(f"flows at once, of {flows}", alive and alive["median"], flows))
    lines.append(judged("memory of a flow besides the kernel's, bytes, at most", each and each["median"], None, 2048,
                        operator.le))
    return lines
