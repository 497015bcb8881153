"""Hosts on one Ethernet, each a network namespace of its own, and the processes that run on them.

      host --eth0--+
      host --eth0--+--[ switch ]      192.0.2.N/24 and 2001:db8:77::N/64, N in the order of their making
      host --eth0--+

Nothing here touches the machine's own network: every link lives between namespaces whose names carry the pid and a
counter, so several runs can share a machine. Lab.close() ends what was started, by pid, and removes every namespace.
Nobody sleeps here: wait_for() polls a condition until a deadline.
"""

import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

CLONE_NEWNET = 0x40000000
NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)
_counter = itertools.count(1)


def wait_for(condition, deadline=10.0, what="the condition", every=0.02):
    """What `condition()` returns as soon as that is true; an AssertionError naming `what` after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        time.sleep(every)


@contextlib.contextmanager
def meanwhile(step, pause=0.0, ends=OSError):
    """Beside the block, calls `step` again and again, `pause` seconds between; one of `ends` ends it early."""
    done = threading.Event()

    def work():
        with contextlib.suppress(ends):
            while not done.wait(pause):
                step()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def merged(base, change):
    """`base` with the nested mapping `change` laid over it; None removes a key."""
    result = dict(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


class Process:
    """A running program; what it prints goes to a file that log() reads."""

    def __init__(self, argv, log_path):
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self.popen = subprocess.Popen(list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, deadline=10.0):
        """Its exit code (minus the signal's number if one ended it)."""
        try:
            return self.popen.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"pid {self.pid} runs on after {deadline:g} s; its log ends:\n{self.tail()}") from None

    def stop(self, deadline=10.0):
        """Asks it to end as an operator would; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(deadline)

    def kill(self):
        """Ends it without asking; fine if it has ended."""
        if self.running():
            self.popen.kill()
        self.popen.wait()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def tail(self, lines=25):
        return "\n".join(self.log().splitlines()[-lines:])

    def mark(self):
        """A place in the log, for `after`."""
        return self.log_path.stat().st_size

    def logged(self, pattern, after=0):
        return re.search(pattern, self.log_path.read_bytes()[after:].decode(errors="replace"))

    def wait_for_log(self, pattern, deadline=10.0, after=0):
        """The match of the regular expression `pattern` in what it printed after the mark `after`."""
        def seen():
            return self.logged(pattern, after) or (not self.running() and "ended")

        with contextlib.suppress(AssertionError):
            wait_for(seen, deadline)
        match = self.logged(pattern, after)
        assert match, f"not logged within {deadline:g} s: {pattern}\nthe log ends:\n{self.tail()}"
        return match


class Host:
    """One network namespace with eth0 on the lab's switch."""

    def __init__(self, lab, name, number, ipv4, ipv6):
        self.lab, self.name, self.port = lab, name, f"port{number}"
        self.namespace = f"{lab.prefix}{name}"
        self.ipv4 = f"192.0.2.{number}" if ipv4 else None
        self.ipv6 = f"2001:db8:77::{number:x}" if ipv6 else None
        ip("netns", "add", self.namespace)
        ip("-n", lab.switch, "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("-n", lab.switch, "link", "set", self.port, "master", "switch", "up")
        for address in filter(None, [ipv4 and f"{self.ipv4}/24", ipv6 and f"{self.ipv6}/64"]):
            ip("-n", self.namespace, "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        for device in ("lo", "eth0"):
            ip("-n", self.namespace, "link", "set", device, "up")

    def command(self, *argv):
        """The command line that runs `argv` in here; the pid stays the program's own."""
        return ["ip", "netns", "exec", self.namespace, *map(str, argv)]

    def run(self, *argv, check=True, timeout=30.0, stdin=None):
        done = subprocess.run(self.command(*argv), input=stdin, capture_output=True, text=True, timeout=timeout,
                              check=False)
        assert not check or done.returncode == 0, f"{argv}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def start(self, *argv, log_name=None):
        return self.lab.start(self.command(*argv), log_name or f"{self.name}-{pathlib.Path(argv[0]).name}")

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is on this host inside the block; sockets made there stay there."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.namespace}") as here:
            _setns(here)
            try:
                yield
            finally:
                _setns(home)

    def pids(self):
        """The processes that run here."""
        return [int(pid) for pid in subprocess.check_output(["ip", "netns", "pids", self.namespace], text=True).split()]

    def route(self, destination, via):
        ip("-n", self.namespace, *(["-6"] if ":" in via else []), "route", "add", destination, "via", via)

    def sysctl(self, *settings):
        self.run("sysctl", "-q", "-w", *settings)

    def show(self, *question):
        """What `ip -json QUESTION` says here."""
        done = self.run("ip", "-json", *question, check=False)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []

    def interfaces(self):
        return {link["ifname"] for link in self.show("link")}

    def mtu(self, interface):
        return self.show("link", "show", "dev", interface)[0]["mtu"]

    def index(self, interface):
        return self.show("link", "show", "dev", interface)[0]["ifindex"]

    def addresses(self, interface):
        """The addresses of `interface` but the link-local ones, as text."""
        links = self.show("address", "show", "dev", interface)
        return {a["local"] for link in links for a in link.get("addr_info", []) if a["scope"] != "link"}

    def routes(self):
        """{destination: interface} of both families' main tables."""
        found = self.show("route") + self.show("-6", "route")
        return {route["dst"]: route.get("dev") for route in found if not route["dst"].startswith("fe80")}

    def ping(self, address, *options, timeout=1):
        return self.run("ping", "-n", "-c1", f"-W{timeout}", *options, address, check=False).returncode == 0

    def wait_ping(self, address, deadline=5.0):
        wait_for(lambda: self.ping(address), deadline, f"{self.name} reaches {address}")


class Lab:
    """The switch, its hosts, and a directory for configs and logs."""

    def __init__(self):
        self.prefix = f"penstock{os.getpid()}-{next(_counter)}-"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=self.prefix))
        self.directory.chmod(0o755)  # a gateway of another user reads its files here
        self.processes, self._numbers, self._closing = [], itertools.count(1), contextlib.ExitStack()
        self.switch = f"{self.prefix}switch"
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "switch", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        ip("-n", self.switch, "link", "set", "switch", "up")

    def host(self, name, ipv4=True, ipv6=True):
        return Host(self, name, next(self._numbers), ipv4, ipv6)

    def start(self, argv, log_name):
        process = Process(argv, self.directory / f"{log_name}-{len(self.processes)}.log")
        self.processes.append(process)
        return process

    def closing(self, resource):
        """Closes `resource` when the lab is taken down; returns it."""
        return self._closing.enter_context(contextlib.closing(resource))

    def wire(self, host, address, other, other_address, ipv6=None, other_ipv6=None):
        """A cable between two hosts beside the switch, wire0, wire1, ... by either; addresses with their lengths."""
        near, far = ("wire%d" % len([name for name in end.interfaces() if name.startswith("wire")])
                     for end in (host, other))
        ip("-n", host.namespace, "link", "add", near, "type", "veth", "peer", "name", far, "netns", other.namespace)
        for end, name, addresses in ((host, near, (address, ipv6)), (other, far, (other_address, other_ipv6))):
            # A router asks for no neighbour before its link-local address has proved to be nobody else's.
            end.sysctl(f"net.ipv6.conf.{name}.accept_dad=0")
            for one in filter(None, addresses):
                ip("-n", end.namespace, "address", "add", one, "dev", name, *(["nodad"] if ":" in one else []))
            ip("-n", end.namespace, "link", "set", name, "up")
        return near, far

    def cut(self, host):
        """Frames from and to `host` vanish without a word, as on a dead radio link."""
        rules = f"""
            table bridge {host.port} {{
              chain forward {{
                type filter hook forward priority 0; policy accept;
                iifname "{host.port}" drop
                oifname "{host.port}" drop
              }}
            }}
            """
        subprocess.run(["ip", "netns", "exec", self.switch, "nft", "-f", "-"], input=rules, text=True, check=True)

    def heal(self, host):
        subprocess.run(["ip", "netns", "exec", self.switch, "nft", "delete", "table", "bridge", host.port], check=True)

    def close(self):
        with contextlib.suppress(OSError):
            self._closing.close()
        for process in self.processes:
            process.kill()
        for namespace in os.listdir("/run/netns"):
            if namespace.startswith(self.prefix):
                for pid in subprocess.check_output(["ip", "netns", "pids", namespace], text=True).split():
                    with contextlib.suppress(ProcessLookupError):  # a child of one of ours that outlived it
                        os.kill(int(pid), signal.SIGKILL)
                ip("netns", "delete", namespace)

    def remove_files(self):
        shutil.rmtree(self.directory, ignore_errors=True)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def _setns(namespace_file):
    if _libc.setns(namespace_file.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
