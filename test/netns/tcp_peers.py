"""Those whom clients reach by TCP: servers of others, and what a test says and hears itself. See internet.py for who is where.

Three kinds of client come to them, all of Linux: alice hands super-packets over and takes them, bob's interface does
neither, and carol speaks the plain protocol, a packet a message.
"""

import asyncio
import contextlib
import errno
import filecmp
import hashlib
import os
import pathlib
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
import uuid

import pytest
import websockets

from internet import SERVER, SERVER6, internet_lan
from lab import merged, wait_for
from lan import Stream

MIB = 1 << 20
KINDS = {"alice": {}, "bob": {"vpn": {"offload": "off"}}, "carol": {"server": {"protocol": "v1"}}}
QUIET = {"logging": {"level": "info"}}
SERVERS = (SERVER, SERVER6)
DEEP = bool(os.environ.get("PENSTOCK_DEEP"))
modes = pytest.mark.parametrize("mode", ["userspace", "kernel"])
_POOL = os.urandom(2 * MIB)


def tcp_lan(lab, certificates, mode, members=tuple(KINDS), client_settings=None, **settings):
    """An internet_lan whose members are of their kinds, and that logs no packets."""
    lan = internet_lan(lab, certificates, mode, members=members, **merged(QUIET, settings),
                       client_settings=merged(QUIET, client_settings or {}))
    for client in lan.clients:
        if KINDS[client.name]:
            client.stop()
            client.write_config(**KINDS[client.name])
            client.start()
    return lan


# --- content --------------------------------------------------------------------------------------------------------


