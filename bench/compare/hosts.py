"""Machines of the comparison: network namespaces joined by veths, and the programs that run in them.

      gateway wire1 --------------------- wire0 client      192.0.2.1     192.0.2.2
      gateway wire2 --------------------- wire0 second      198.51.100.1  198.51.100.2     (where two clients meet)
      gateway wire1 --- left [relay] right --- wire0 client                                (with a delay)

Nothing touches the machine's own network, and the namespaces' names carry the pid, so that several labs can share a
machine. Whatever happens, leaving the `with` block of a Lab ends its programs, by pid, and removes its namespaces and
files. Nothing waits without a bound.
"""

import contextlib
import ctypes
import fcntl
import json
import itertools
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

MTU = 1500
NETWORKS = ["192.0.2", "198.51.100", "203.0.113"]
CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
# ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO; segmentation before the checksums that it needs
OFFLOADS = {"tso": 0x1F, "gso": 0x24, "gro": 0x2C, "tx": 0x17}

_libc = ctypes.CDLL(None, use_errno=True)
_labs = itertools.count(1)


class Failure(Exception):
    """A subject or a measurement did not do what it should; the run goes on without it."""


class Skip(Exception):
    """A subject cannot be had here."""


def wait_for(condition, seconds, what):
    """What `condition()` returns as soon as that is true."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def run(*argv, seconds=20.0, stdin=None, check=True):
    """Runs a program to its end; what it printed."""
    argv = list(map(str, argv))
    try:
        done = subprocess.run(argv, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=seconds, check=False, start_new_session=True)
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(argv)}: still running after {seconds:g} s") from None
    if check and done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise Failure(f"{' '.join(argv)}: exit code {done.returncode}: {' '.join(words)}")
    return done.stdout


class Program:
    """A program that runs beside us until stop(); what it prints goes to a file."""

    def __init__(self, argv, log_path, stdin=None, environment=None):
        self.log_path = log_path
        with open(log_path, "wb") as log:
            # A session of its own: Ctrl-C is ours, and we end it in our order.
            self.popen = subprocess.Popen(list(map(str, argv)), stdout=log, stderr=log, start_new_session=True,
                                          stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                                          env={**os.environ, **(environment or {})})
        if stdin:
            with contextlib.suppress(BrokenPipeError), self.popen.stdin as pipe:
                pipe.write(stdin.encode())

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def tail(self, lines=12):
        return "\n".join(self.log().splitlines()[-lines:])

    def wait_for_log(self, words, seconds=10.0):
        wait_for(lambda: words in self.log() or not self.running(), seconds, f'"{words}" in {self.log_path.name}')
        if words not in self.log():
            raise Failure(f"{self.log_path.stem} ended with exit code {self.popen.returncode}")

    def wait(self, seconds):
        """Its exit code."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.log_path.stem} still runs after {seconds:g} s") from None

    def stop(self, seconds=3.0):
        """Asks it to end, and makes it end."""
        if self.running():
            self.popen.terminate()
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


