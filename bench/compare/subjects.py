"""What is compared: no tunnel at all, the limit, the sketch, and Penstock in its forms. peers.py has the others.

A subject starts its programs in a lab and returns its measurements: pairs of a name and a function. It raises Skip where
it cannot be had and Failure where it did not come up.
"""

import hashlib
import json
import shutil

import measures
from hosts import Failure, Skip, run, wait_for

TOKEN = "a-token-of-the-benchmark"
INNER = "10.100.0.1"  # the gateway's in vpn.subnet's default
STARTING = 20.0


class Subject:
    group = "reference"
    needs = ()     # programs in PATH
    packages = ()  # whose versions are told

    def __init__(self, name, title):
        self.name, self.title = name, title

    def check(self):
        for program in self.needs:
            if shutil.which(program) is None:
                raise Skip(f"{program} is not installed")

    def start(self, lab):
        """A measures.Tunnel that works."""
        raise NotImplementedError

    def measurements(self, lab, seconds):
        return measures.everything(self.start(lab), seconds)


class Veth(Subject):
    """The wire itself."""

    def start(self, lab):
        client = lab.client()
        return measures.Tunnel(client, lab.gateway, client.gateway)


class TlsPipe(Subject):
    """Bytes through one TLS connection by OpenSSL's record layer. What a VPN has to do besides makes it slower than this;
    a faster cipher library, which Penstock may have (run.cipher_library), gives some of that back."""

    def measurements(self, lab, seconds):
        client = lab.client()
        return [("up", lambda: self.pipe(lab, client, "up", seconds)),
                ("down", lambda: self.pipe(lab, client, "down", seconds))]

    @staticmethod
    def pipe(lab, client, direction, seconds):
        def start(host, mode, *more):
            sending = ["--seconds", seconds] if mode == "send" else []
            return host.start(lab.tools / "tls_pipe", mode, *more, *sending, name=f"pipe-{mode}-{direction}")

        gateway_mode, client_mode = ("receive", "send") if direction == "up" else ("send", "receive")
        keys = lab.keys
        at_gateway = start(lab.gateway, gateway_mode, "--listen", 443, "--certificate", keys / "server.pem",
                           "--key", keys / "server-key.pem")
        at_gateway.wait_for_log("listening")
        at_client = start(client, client_mode, "--connect", 443, "--address", client.gateway)
        sides = {"gateway": at_gateway, "client": at_client}
        reports = {}
        for side, program in sides.items():
            if program.wait(seconds + measures.GRACE) != 0:
                raise Failure(f"tls_pipe: {program.tail(2)}")
            reports[side] = json.loads(program.log().splitlines()[-1])
        received = reports["gateway" if direction == "up" else "client"]
        return {direction: received["bytes"] * 8 / received["seconds"] / 1e6,
                **{f"cpu_{direction}_{side}": report["cpu_seconds"] / (received["bytes"] / 1e9)
                   for side, report in reports.items()}}


class Sketch(Subject):
    """A VPN's least: super-packets behind a length, over that pipe."""

    def start(self, lab):
        client, keys = lab.client(), lab.keys
        server = lab.gateway.start(lab.tools / "tls_pipe", "tunnel", "--listen", 443, "--certificate",
                                   keys / "server.pem", "--key", keys / "server-key.pem")
        server.wait_for_log("listening")
        other = client.start(lab.tools / "tls_pipe", "tunnel", "--connect", 443, "--address", client.gateway)
        for host, address in ((lab.gateway, "10.7.0.1"), (client, "10.7.0.2")):
            host.wait_interface("pipe0")
            host.ip("address", "add", f"{address}/24", "dev", "pipe0")
            host.ip("link", "set", "pipe0", "mtu", 1420, "up")
        client.wait_ping("10.7.0.1", STARTING)
        return measures.Tunnel(client, lab.gateway, "10.7.0.1", {"gateway": [server.pid], "client": [other.pid]})


class Penstock(Subject):
    """A gateway and its clients as they are configured by default, but for what `server` and `client` say."""

    group = "penstock"

    def __init__(self, name, title, executable, server=None, client=()):
        super().__init__(name, title)
        self.executable, self.server, self.client = executable, server or {}, [f"--set={one}" for one in client]

    def check(self):
        if not self.executable.exists():
            raise Skip(f"there is no {self.executable}")

    def start(self, lab):
        client = lab.client()
        gateway = self.start_gateway(lab)
        member, _ = self.start_client(lab, client)
        return measures.Tunnel(client, lab.gateway, INNER, {"gateway": [gateway.pid], "client": [member.pid]})

    def start_gateway(self, lab):
        config = {
            "server": {"listen_addr": ":443", "tls_cert": str(lab.keys / "server.pem"),
                       "tls_key": str(lab.keys / "server-key.pem")},
            "auth": {"tokens": [{"name": "benchmark", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}]},
            "state_dir": str(lab.directory / "gateway-state"), "status_socket": str(lab.directory / "gateway.sock"),
            **self.server}
        path = lab.write("gateway.json", json.dumps(config))
        gateway = lab.gateway.start(self.executable, "server", "--config", path, name="penstock")
        self.wait_status(gateway, lab.directory / "gateway.sock", lambda status: True)
        return gateway

    def start_client(self, lab, host):
        """The program and its address inside, once it is connected."""
        socket = lab.directory / f"{host.name}.sock"
        config = {"server": {"url": f"wss://{host.gateway}/", "ca_file": str(lab.keys / "ca.pem")},
                  "auth": {"token": TOKEN}, "state_dir": str(lab.directory / f"{host.name}-state"),
                  "status_socket": str(socket)}
        path = lab.write(f"{host.name}.json", json.dumps(config))
        if self.client:
            self.check_settings(path)
        client = host.start(self.executable, "client", "--config", path, *self.client, name="penstock")
        status = self.wait_status(client, socket, lambda status: status["state"] == "connected" and status["address"])
        host.wait_ping(INNER, STARTING)
        return client, status["address"]

    def check_settings(self, path):
        """A client that does not know a setting yet is no failure."""
        try:
            run(self.executable, "check-config", "--kind", "client", "--config", path, *self.client)
        except Failure as refused:
            raise Skip(str(refused).partition("exit code ")[2].partition(": ")[2] or str(refused)) from None

    def wait_status(self, program, socket, condition):
        def met():
            if not program.running():
                raise Failure(f"{program.log_path.stem} ended with exit code {program.popen.returncode}")
            text = run(self.executable, "status", "--json", "--socket", socket, check=False)
            status = json.loads(text) if text.strip() else None
            return status if status and condition(status) else None

        return wait_for(met, STARTING, f"{program.log_path.stem} is ready")


class PenstockClients(Penstock):
    """From one client to another: up is from the first, whose programs count as client, to the second."""

    def start(self, lab):
        near, far = lab.client("client"), lab.client("second")
        gateway = self.start_gateway(lab)
        first, _ = self.start_client(lab, near)
        second, address = self.start_client(lab, far)
        near.wait_ping(address, STARTING)
        return measures.Tunnel(near, far, address,
                               {"gateway": [gateway.pid], "client": [first.pid], "second": [second.pid]})
