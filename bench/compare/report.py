"""From the records of a run to medians, ratios of the same round, the verdict, and tables of them.

A record is one subject in one round: {"round", "condition", "subject", "status", "measures": {name: number}, ...}, where
status is measured, failed or skipped. Ratios compare what ran within the same round and are then reduced to their
median, since this is what a noisy machine leaves comparable.
"""

import collections
import operator
import statistics

PIPE, SKETCH, OURS, CLIENTS, V1 = "tls-pipe", "sketch", "penstock", "penstock-clients", "penstock-v1"
OCSERV, OPENVPN = "ocserv-tls", "openvpn-tcp"
DIRECTIONS = ("up", "down")
LOADED_P99 = {direction: f"ping_{direction}_p99" for direction in DIRECTIONS}


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": len(values)}


def summary(records):
    """{subject: {measure: spread}} of what was measured."""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for record in records:
        for name, value in record.get("measures", {}).items():
            found[record["subject"]][name].append(value)
    return {subject: {name: spread(values) for name, values in measures.items()} for subject, measures in found.items()}


def rounds(records):
    """{round: {subject: measures}}"""
    found = collections.defaultdict(dict)
    for record in records:
        found[record["round"]][record["subject"]] = record.get("measures", {})
    return found


def ratio(records, ours, other, measure):
    """The spread over the rounds of ours to another's, or None; `other` is a subject or a list to take the best of."""
    others = [other] if isinstance(other, str) else other
    best = min if measure.startswith("ping") else max
    values = []
    for measures in rounds(records).values():
        candidates = [measures[one][measure] for one in others if measure in measures.get(one, {})]
        if candidates and measure in measures.get(ours, {}):
            values.append(measures[ours][measure] / best(candidates))
    return spread(values) if values else None


def ratios(records, subjects):
    """{subject: {against: {direction: spread}}}"""
    peers = [subject.name for subject in subjects if subject.group == "peer"]
    table = {}
    for subject in subjects:
        against = {PIPE: PIPE, SKETCH: SKETCH, **({"best peer": peers} if subject.group == "penstock" else {})}
        lines = {name: {d: ratio(records, subject.name, other, d) for d in DIRECTIONS} for name, other in against.items()}
        lines = {name: {d: r for d, r in line.items() if r} for name, line in lines.items() if name != subject.name}
        table[subject.name] = {name: line for name, line in lines.items() if line}
    return {name: lines for name, lines in table.items() if lines}


# Verdicts


def judged(target, measured, must, aim=None, compare=operator.ge, note=""):
    """A target with what was measured and whether that is enough: None where it was not measured, or cannot be judged."""
    return {"target": target, "measured": measured, "must": must, "aim": aim,
            "must_met": None if measured is None or must is None else bool(compare(measured, must)),
            "aim_met": None if measured is None or aim is None else bool(compare(measured, aim)), "note": note}


def judged_ratio(records, target, ours, other, measure, *bounds, compare=operator.ge):
    found = ratio(records, ours, other, measure)
    note = f"{with_spread(found)} in {found['rounds']} rounds" if found and found["rounds"] > 1 else ""
    return judged(target, found and found["median"], *bounds, compare=compare, note=note)


def verdict(records, subjects):
    """The targets on the plain wire."""
    peers = [subject.name for subject in subjects if subject.group == "peer"]
    medians = {subject: {m: s["median"] for m, s in measures.items()} for subject, measures in summary(records).items()}
    lines = []

    def ratio_line(*arguments, **options):
        lines.append(judged_ratio(records, *arguments, **options))

    for d in DIRECTIONS:
        ratio_line(f"single stream {d}, to the TLS pipe", OURS, PIPE, d, 0.50, 0.75)
    for d in DIRECTIONS:
        ratio_line(f"single stream {d}, to the sketch", OURS, SKETCH, d, 1.0, 1.2)
    for d in DIRECTIONS:
        ratio_line(f"single stream {d}, to the best peer of the round", OURS, peers, d, 4.0, 6.0)
    for d in DIRECTIONS:
        ratio_line(f"client to client {d}, to the TLS pipe", CLIENTS, PIPE, d, 0.30, 0.45)
    lines.append(judged("through the gateway's user-space NAT, to the TLS pipe", None, 0.40, 0.65, note="see bench-nat"))
    for d in DIRECTIONS:
        ratio_line(f"as a plain v1 peer {d}, to the TLS pipe", V1, PIPE, d, 0.12, 0.25)
    for d in DIRECTIONS:
        ratio_line(f"as a plain v1 peer {d}, to ocserv TLS", V1, OCSERV, d, 1.0)
    for d in DIRECTIONS:
        lines.append(judged(f"ping p99 under load {d}, ms, at most", medians.get(OURS, {}).get(LOADED_P99[d]), 8.0, 3.0,
                            operator.le))
    for d in DIRECTIONS:
        ratio_line(f"ping p99 under load {d}, to the best peer of the round, below", OURS, peers, LOADED_P99[d], 1.0,
                   compare=operator.lt)
    return lines