def content(size, number=0):
    """`size` bytes in blocks of at most 1 MiB, no two of which are alike, nor is the content of two numbers."""
    for block in range((size + MIB - 1) // MIB):
        start = (block * 1009 + number * 4099) % MIB
        yield memoryview(_POOL)[start:start + min(MIB, size - block * MIB)]


def digest_of(blocks):
    digest = hashlib.blake2b()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def write_file(path, size, number=0):
    with open(path, "wb") as file:
        file.writelines(content(size, number))
    return path


def send_and_end(sock, blocks):
    """Sends it in a thread of its own, and that this was all; returns the thread."""
    def work():
        with contextlib.suppress(OSError):  # the reader will say what is missing
            for block in blocks:
                sock.sendall(block)
            sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def digest_of_rest(sock):
    """The digest of all that comes until the end."""
    return digest_of(iter(lambda: sock.recv(MIB), b""))


def passes(sender, receiver, size, number=0):
    """Whether `size` bytes arrive unharmed, and then the end; the other direction stays open."""
    thread = send_and_end(sender, content(size, number))
    received = digest_of_rest(receiver)
    thread.join()
    return received == digest_of(content(size, number))


class Running:
    """Bytes that come down to `host` from a server of ours until finish(), up to `rate` a second, and are compared."""

    def __init__(self, lab, host, server, address=SERVER, port=9100, rate=16 * MIB):
        self.stream, self.count, self._done = Stream(lab, host, server, address, port), 0, threading.Event()
        self.stream.near.settimeout(300)
        self.stream.far.settimeout(300)
        self._pause = (1 << 18) / rate
        self._sent, self._received = hashlib.blake2b(), hashlib.blake2b()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()
        self.wait_for_more()

    def _send(self):
        with contextlib.suppress(OSError):
            number = 0
            while not self._done.wait(self._pause):
                for block in content(1 << 18, number := number + 1):
                    self.stream.far.sendall(block)
                    self._sent.update(block)
            self.stream.far.shutdown(socket.SHUT_WR)

    def _receive(self):
        with contextlib.suppress(OSError):
            while chunk := self.stream.near.recv(MIB):
                self._received.update(chunk)
                self.count += len(chunk)

    def wait_for_more(self, size=MIB, deadline=10.0):
        goal = self.count + size
        wait_for(lambda: self.count >= goal, deadline, "the download goes on")

    def finish(self):
        """True if all that was sent has arrived unharmed."""
        self._done.set()
        for thread in self._threads:
            thread.join(60)
        return self._sent.digest() == self._received.digest()


# --- sockets --------------------------------------------------------------------------------------------------------


def listen(host, address, port, backlog=128):
    with host.entered():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = host.lab.closing(socket.create_server((address, port), family=family, backlog=backlog))
    sock.settimeout(20)
    return sock


def connect(host, address, port, timeout=10.0):
    with host.entered():
        return host.lab.closing(socket.create_connection((address, port), timeout=timeout))


def begin_to_connect(host, address, port):
    """A socket that does not wait for its connection."""
    with host.entered():
        sock = host.lab.closing(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
    sock.setblocking(False)
    assert sock.connect_ex((address, port)) == errno.EINPROGRESS
    return sock


def why_not(host, address, port, timeout=10.0):
    """The number of the error with which a connection fails, and after how many seconds."""
    begin = time.monotonic()
    with pytest.raises(OSError) as told:
        connect(host, address, port, timeout)
    return told.value.errno, time.monotonic() - begin


def reset(sock):
    """Breaks the connection off."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- programs -------------------------------------------------------------------------------------------------------


class Files:
    """nginx on ports 80 and 443 (HTTP/2) of `host`, which gives and takes files of `directory`, in memory if there is room.

    `/word` says "hello".
    """

    def __init__(self, lab, host, pair):
        roomy = shutil.disk_usage("/dev/shm").free > 6 << 30 if os.path.isdir("/dev/shm") else False
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=lab.prefix, dir="/dev/shm" if roomy else lab.directory))
        lab.closing(self)
        self.root = self.directory / "root"
        self.root.mkdir()
        main = self.directory / "nginx.conf"
        temporary = " ".join(f"{kind}_temp_path {self.directory}/{kind};"
                             for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        listening = " ".join(f"listen {address}:80 backlog=2000; listen {address}:443 ssl http2 backlog=2000;"
                             for address in (SERVER, f"[{SERVER6}]"))
        main.write_text(f"""
            user root; daemon off; worker_processes 1; worker_rlimit_nofile 8192; error_log stderr;
            pid {self.directory}/pid; events {{ worker_connections 4096; }}
            http {{
              access_log off; sendfile on; keepalive_requests 1000000; client_max_body_size 0; {temporary}
              server {{
                {listening} ssl_certificate {pair.certificate}; ssl_certificate_key {pair.key};
                root {self.root}; location / {{ dav_methods PUT; }} location = /word {{ return 200 "hello\\n"; }}
              }}
            }}
            """)
        process = host.start("nginx", "-e", "stderr", "-p", self.directory, "-c", main, log_name="web")

        def listens():
            assert process.running(), process.log()
            return len(host.run("ss", "-Hltn", "sport = :80 or sport = :443").stdout.splitlines()) == 4

        wait_for(listens, what="nginx listens")

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)


def url(address, path, scheme="http"):
    return f"{scheme}://{f'[{address}]' if ':' in address else address}/{path}"


def curl(host, *arguments, timeout=60.0):
    return host.run("curl", "-sS", "--fail", "--globoff", *arguments, timeout=timeout).stdout


def downloads(host, address, path, original, timeout=60.0):
    """Whether what the web server says is the file `original`."""
    done = host.run("sh", "-c", 'curl -sS --fail --globoff "$1" | cmp - "$2"', "sh",
                    url(address, path), original, timeout=timeout, check=False)
    print(done.stdout, done.stderr)  # where they differ, or why there was nothing
    return done.returncode == 0


def uploads(host, address, file, root, timeout=60.0):
    """Whether the web server, whose files are in `root`, gets what it is given."""
    name = f"up-{host.name}-{uuid.uuid4().hex}"
    curl(host, "-o", "/dev/null", "-T", file, url(address, name), timeout=timeout)
    same = filecmp.cmp(file, root / name, shallow=False)
    (root / name).unlink()
    return same


class Shell:
    """OpenSSH's server on port 2222 of `host`, and how clients call it.

    It lets root in by a key. What it knows of users is its own, so nothing depends on the machine's accounts.
    """

    def __init__(self, lab, host):
        self.directory = lab.directory
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.directory / name], check=True)
        files = {"passwd": f"root:x:0:0::{self.directory}:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n",
                 "shadow": "root:*:19000:0:99999:7:::\n"}
        for name, text in files.items():
            (self.directory / name).write_text(text)
        (self.directory / "sshd_config").write_text(f"""
            HostKey {self.directory}/host_key
            AuthorizedKeysFile {self.directory}/user_key.pub
            PidFile none
            PermitRootLogin prohibit-password
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            StrictModes no
            UsePAM no
            UseDNS no
            Subsystem sftp internal-sftp
            """)
        own = 'mount -t tmpfs none /run && mkdir /run/sshd && cd "$1" && for file in passwd shadow; do ' \
              'mount --bind $file /etc/$file; done && exec /usr/sbin/sshd -D -e -f "$1/sshd_config" -p 2222'
        self.process = host.start("unshare", "--mount", "sh", "-c", own, "sh", self.directory, log_name="sshd")
        self.process.wait_for_log("Server listening on ::")
        key = (self.directory / "host_key.pub").read_text()
        (self.directory / "known_hosts").write_text("".join(f"[{address}]:2222 {key}" for address in SERVERS))

    def options(self):
        """Of ssh and scp."""
        return ["-F", "none", "-i", self.directory / "user_key", "-o", "Port=2222", "-o", "BatchMode=yes", "-o",
                "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={self.directory}/known_hosts", "-o",
                "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15"]

    def copy(self, host, source, target, timeout=60.0):
        host.run("scp", "-q", *self.options(), source, target, timeout=timeout)

    def session(self, host, address=SERVER):
        return Session(host, self.options(), address)


class Session:
    """`ssh SERVER cat`, spoken to."""

    def __init__(self, host, options, address):
        self._popen = subprocess.Popen(list(map(str, host.command("ssh", *options, f"root@{address}", "cat"))),
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        host.lab.closing(self)

    def say(self, word):
        self._popen.stdin.write(word)
        self._popen.stdin.flush()

    def hear(self, size, deadline=10.0):
        """The next `size` bytes of what comes back."""
        heard, end = b"", time.monotonic() + deadline
        while len(heard) < size:
            left = max(0, end - time.monotonic())
            assert select.select([self._popen.stdout], [], [], left)[0], f"{heard} and no more in {deadline:g} s"
            chunk = os.read(self._popen.stdout.fileno(), size - len(heard))
            assert chunk, f"the session ended after {heard}"
            heard += chunk
        return heard

    def exchange(self, word, deadline=10.0):
        self.say(word)
        return self.hear(len(word), deadline) == word

    def end(self):
        """Its exit code."""
        self._popen.stdin.close()
        return self._popen.wait(10)

    def close(self):
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


# --- WebSockets -----------------------------------------------------------------------------------------------------


def hold_websockets(lan, seconds, pause=0.05):
    """For so long each client talks by a WebSocket of each family with a server that also speaks without being asked.

    Returns how many messages each has had answered, and how many it was told unasked; all come in order, none changed.
    """
    listeners = [listen(lan.internet.server, address, 8080) for address in SERVERS]
    socks = [(connect(client.host, address, 8080), address) for client in lan.clients for address in SERVERS]
    for sock in [*listeners, *(sock for sock, _ in socks)]:
        sock.setblocking(False)

    async def serve(websocket):
        async def tell():
            with contextlib.suppress(websockets.ConnectionClosed):
                for number in range(1 << 30):
                    await websocket.send(f"news {number}")
                    await asyncio.sleep(pause)

        telling = asyncio.create_task(tell())
        async for message in websocket:
            await websocket.send(message[::-1])
        await telling

    async def talk(sock, address):
        async with websockets.connect(f"ws://{f'[{address}]' if ':' in address else address}:8080/", sock=sock,
                                      ping_interval=0.5, ping_timeout=10) as websocket:
            answered = told = 0
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                message = os.urandom(1 + answered * 97 % 60000)
                await websocket.send(message)
                while isinstance(heard := await asyncio.wait_for(websocket.recv(), 10), str):
                    assert heard == f"news {told}"
                    told += 1
                assert heard == message[::-1]
                answered += 1
                await asyncio.sleep(pause)
            return answered, told

    async def all_of_it():
        async with contextlib.AsyncExitStack() as stack:
            for listener in listeners:
                await stack.enter_async_context(websockets.serve(serve, sock=listener))
            return await asyncio.gather(*(talk(*one) for one in socks))

    return asyncio.run(all_of_it())
