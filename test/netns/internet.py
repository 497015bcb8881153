"""A gateway with a way to the internet, and what is there.

    alice, bob --[ switch ]-- gateway 45.45.45.1 --wire-- 45.45.45.254 router 46.46.46.254 --wire-- 46.46.46.46 server
                                    2a0f:45::1           2a0f:45::ff         2a0f:46::ff            2a0f:46::46

In user space the gateway is nobody's, without a capability, without a TUN device, on port 8443; in kernel mode it is
root's, as it must be.
"""

import contextlib
import select
import socket
import threading

from lan import SUBNET6, Lan
from programs import UNPRIVILEGED, Gateway, token_record, unprivileged_gateway

SERVER, SERVER6 = "46.46.46.46", "2a0f:46::46"
OTHER, OTHER6 = "46.46.46.47", "2a0f:46::47"  # of the server's machine too
ROUTER, ROUTER6 = "45.45.45.254", "2a0f:45::ff"
OUTER, OUTER6 = "45.45.45.1", "2a0f:45::1"
OUT_THERE = ["45.45.0.0/16", "46.46.0.0/16", "2a0f::/16"]
WITHOUT_TUN = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh", *UNPRIVILEGED]


class Internet:
    """The router and the server behind it, from the machine of the gateway."""

    def __init__(self, lab, gateway_host, ipv6=True):
        self.lab, self.gateway = lab, gateway_host
        self.router, self.server = (lab.host(name, ipv4=False, ipv6=False) for name in ("router", "server"))
        lab.wire(gateway_host, f"{OUTER}/24", self.router, f"{ROUTER}/24",
                 ipv6 and f"{OUTER6}/64", ipv6 and f"{ROUTER6}/64")
        lab.wire(self.router, "46.46.46.254/24", self.server, f"{SERVER}/24", "2a0f:46::ff/64", f"{SERVER6}/64")
        for address in (f"{OTHER}/24", f"{OTHER6}/64"):
            self.server.run("ip", "address", "add", address, "dev", "wire0", *(["nodad"] if ":" in address else []))
        gateway_host.route("default", ROUTER)
        self.server.route("default", "46.46.46.254")
        self.server.route("default", "2a0f:46::ff")
        if ipv6:
            gateway_host.route("default", ROUTER6)
        self.router.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.icmp_ratelimit=0",
                           "net.ipv6.icmp.ratelimit=0")
        self.server.sysctl("net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        gateway_host.sysctl("net.ipv4.ping_group_range=0 2147483647")

    def wire(self):
        """What comes from the gateway, from now on."""
        return Wire(self.lab, self.router, "wire0")

    def lead_tcp_past(self, client):
        """What measures UDP by way of a TCP connection: that one goes to the server by a wire of its own."""
        near, _ = self.lab.wire(client, "10.77.0.1/24", self.server, "10.77.0.2/24", "fd77::1/64", "fd77::2/64")
        for family, via, server in (("-4", "10.77.0.2", SERVER), ("-6", "fd77::2", SERVER6)):
            client.run("ip", family, "rule", "add", "ipproto", "tcp", "to", server, "lookup", "77")
            client.run("ip", family, "route", "add", server, "via", via, "dev", near, "table", "77")

    def echo(self, port, address=SERVER, host=None):
        """A UDP service there that says back what it hears; returns the list of whom it heard."""
        return Echo(self.lab, host or self.server, address, port).heard


class Wire:
    """The IP packets that come in by an interface from now on."""

    def __init__(self, lab, host, interface):
        with host.entered():
            self._sock = lab.closing(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)))
            self._sock.bind((interface, 3))  # ETH_P_ALL
        self._sock.setblocking(False)

    def take(self):
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, (_, protocol, kind, _, _) = self._sock.recvfrom(1 << 16)
                if kind != socket.PACKET_OUTGOING and protocol in (0x0800, 0x86DD):
                    found.append(packet)
        return found


class Echo:
    def __init__(self, lab, host, address, port):
        self.heard = []
        with host.entered():
            self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((address, port))
        self.over, self._end = socket.socketpair()
        self.thread = threading.Thread(target=self._work)
        self.thread.start()
        lab.closing(self)

    def _work(self):
        while self.over not in select.select([self.sock, self.over], [], [])[0]:
            with contextlib.suppress(OSError):  # what the network said of an answer
                data, whom = self.sock.recvfrom(1 << 16)
                self.heard.append(whom[:2])
                self.sock.sendto(data, whom)

    def close(self):
        self._end.close()
        self.thread.join()
        for sock in (self.sock, self.over):
            sock.close()


def internet_lan(lab, certificates, mode="userspace", members=("alice", "bob"), ipv6=True, client_settings=None,
                 tun=False, **settings):
    """A LAN whose gateway leads to an Internet, `lan.internet`; in user space `tun` makes it root's, with a device."""
    lan = Lan.__new__(Lan)
    lan.lab, lan.certificates, lan.outside_ipv6 = lab, certificates, False
    lan.client_settings = {"vpn": {"routes": OUT_THERE}, **(client_settings or {})}
    host = lab.host("gateway")
    lan.internet = Internet(lab, host, ipv6)
    settings = {"server": {"listen_addr": ":8443"}, "vpn": {"subnet6": SUBNET6}, **settings,
                "auth": {"tokens": [token_record(name) for name in members]},
                "internet": {"mode": mode, **settings.get("internet", {})}}
    if mode == "userspace" and not tun:
        lan.gateway = unprivileged_gateway(host, certificates, **settings)
        lan.gateway.wrapper = WITHOUT_TUN
    else:
        lan.gateway = Gateway(host, certificates, **settings)
    lan.gateway.url = lambda ipv6=False: f"wss://{host.ipv4}:8443/"
    lan.gateway.start()
    lan.clients = [lan.join(name, lab.host(name)) for name in members]
    return lan


def ask(host, address, port, data=b"hello", timeout=3.0, sock=None, tries=1):
    """What comes back, and from whom, for a datagram that a program on `host` sends. OSError: it is told why not."""
    if sock is None:
        sock = host.lab.closing(udp_socket(host, address))
    sock.settimeout(timeout)
    for left in reversed(range(tries)):
        sock.sendto(data, (address, port))
        try:
            reply, whom = sock.recvfrom(1 << 16)
            return reply, whom[:2]
        except TimeoutError:
            if left == 0:
                raise
    raise AssertionError("no tries")


def udp_socket(host, towards, port=0, told=True):
    """A socket of `host` that hears of ICMP errors."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with host.entered():
        sock = socket.socket(family, socket.SOCK_DGRAM)
    if told:
        level, option = (socket.IPPROTO_IPV6, 25) if family == socket.AF_INET6 else (socket.IPPROTO_IP, 11)
        sock.setsockopt(level, option, 1)  # IPV6_RECVERR, IP_RECVERR
    sock.bind(("", port))
    return sock