def loss_verdict(records):
    """The targets on a line that loses."""
    return [judged_ratio(records, f"single stream {d}, to {name}", OURS, other, d, 1.0)
            for other, name in ((OPENVPN, "OpenVPN TCP"), (OCSERV, "ocserv TLS")) for d in DIRECTIONS]


def unmet(lines):
    """Of a verdict what was measured and is not enough, in words."""
    return [f"{line['target']}: {number(line['measured'])} (must: {number(line['must'])})"
            for line in lines or () if line["must_met"] is False]


# Tables


def table(head, rows):
    """Columns as wide as they need to be: the first flush left, the others right. Nothing without rows."""
    if not rows:
        return ""
    cells = [list(map(str, row)) for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(cell.rjust(width) if i else cell.ljust(width)
                               for i, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in cells)


def number(value):
    """Three digits that mean something, cut rather than rounded, so that 0.4999 is never 0.500."""
    if value is None:
        return "-"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{int(value * 10 ** digits + 1e-9) / 10 ** digits:.{digits}f}"


def with_spread(measure):
    if not measure:
        return "-"
    text = number(measure["median"])
    return text if measure["rounds"] == 1 else f"{text} ({number(measure['min'])}-{number(measure['max'])})"


def pair(measures, load):
    values = [measures.get(f"ping_{load}_{p}") for p in ("p50", "p99")]
    return "/".join(number(value["median"]) for value in values) if all(values) else "-"


def states(records):
    """{subject: "failed: why"} of those of which nothing was measured, and of single measurements that failed."""
    said = {}
    for record in records:
        if record["status"] != "measured":
            said[f"{record['subject']} {record['status']}"] = record["reason"]
        for name, reason in record.get("errors", {}).items():
            said[f"{record['subject']}, {name}"] = reason
    return said


def throughput_table(medians, names):
    rows = []
    for name in names:
        measures = medians.get(name, {})
        rows.append([name, with_spread(measures.get("up")), with_spread(measures.get("down")),
                     with_spread(measures.get("four")), with_spread(measures.get("both")),
                     *(pair(measures, load) for load in ("idle", "up", "down"))])
    return table(["Mbit/s; ping p50/p99, ms", "up", "down", "4 streams", "both ways", "idle", "load up", "load down"], rows)


def cpu_table(medians, names):
    sides = ("gateway", "client", "second")
    rows = []
    for name in names:
        cells = [medians.get(name, {}).get(f"cpu_{d}_{side}") for d in DIRECTIONS for side in sides]
        if any(cells):
            rows.append([name, *(number(cell and cell["median"]) for cell in cells)])
    return table(["CPU seconds a GB", *(f"{d}: {side}" for d in DIRECTIONS for side in sides)], rows)


def ratio_table(found):
    columns = [(other, d) for other in (PIPE, SKETCH, "best peer") for d in DIRECTIONS]
    rows = [[name, *(with_spread(lines.get(other, {}).get(d)) for other, d in columns)] for name, lines in found.items()]
    return table(["ratio in the same round, to", *(f"{other} {d}" for other, d in columns)], rows)


def verdict_table(lines):
    def answer(measured, met):
        return "not measured" if measured is None else "not judged" if met is None else "yes" if met else "NO"

    rows = [[line["target"], number(line["measured"]), number(line["must"]), answer(line["measured"], line["must_met"]),
             number(line["aim"]), "-" if line["aim"] is None else answer(line["measured"], line["aim_met"])]
            for line in lines]
    return table(["target", "measured", "must", "met", "aim", "met"], rows)


def text(records, subjects, lines=None):
    """Everything of one condition, for a person; `lines` are its verdict."""
    medians, names = summary(records), [subject.name for subject in subjects]
    parts = [throughput_table(medians, names), cpu_table(medians, names), ratio_table(ratios(records, subjects)),
             verdict_table(lines or [])]
    said = states(records)
    if said:
        parts.append("\n".join(f"{who}: {why}" for who, why in said.items()))
    return "\n\n".join(filter(None, parts))
