"""Ways to the internet that are compared: the kernel's own, user space alone, pasta, and Penstock's tunnel with each.

    client ---------------------- gateway 192.0.2.1 --wire-- 192.0.2.2 server
            a wire, a TUN device
            or a tunnel

Each puts its lab up and returns a Way, by which `client` reaches `server`. All TCP is of the lab's congestion control, by
the routes of both ends.
"""

import dataclasses
import json
import pathlib

from hosts import Failure, Host, wait_for
from subjects import INNER, STARTING, Penstock, Subject, TlsPipe

OUTER = "192.0.2.1"
SERVER = "192.0.2.2"
INSIDE = "10.99.0.2"


@dataclasses.dataclass
class Way:
    client: Host
    server: Host
    address: str = SERVER  # of the server, as the client knows it
    programs: dict = dataclasses.field(default_factory=dict)  # side -> the process ids of its programs
    translator: object = None  # the program whose memory the mappings are in

    def __post_init__(self):
        # The server has such a route to the gateway already.
        self.client.choose_congestion(self.address)


def server_of(lab):
    server = lab.client("server")
    assert (server.gateway, lab.wires) == (OUTER, 1)
    return server


def set_kernel(host, name, value):
    with host.entered():
        pathlib.Path("/proc/sys/net/ipv4", name).write_text(value)


def let_ping(host):
    """As who is there may, so that a way can be seen to work."""
    set_kernel(host, "ping_group_range", "0 2147483647")


class KernelRoute(Subject):
    """Three machines and their kernels."""

    def start(self, lab):
        server, client = server_of(lab), lab.client("client")
        set_kernel(lab.gateway, "ip_forward", "1")
        client.ip("route", "add", "default", "via", client.gateway)
        self.translate(lab, server, client)
        client.wait_ping(SERVER)
        return Way(client, server)

    def translate(self, lab, server, client):
        server.ip("route", "add", "default", "via", server.gateway)
        server.choose_congestion(client.choose_congestion(SERVER))


class KernelNat(KernelRoute):
    needs = ("nft",)

    def translate(self, lab, server, client):
        lab.gateway.run("nft", "-f", "-", stdin=f"""
            table ip bench {{
              chain out {{
                type nat hook postrouting priority srcnat; policy accept;
                oifname "{server.gateway_wire}" masquerade
              }}
            }}
            """)


class TunNat(Subject):
    """Translation as in Penstock's gateway, fed by a TUN device."""

    group = "penstock"

    def __init__(self, name, title, mtu, options=(), executable=None):
        super().__init__(name, title)
        self.mtu, self.options, self.executable = mtu, options, executable

    def start(self, lab):
        server, client = server_of(lab), lab.host("client")
        let_ping(lab.gateway)
        program = client.start(self.executable or lab.tools / "tun_nat", "--outside", f"/run/netns/{lab.gateway.namespace}", "--external", OUTER,
                               "--allow", f"{SERVER}/32", *self.options)
        program.wait_for_log("ready")
        client.ip("address", "add", f"{INSIDE}/24", "dev", "nat0")
        client.ip("link", "set", "nat0", "mtu", self.mtu, "up")
        client.ip("route", "add", "default", "dev", "nat0")
        client.wait_ping(SERVER)
        return Way(client, server, programs={"gateway": [program.pid]}, translator=program)


class Pasta(Subject):
    """Debian's, on the gateway, for the client's namespace. Nothing is forwarded from outside."""

    group = "peer"
    needs = ("pasta",)
    packages = ("passt",)

    def __init__(self, name, title, mtu):
        super().__init__(name, title)
        self.mtu = mtu

    def start(self, lab):
        server, client = server_of(lab), lab.host("client")
        # It takes address and route from here. As nobody, which it becomes by default, it may not enter the client's
        # namespace.
        lab.gateway.ip("route", "add", "default", "via", SERVER)
        let_ping(lab.gateway)
        program = lab.gateway.start("pasta", "--foreground", "--config-net", "--ipv4-only", "--mtu", self.mtu, "--no-map-gw", "--runas", "0",
                                    "-t", "none", "-T", "none", "-u", "none", "-U", "none", "--ns-ifname", "nat0",
                                    "--netns", f"/run/netns/{client.namespace}")

        def has_address():
            if not program.running():
                raise Failure(f"pasta ended: {program.tail(2)}")
            return any(address["family"] == "inet" and link["ifname"] == "nat0"
                       for link in json.loads(client.ip("-json", "address") or "[]") for address in link["addr_info"])

        wait_for(has_address, STARTING, "pasta has set up the client's interface")
        client.ip("link", "set", "nat0", "mtu", self.mtu)
        client.wait_ping(SERVER)
        return Way(client, server, programs={"gateway": [program.pid]}, translator=program)


class Tunnel(Penstock):
    """Client and gateway as configured by default, the gateway with a way to the server by `mode`. Of the bounds of a
    session those are lifted that one client would meet who stands for many."""

    def __init__(self, name, title, executable, mode):
        super().__init__(name, title, executable, server={
            "internet": {"mode": mode, "allow": [f"{SERVER}/32"]},
            "limits": {"flows_per_session": 100_000, "flow_rate": 1_000_000}})
        self.client = [f"--set=vpn.routes=[{SERVER}/32]"]

    def check_settings(self, path):
        pass

    def start(self, lab, before=lambda client: None):
        """`before(client)` has the wires for itself: nothing runs yet."""
        server, client = server_of(lab), lab.client("client")
        before(client)
        lab.gateway.ip("route", "add", "default", "via", SERVER)  # by which it finds its outer address
        let_ping(lab.gateway)
        gateway = self.start_gateway(lab)
        member, _ = self.start_client(lab, client)
        client.wait_ping(SERVER)
        return Way(client, server, programs={"gateway": [gateway.pid], "client": [member.pid]})


def bare_pipe(lab, client, direction, seconds):
    """What bench/compare has as the limit of a tunnel, between the same two machines."""
    found = TlsPipe.pipe(lab, client, direction, seconds)
    return {f"pipe_{direction}": found[direction],
            **{f"pipe_{direction}_cpu_{side}": found[f"cpu_{direction}_{side}"] for side in ("gateway", "client")}}


class TunnelLan(Penstock):
    """The same tunnel, but not beyond it: the server is the gateway's machine."""

    def start(self, lab):
        client = lab.client("client")
        gateway = self.start_gateway(lab)
        member, _ = self.start_client(lab, client)
        return Way(client, lab.gateway, INNER, {"gateway": [gateway.pid], "client": [member.pid]})
