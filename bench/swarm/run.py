#!/usr/bin/python3
"""What thousands of sessions cost a gateway: logins a second, memory of each, packets a second.

    bench/swarm/run.py --build DIR [--sessions 10,1000,10000] [--rounds 1] [--json FILE] ...      (as root)

Starts `penstock server` and the swarm (swarm/main.cc) in a network namespace of their own, where loopback's addresses
and port 443 are nobody else's, and which goes away with them. One gateway for each number of sessions, in each round; the
order of the numbers rotates. With -- the rest goes to the swarm as it is (see DIR/bench/swarm --help).

Exit code 1: something failed, or a packet of few members costs more than --most times as much among many sessions as
among the fewest.
"""

import argparse
import hashlib
import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TOKEN = "a-token-for-the-swarm"
SUBNET = "10.64.0.0/18"
MOST_SESSIONS = 16000  # of that subnet
FILES_BESIDE_SOCKETS = 1000
INSIDE = "PENSTOCK_SWARM_INSIDE"


def enter_namespace():
    """Starts this script again inside a network namespace that ends with it."""
    if os.environ.get(INSIDE):
        return
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, os.path.abspath(__file__), *sys.argv[1:]])


def certificate(directory, kind):
    key = {"p256": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa2048": ["rsa:2048"]}[kind]
    subprocess.run(["openssl", "req", "-x509", "-newkey", *key, "-nodes", "-days", "30", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", directory / "key.pem",
                    "-out", directory / "cert.pem"], check=True, capture_output=True)
    (directory / "key.pem").chmod(0o600)


def write_config(directory, sessions, options):
    config = {
        "server": {"listen_addr": "127.0.0.1:443", "tls_cert": str(directory / "cert.pem"),
                   "tls_key": str(directory / "key.pem")},
        "limits": {"handshakes": 2 * sessions, "sessions_per_token": 2 * sessions, "exempt": ["127.0.0.0/8"]},
        "vpn": {"subnet": SUBNET, "tun": "off"},
        "auth": {"tokens": [{"name": "swarm", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}]},
        "performance": {"loops": options.loops},
        "logging": {"level": options.log_level},
        "state_dir": str(directory / "state"),
        "status_socket": str(directory / "gateway.sock"),
    }
    path = directory / "server.json"
    path.write_text(json.dumps(config, indent=1))
    return path


class Gateway:
    """`penstock server` until the end of the block."""

    def __init__(self, options, directory, sessions):
        command = [*options.wrap.split(), options.gateway, "server", "--config", write_config(directory, sessions, options)]
        self.log_path = directory / "gateway.log"
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def __enter__(self):
        deadline = time.monotonic() + 20
        while "gateway ready" not in self.log_path.read_text() and "Listening" not in self.log_path.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                sys.exit("the gateway did not start:\n" + self.log_path.read_text())
            time.sleep(0.05)
        return self.process

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure(options, sessions):
    with tempfile.TemporaryDirectory(prefix="penstock-swarm-") as name:
        directory = pathlib.Path(name)
        certificate(directory, options.certificate)
        with Gateway(options, directory, sessions) as gateway:
            command = [options.swarm, "--pid", str(gateway.pid), "--token", TOKEN, "--sessions", str(sessions),
                       "--client", options.client, "--concurrency", str(options.concurrency), "--idle", str(options.idle),
                       "--exchange", str(options.exchange), *options.rest]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=options.deadline, check=False)
        if done.returncode != 0 or not done.stdout:
            print((directory / "gateway.log").read_text()[-2000:], file=sys.stderr)
            sys.exit(f"the swarm of {sessions} failed (exit code {done.returncode})")
        return json.loads(done.stdout)


