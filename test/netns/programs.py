"""The executable under test: a Gateway and a Client write their config, start, wait to be ready, tell their status().

Configs are written as JSON, which the loader takes like YAML; test_errors.py has YAML, where lines and columns matter.
Settings are given as nested mappings laid over sensible defaults (lab.merged): gateway(vpn={"tun": "off"}).
"""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess

from lab import NOBODY, merged, wait_for
import penstock_v1

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
EXECUTABLE = pathlib.Path(os.environ.get("PENSTOCK", REPOSITORY / "build/penstock"))

# Exit codes
OK, FAILURE, WRONG_COMMAND, WRONG_CONFIG, IN_USE, NOT_PERMITTED, NOT_RUNNING = 0, 1, 2, 3, 4, 5, 7

# Every token of the suite; none may ever stand in a log.
TOKENS = {name: f"{name}-token-Zb3kQ9" for name in ("alice", "bob", "carol", "dave", "wrong")}


def token_record(name, **more):
    """An entry of auth.tokens for TOKENS[name]."""
    return {"name": name, "sha256": hashlib.sha256(TOKENS[name].encode()).hexdigest(), **more}


# As root, but with no power over networks.
WITHOUT_NET_ADMIN = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
# Nobody at all.
UNPRIVILEGED = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all",
                "--inh-caps=-all", "--no-new-privs"]


def penstock(*arguments, timeout=30.0):
    """Runs a subcommand that touches no network and returns what it printed and its exit code."""
    command = [EXECUTABLE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


class Program:
    """What a gateway and a client have in common."""

    def __init__(self, host, kind, name, settings, wrapper=()):
        self.host, self.kind, self.name, self.wrapper = host, kind, name, list(wrapper)
        self.executable = EXECUTABLE
        self.directory = host.lab.directory
        self.config_path = self.directory / f"{name}.json"
        self.state_dir = self.directory / f"{name}-state"
        self.status_socket = self.directory / f"{name}.sock"
        self.process = None
        self.settings = merged({"logging": {"level": "debug"}, "state_dir": str(self.state_dir),
                                "status_socket": str(self.status_socket)}, settings)
        self.write_config()

    def write_config(self, **changes):
        """Takes over `changes`; the program sees them at its next start."""
        self.settings = merged(self.settings, changes)
        self.config_path.write_text(json.dumps(self.settings, indent=2))

    def launch(self, *options):
        """Starts it and returns at once."""
        command = [*self.wrapper, self.executable, self.kind, "--config", self.config_path, *options]
        self.process = self.host.start(*command, log_name=self.name)
        return self

    def run_to_its_end(self, *options, deadline=10.0):
        """For starts that must fail: the exit code and all that was printed."""
        self.launch(*options)
        return self.process.wait(deadline), self.process.log()

    def stop(self):
        return self.process.stop()

    def kill(self):
        self.process.kill()

    def log(self):
        return self.process.log()

    def try_status(self):
        """None unless it answers."""
        done = penstock("status", "--json", "--socket", self.status_socket)
        return json.loads(done.stdout) if done.returncode == OK else None

    def status(self):
        status = self.try_status()
        assert status, f"{self.name} does not answer `penstock status`; its log ends:\n{self.process.tail()}"
        return status

    def wait_status(self, condition, what, deadline=10.0):
        """The first status for which `condition(status)` is true."""
        def met():
            assert self.process.running(), f"{self.name} ended; its log:\n{self.process.tail()}"
            status = self.try_status()
            return status if status and condition(status) else None

        return wait_for(met, deadline, f"{self.name}: {what}", every=0.05)


class Gateway(Program):
    """`penstock server` on port 443 of `host`; by default with a TUN device and two tokens."""

    def __init__(self, host, certificates, name="gateway", wrapper=(), pair=None, **settings):
        pair = pair or certificates.issue(name, ["gateway.test", *filter(None, [host.ipv4, host.ipv6])])
        self.certificate, self.ca = pair.certificate, certificates.ca
        super().__init__(host, "server", name, merged({
            "server": {"listen_addr": ":443", "tls_cert": str(pair.certificate), "tls_key": str(pair.key)},
            "auth": {"tokens": [token_record("alice"), token_record("bob")]},
        }, settings), wrapper)

    def start(self, *options):
        self.launch(*options)
        self.wait_status(lambda status: True, "is ready")
        return self

    def restart(self, ending=signal.SIGTERM):
        self.process.signal(ending)
        self.process.wait()
        return self.start()

    def session(self, address):
        """The session that holds `address`, or None."""
        return next((s for s in self.status()["sessions"] if s["address"] == address), None)

    def drops(self, reason):
        return self.status()["drops"][reason]

    def url(self, ipv6=False):
        return f"wss://[{self.host.ipv6}]/" if ipv6 else f"wss://{self.host.ipv4}/"

    def plain_client(self, host, ipv6=False, **options):
        """A v1 client's connection from `host`, not logged in."""
        address = self.host.ipv6 if ipv6 else self.host.ipv4
        with host.entered():
            return host.lab.closing(penstock_v1.Client(address, ca_file=self.ca, **options))


def unprivileged_gateway(host, certificates, **settings):
    """A gateway of nobody's without a capability, with `tun: off` and the few files that it needs of its own."""
    gateway = Gateway(host, certificates, wrapper=UNPRIVILEGED, **merged({"vpn": {"tun": "off"}}, settings))
    gateway.executable = gateway.directory / "penstock"  # where it was built may be closed to others
    shutil.copy(EXECUTABLE, gateway.executable)
    run = gateway.directory / "run"
    for directory in (gateway.state_dir, run):
        directory.mkdir()
    for path in (gateway.state_dir, run, gateway.settings["server"]["tls_key"]):
        os.chown(path, NOBODY, NOBODY)
    gateway.status_socket = run / "gateway.sock"
    gateway.write_config(status_socket=str(gateway.status_socket))
    return gateway


class Client(Program):
    """`penstock client` of one host, in a hurry to reconnect."""

    def __init__(self, host, gateway, token="alice", ipv6=False, wrapper=(), name=None, **settings):
        super().__init__(host, "client", name or host.name, merged({
            "server": {"url": gateway.url(ipv6), "ca_file": str(gateway.ca)},
            "auth": {"token": TOKENS.get(token, token)},
            "reconnect": {"min_backoff": "100ms", "max_backoff": "400ms", "connect_timeout": "2s"},
        }, settings), wrapper)

    def start(self, *options):
        self.launch(*options)
        self.wait_connected()
        return self

    def wait_connected(self, deadline=15.0):
        return self.wait_status(lambda s: s["state"] == "connected" and s["address"], "is connected", deadline)

    def wait_reconnected(self, before, deadline=15.0):
        """Waits until it has lost the link of the status `before` and has a new one."""
        count = before["reconnects"]["succeeded"]
        return self.wait_status(lambda s: s["state"] == "connected" and s["reconnects"]["succeeded"] > count, "is back",
                                deadline)

    @property
    def interface(self):
        return self.settings.get("vpn", {}).get("interface_name", "VPN")
