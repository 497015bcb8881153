"""Two programs that talk WebSocket to each other over loopback: ours, and one on strings that runs somebody else's library.

    pair = Pair("ws", "server")       # Node's `ws` listens, websocket_peer connects
    pair.do("text", b"hello")         # the library sends
    assert pair.event() == ("text", b"hello")    # and has heard the echo

Orders: text, binary, ping (data); fragments (parts, binary, ping: one between each two); close (code or 0, data); vanish.
Events: ("text" | "binary" | "pong", data), ("closed", code, reason), ("error", words).
"""

import base64
import json
import os
import pathlib
import queue
import shutil
import subprocess
import threading

HERE = pathlib.Path(__file__).resolve().parent
OURS = os.environ.get("WEBSOCKET_PEER", str(HERE.parents[1] / "build" / "test" / "websocket_peer"))
DEADLINE = 20.0


def library_command(library):
    if library == "websockets":
        return ["/usr/bin/python3", str(HERE / "websockets_puppet.py")]
    node = shutil.which("node") or shutil.which("nodejs")
    assert node, "Node.js is not here: install nodejs and node-ws (tools/install-packages.sh test)"
    return [node, str(HERE / "ws_puppet.js")]


class Program:
    """A running program and the lines that it has printed."""

    def __init__(self, argv):
        # Where Debian puts Node's modules; its own node looks there anyway.
        environment = dict(os.environ, NODE_PATH="/usr/share/nodejs")
        self.popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, env=environment)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.popen.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def line(self):
        """The next line; None at the end."""
        try:
            return self.lines.get(timeout=DEADLINE)
        except queue.Empty:
            raise AssertionError(f"{self.popen.args} said nothing for {DEADLINE:g} s") from None

    def tell(self, line):
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def end(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()


class Pair:
    """Both ends of one connection; `role` is the library's."""

    def __init__(self, library, role, subprotocol=None):
        self.programs = []
        try:
            self._start(library_command(library), role, subprotocol)
        except BaseException:
            self.close()
            raise

    def _start(self, command, role, subprotocol):
        if role == "server":
            self.library = self._run([*command, "server"])
            port = json.loads(self.library.line())["port"]
            self.ours = self._run([OURS, "connect", str(port)])
        else:
            self.ours = self._run([OURS, "listen"])
            port = self.ours.line().removeprefix("listening ")
            self.library = self._run([*command, "client", port, *([subprotocol] if subprotocol else [])])
        # The library's view of the handshake, or why there is none.
        self.opened = json.loads(self.library.line())

    def _run(self, argv):
        self.programs.append(Program(argv))
        return self.programs[-1]

    def do(self, order, data=b"", **more):
        more.update({"do": order, "data": base64.b64encode(data).decode()})
        if "parts" in more:
            more["parts"] = [base64.b64encode(part).decode() for part in more["parts"]]
        self.library.tell(json.dumps(more))

    def event(self):
        line = self.library.line()
        assert line is not None, "the library's program has ended"
        event = json.loads(line)
        if event["event"] == "closed":
            return "closed", event["code"], event["reason"]
        if event["event"] == "error":
            return "error", event["message"]
        return event["event"], base64.b64decode(event["data"])

    def our_ending(self):
        """How our end says that the connection ended."""
        return self.ours.line()

    def close(self):
        for program in self.programs:
            program.end()
