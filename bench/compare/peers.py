"""The other VPNs, each by its own programs and, where it has a choice, with AES-128-GCM as Penstock has."""

import pathlib

import measures
from hosts import Failure, run, wait_for
from subjects import STARTING, Subject


class Peer(Subject):
    group = "peer"

    def tunnel(self, lab, client, address):
        """Counts what runs on both hosts now: nothing but the peer's own programs, with all their children."""
        client.wait_ping(address, STARTING)
        return measures.Tunnel(client, lab.gateway, address,
                               {"gateway": sorted(lab.gateway.pids()), "client": sorted(client.pids())})


class OpenVpn(Peer):
    needs = packages = ("openvpn",)

    def __init__(self, name, title, protocol):
        super().__init__(name, title)
        self.protocol = protocol

    def start(self, lab):
        client, keys = lab.client(), lab.keys
        at_server, at_client = ("tcp-server", "tcp-client") if self.protocol == "tcp" else ("udp", "udp")
        # What is compared is the user-space program, not a kernel's module; before 2.6 there was no choice.
        userspace = ["--disable-dco"] if "--disable-dco" in run("openvpn", "--help", check=False) else []
        common = ["openvpn", "--dev", "tun0", "--ca", keys / "ca.pem", "--data-ciphers", "AES-128-GCM", "--verb", 1,
                  *userspace]
        server = lab.gateway.start(*common, "--proto", at_server, "--port", 443, "--server", "10.8.0.0", "255.255.255.0",
                                   "--topology", "subnet", "--cert", keys / "server.pem", "--key",
                                   keys / "server-key.pem", "--dh", "none", "--keepalive", 10, 60)
        server.wait_for_log("Initialization Sequence Completed", STARTING)
        client.start(*common, "--client", "--nobind", "--proto", at_client, "--remote", client.gateway, 443, "--cert",
                     keys / "client.pem", "--key", keys / "client-key.pem", "--remote-cert-tls", "server",
                     "--connect-retry", 1)
        return self.tunnel(lab, client, "10.8.0.1")


class Ocserv(Peer):
    needs = ("ocserv", "ocpasswd", "openconnect")
    packages = ("ocserv", "openconnect")

    def __init__(self, name, title, dtls):
        super().__init__(name, title)
        self.dtls = dtls

    # Instead of vpnc-script, which would also see to the machine's resolv.conf.
    SCRIPT = """#!/bin/sh
[ "$reason" = connect ] || exit 0
ip link set dev "$TUNDEV" mtu "$INTERNAL_IP4_MTU" up
ip address add "$INTERNAL_IP4_ADDRESS/24" dev "$TUNDEV"
"""

    def start(self, lab):
        client, keys, directory = lab.client(), lab.keys, lab.directory
        config = {
            "auth": f'"plain[passwd={directory}/ocpasswd]"', "tcp-port": 443, "socket-file": directory / "ocserv.sock",
            "run-as-user": "nobody", "run-as-group": "nogroup", "server-cert": keys / "server.pem",
            "server-key": keys / "server-key.pem", "isolate-workers": "false", "max-clients": 16, "max-same-clients": 16,
            "keepalive": 32400, "dpd": 90, "try-mtu-discovery": "false", "auth-timeout": 240, "device": "vpns",
            "tls-priorities": '"NORMAL:-CIPHER-ALL:+AES-128-GCM"', "predictable-ips": "true", "use-occtl": "false",
            "ipv4-network": "10.8.1.0", "ipv4-netmask": "255.255.255.0", "route": "10.8.1.0/255.255.255.0",
            "cisco-client-compat": "true", "max-ban-score": 0, **({"udp-port": 443} if self.dtls else {}),
        }
        path = lab.write("ocserv.conf", "".join(f"{key} = {value}\n" for key, value in config.items()))
        script = lab.write("script", self.SCRIPT, 0o755)
        run("ocpasswd", "-c", directory / "ocpasswd", "user", stdin="word\nword\n")
        server = lab.gateway.start("ocserv", "-f", "-c", path, "--pid-file", directory / "ocserv.pid")
        self.wait_listening(lab.gateway, server)
        client.start("openconnect", "--user", "user", "--passwd-on-stdin", "--cafile", keys / "ca.pem",
                     *([] if self.dtls else ["--no-dtls"]), "-i", "tun0", "--script", script,
                     f"https://{client.gateway}", stdin="word\n")
        client.wait_ping("10.8.1.1", STARTING)
        if self.dtls:
            connected = next(p for p in lab.programs if "openconnect" in p.log_path.name)
            connected.wait_for_log("Established DTLS connection")
        return self.tunnel(lab, client, "10.8.1.1")

    @staticmethod
    def wait_listening(host, server):
        def listening():
            if not server.running():
                raise Failure("ocserv ended")
            return ":443 " in host.run("ss", "-Hltn")

        wait_for(listening, STARTING, "ocserv listens")