def median(values):
    """Of reports that are alike, number by number; what is no number, or the same in all, as the first has it."""
    first = values[0]
    if all(value == first for value in values):
        return first
    if isinstance(first, dict):
        return {key: median([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [median(list(each)) for each in zip(*values)]
    return statistics.median(values) if isinstance(first, (int, float)) else first


def cpu(report, phase):
    return report["traffic"][phase]["gateway_cpu_ns_per_packet"]


def against_fewest(rounds):
    """Of each phase of traffic and each number of sessions: a packet's processor time to that with the fewest sessions
    of the same round."""
    found = []
    for i, phase in enumerate(rounds[0][0]["traffic"]):
        ratios = [[cpu(report, i) / cpu(reports[0], i) for report in reports] for reports in rounds]
        found.append({"packet_size": phase["packet_size"], "senders": phase["senders"],
                      "ratios": [{"median": statistics.median(each), "min": min(each), "max": max(each)}
                                 for each in zip(*ratios)]})
    return found


def table(rounds, compared):
    reports = [median(list(each)) for each in zip(*rounds)]
    fewest = reports[0]["sessions"]

    def row(label, value):
        return f"| {label} | " + " | ".join(value(report) for report in reports) + " |"

    def kib(number):
        return f"{number / 1024:.1f} KiB"

    def spread(ratio):
        text = f"{ratio['median']:.2f}"
        return text if len(rounds) == 1 else f"{text} ({ratio['min']:.2f} to {ratio['max']:.2f})"

    lines = [row("sessions", lambda r: f"{r['sessions']}"), "| --- |" + " --- |" * len(reports),
             row("logins a second", lambda r: f"{r['logins']['per_second']:.0f}"),
             row("gateway CPU a login", lambda r: f"{r['logins']['gateway_cpu_us_each']:.0f} us"),
             row("resident a session, after the logins", lambda r: kib(r["after_logins"]["resident_per_session"])),
             row("resident a session, idle", lambda r: kib(r["idle"]["resident_per_session"])),
             row("of it anonymous", lambda r: kib(r["idle"]["anonymous_per_session"])),
             row("resident a session, after traffic", lambda r: kib(r["after_traffic"]["resident_per_session"])),
             row("gateway CPU while idle", lambda r: f"{100 * r['idle']['gateway_cpu_share']:.1f} %"),
             row("kernel memory a socket (slab)", lambda r: kib(r["kernel"]["slab_per_socket"]))]
    for i, phase in enumerate(reports[0]["traffic"]):
        lines += [row(f"packets a second, {phase['packet_size']} B, {phase['senders']} send",
                      lambda r, i=i: f"{r['traffic'][i]['packets_per_second']:.0f}"),
                  row("gateway CPU a packet", lambda r, i=i: f"{cpu(r, i) / 1000:.2f} us")]
        if len(reports) > 1:
            lines.append(f"| gateway CPU a packet against {fewest} sessions | "
                         + " | ".join(["1", *map(spread, compared[i]["ratios"][1:])]) + " |")
    for i, phase in enumerate(reports[0]["delays"]):
        lines += [row(f"from member to member, {phase['packet_size']} B, {phase['packets_per_second']} a second",
                      lambda r, i=i: "{median_us:.0f} us".format(**r["delays"][i])),
                  row("p99", lambda r, i=i: "{p99_us:.0f} us".format(**r["delays"][i]))]
    all_reports = [report for reports in rounds for report in reports]
    lost = sum(delay["lost"] for report in all_reports for delay in report["delays"])
    lost += sum(phase["lost"] + phase["misplaced"] for report in all_reports for phase in report["traffic"])
    return "\n".join(lines + [f"\nlost or misplaced packets: {lost}"])


def too_dear(compared, counts, most):
    """Of the phases in which the same number sends, whatever the sessions: what costs more than `most` times as much."""
    return [f"a packet of {phase['packet_size']} B, {phase['senders']} send, with {count} sessions costs "
            f"{ratio['median']:.2f} times as much as with {counts[0]} (must: at most {most:g})"
            for phase in compared if phase["senders"] != "all"
            for count, ratio in zip(counts[1:], phase["ratios"][1:]) if ratio["median"] > most]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="a build directory with -DPENSTOCK_BENCH=ON")
    parser.add_argument("--gateway", help="another penstock than the build directory's")
    parser.add_argument("--wrap", default="", help="a command that runs the gateway, such as a profiler")
    parser.add_argument("--sessions", default="10,1000,10000")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--most", type=float, default=1.5, help="the ratio of processor time a packet that is still good")
    parser.add_argument("--concurrency", type=int, default=64, help="handshakes under way at a time")
    parser.add_argument("--idle", type=float, default=30, help="seconds before memory is read")
    parser.add_argument("--exchange", type=float, default=5, help="seconds of each phase of packets")
    parser.add_argument("--client", default="", help="log in as this software; by default as a plain v1 client")
    parser.add_argument("--certificate", choices=["p256", "rsa2048"], default="p256")
    parser.add_argument("--loops", type=int, default=1)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--deadline", type=float, default=600, help="seconds for one swarm")
    parser.add_argument("--json", type=pathlib.Path, help="write what was measured there too")
    parser.add_argument("rest", nargs="*", help="after --: for the swarm")
    options = parser.parse_args()
    options.gateway = options.gateway or options.build / "penstock"
    options.swarm = options.build / "bench/swarm"
    counts = sorted({int(count) for count in options.sessions.split(",")})
    if counts[0] < 2 or options.rounds < 1:
        sys.exit("at least two sessions, and one round")
    if max(counts) > MOST_SESSIONS:
        sys.exit(f"{SUBNET} has room for {MOST_SESSIONS} sessions")
    if os.geteuid() != 0:
        sys.exit("a network namespace takes root")
    enter_namespace()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # by the way of every __exit__
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    files = max(counts) + FILES_BESIDE_SOCKETS
    hard = max(files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))

    rounds = []
    for number in range(options.rounds):
        first = number % len(counts)
        by_count = {count: measure(options, count) for count in counts[first:] + counts[:first]}
        rounds.append([by_count[count] for count in counts])
    compared = against_fewest(rounds)
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds, "against_fewest": compared}, indent=2) + "\n")
    print(table(rounds, compared))
    dear = too_dear(compared, counts, options.most)
    sys.exit("\n".join(f"not met: {words}" for words in dear) if dear else 0)


if __name__ == "__main__":
    main()