class Host:
    """One network namespace."""

    def __init__(self, lab, name):
        self.lab, self.name, self.namespace = lab, name, f"{lab.prefix}{name}"
        lab.hosts.append(self)  # first, so that an interruption leaves nothing that nobody knows
        ip("netns", "add", self.namespace)
        self.ip("link", "set", "lo", "up")

    def command(self, *argv):
        return ["ip", "netns", "exec", self.namespace, *argv]

    def run(self, *argv, **options):
        return run(*self.command(*argv), **options)

    def start(self, *argv, name=None, **options):
        return self.lab.start(self.command(*argv), f"{self.name}-{name or pathlib.Path(argv[0]).name}", **options)

    def ip(self, *arguments):
        return ip("-n", self.namespace, *arguments)

    def has_interface(self, interface):
        return f'"{interface}"' in run("ip", "-json", "-n", self.namespace, "link", check=False)

    def wait_interface(self, interface, seconds=10.0):
        wait_for(lambda: self.has_interface(interface), seconds, f"{self.name} has an interface {interface}")

    def wait_ping(self, address, seconds=15.0):
        def answered():
            return "1 received" in self.run("ping", "-n", "-c1", "-W1", address, seconds=5, check=False)

        wait_for(answered, seconds, f"{self.name} reaches {address}")

    def pids(self):
        return {int(pid) for pid in run("ip", "netns", "pids", self.namespace).split()}

    @contextlib.contextmanager
    def entered(self):
        """This thread is on this host inside the block."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.namespace}") as here:
            _setns(here)
            try:
                yield
            finally:
                _setns(home)

    def set_congestion(self, algorithm):
        """Makes it the default here where the kernel lets a namespace do that; see also Lab.client."""
        with self.entered(), contextlib.suppress(OSError):
            pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(algorithm)

    def choose_congestion(self, address):
        """The lab's algorithm for all TCP with `address`, by a route of its own: a kernel may refuse a namespace a default
        other than the machine's, but not a route's choice. Returns the address that is ours towards it."""
        route = json.loads(self.run("ip", "-j", "route", "get", address))[0]
        via = ["via", route["gateway"]] if "gateway" in route else []
        try:
            self.ip("route", "replace", f"{address}/32", *via, "dev", route["dev"], "src", route["prefsrc"], "congctl",
                    self.lab.congestion)
        except Failure:
            self.lab.congestion_in_use = self.congestion()
        return route["prefsrc"]

    def congestion(self):
        with self.entered():
            return pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()

    def offloads_off(self, interface):
        """From now on `interface` carries frames such as a wire does: of MTU size, with finished checksums."""
        with self.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            for command in OFFLOADS.values():
                value = ctypes.create_string_buffer(struct.pack("II", command, 0))
                request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
                fcntl.ioctl(asking, SIOCETHTOOL, request)

    def lose(self, interface, percent):
        """Of what comes in by `interface`, this part vanishes."""
        rules = f"""
            table ip bench {{
              chain loss {{
                type filter hook prerouting priority -300; policy accept;
                iifname "{interface}" numgen random mod 100000 < {round(percent * 1000)} drop
              }}
            }}
            """
        self.run("nft", "-f", "-", stdin=rules)


class Lab:
    """The hosts of one subject, their wires, and a directory for keys, configurations and logs."""

    def __init__(self, tools, keys, congestion="cubic", offloads=True, loss=0.0, delay=0.0):
        self.tools, self.keys = tools, keys  # directories: of tls_pipe and delay_relay, of certificates()
        self.congestion, self.loss, self.delay = congestion, loss, delay
        self.offloads = offloads and not loss and not delay
        self.unique = f"{os.getpid()}-{next(_labs)}"
        self.prefix = f"bench{self.unique}-"
        self.hosts, self.programs, self.wires = [], [], 0
        self.congestion_in_use = congestion

    def __enter__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"penstock-{self.prefix}"))
        self.directory.chmod(0o755)  # servers that become somebody else read here
        try:
            self.gateway = self.host("gateway")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def host(self, name):
        host = Host(self, name)
        host.set_congestion(self.congestion)
        return host

    def client(self, name="client"):
        """A host with a wire of its own to the gateway; its attribute `gateway` is the gateway's address there."""
        client = self.host(name)
        network = NETWORKS[self.wires]
        self.wires += 1
        client.gateway, client.wire, client.gateway_wire = f"{network}.1", "wire0", f"wire{self.wires}"
        ends = [(self.gateway, client.gateway_wire, f"{network}.1"), (client, client.wire, f"{network}.2")]
        if self.delay:
            relay = self.host(f"relay{self.wires}")
            links = [(self.gateway, client.gateway_wire, relay, "left"), (client, client.wire, relay, "right")]
        else:
            links = [(self.gateway, client.gateway_wire, client, client.wire)]
        for near, near_wire, far, far_wire in links:
            near.ip("link", "add", near_wire, "type", "veth", "peer", "name", far_wire, "netns", far.namespace)
            for host, wire in ((near, near_wire), (far, far_wire)):
                if not self.offloads:
                    host.offloads_off(wire)
                host.ip("link", "set", wire, "mtu", MTU, "up")
        for host, wire, address in ends:
            host.ip("address", "add", f"{address}/24", "dev", wire)
            if self.loss:
                host.lose(wire, self.loss)
        if self.delay:
            relay.start(self.tools / "delay_relay", "--left", "left", "--right", "right", "--milliseconds", self.delay,
                        name="delay").wait_for_log("relaying")
        client.wait_ping(client.gateway)
        self.gateway.choose_congestion(client.choose_congestion(client.gateway))
        return client

    def start(self, argv, name, **options):
        program = Program(argv, self.directory / f"{len(self.programs)}-{name}.log", **options)
        self.programs.append(program)
        return program

    def write(self, name, text, mode=0o600):
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def logs(self, lines=8):
        """The last lines of the log of every program that is no measurement."""
        return {program.log_path.stem: program.tail(lines) for program in self.programs
                if "iperf3" not in program.log_path.name and program.log().strip()}

    def close(self):
        """May be called twice; a second Ctrl-C meanwhile waits until everything is gone."""
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:
            for program in reversed(self.programs):
                with contextlib.suppress(OSError):
                    program.stop()
            for host in self.hosts:
                with contextlib.suppress(Failure):
                    for pid in host.pids():  # children of ours that outlived their parents
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(Failure):
                    ip("netns", "delete", host.namespace)
            self.hosts, self.programs = [], []
            shutil.rmtree(self.directory, ignore_errors=True)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)


def ip(*arguments):
    return run("ip", *arguments)


def certificates(directory):
    """ca.pem, and server and client certificates with their keys, all of which every subject understands."""
    directory.mkdir(exist_ok=True)
    names = ",".join(f"IP:{network}.1" for network in NETWORKS)
    config = directory / "openssl.cnf"
    config.write_text(f"""
        [req]
        distinguished_name = name
        [name]
        [ca]
        basicConstraints = critical, CA:TRUE
        keyUsage = critical, keyCertSign, cRLSign
        subjectKeyIdentifier = hash
        [server]
        basicConstraints = critical, CA:FALSE
        keyUsage = critical, digitalSignature
        extendedKeyUsage = serverAuth
        subjectAltName = DNS:gateway, {names}
        [client]
        basicConstraints = critical, CA:FALSE
        keyUsage = critical, digitalSignature
        extendedKeyUsage = clientAuth
        """.replace("\n        ", "\n"))
    for name in ("ca", "server", "client"):
        signer = [] if name == "ca" else ["-CA", directory / "ca.pem", "-CAkey", directory / "ca-key.pem"]
        run("openssl", "req", "-x509", "-config", config, "-extensions", name, "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:prime256v1", "-nodes", "-sha256", "-days", "30", "-subj", f"/CN={name} of the benchmark",
            *signer, "-keyout", directory / f"{name}-key.pem", "-out", directory / f"{name}.pem")
        (directory / f"{name}-key.pem").chmod(0o600)


def _setns(namespace_file):
    if _libc.setns(namespace_file.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