class WireguardGo(Peer):
    needs = ("wireguard-go", "wg")
    packages = ("wireguard-go", "wireguard-tools")

    def start(self, lab):
        client = lab.client()
        # Its control sockets lie in one directory of the machine, under the interface's name.
        ends = [(lab.gateway, f"wgs{lab.unique}", "10.8.2.1"), (client, f"wgc{lab.unique}", "10.8.2.2")]
        keys = [run("wg", "genkey").strip() for _ in ends]
        public = [run("wg", "pubkey", stdin=key).strip() for key in keys]
        for (host, interface, address), key in zip(ends, keys):
            host.start("wireguard-go", "-f", interface, environment={"LOG_LEVEL": "error"})
            host.wait_interface(interface)
            wait_for(pathlib.Path(f"/var/run/wireguard/{interface}.sock").exists, STARTING, "wireguard-go listens")
            host.run("wg", "set", interface, "private-key", lab.write(f"{interface}.key", key))
            host.ip("address", "add", f"{address}/24", "dev", interface)
            host.ip("link", "set", interface, "mtu", 1420, "up")
        lab.gateway.run("wg", "set", ends[0][1], "listen-port", 51820, "peer", public[1], "allowed-ips", "10.8.2.2/32")
        client.run("wg", "set", ends[1][1], "peer", public[0], "allowed-ips", "10.8.2.0/24", "endpoint",
                   f"{client.gateway}:51820")
        return self.tunnel(lab, client, "10.8.2.1")


class Tinc(Peer):
    needs = ("tincd",)
    packages = ("tinc",)

    def start(self, lab):
        client = lab.client()
        ends = [(lab.gateway, "gateway", "10.8.3.1", ""), (client, "client", "10.8.3.2", "ConnectTo = gateway\n")]
        for _, name, address, connect in ends:
            directory = lab.directory / f"tinc-{name}"
            (directory / "hosts").mkdir(parents=True)
            lab.write(f"tinc-{name}/tinc.conf", f"Name = {name}\nInterface = tinc0\n{connect}")
            lab.write(f"tinc-{name}/hosts/{name}", f"Subnet = {address}/32\nCipher = aes-128-cbc\n"
                      + (f"Address = {client.gateway}\n" if name == "gateway" else ""))
            run("tincd", "-c", directory, "-K2048", seconds=60)
        for here, there in (("gateway", "client"), ("client", "gateway")):
            card = (lab.directory / f"tinc-{here}/hosts/{here}").read_text()
            lab.write(f"tinc-{there}/hosts/{here}", card)
        for host, name, address, _ in ends:
            directory = lab.directory / f"tinc-{name}"
            host.start("tincd", "-c", directory, "-D", f"--pidfile={directory}/pid")
            host.wait_interface("tinc0")
            host.ip("address", "add", f"{address}/24", "dev", "tinc0")
            host.ip("link", "set", "tinc0", "up")
        return self.tunnel(lab, client, "10.8.3.1")
