"""An S3 server on the loopback interface, and a way to it that can be cut, also in the middle of an upload."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field

BUCKET = "bucket"
START_SECONDS = 120
HELD_BYTES = 8000  # of a request that passed before it is held: its head and a part of its body


def _listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


class Server:
    """moto's S3, in a process of its own, with a bucket."""

    def __init__(self) -> None:
        with _listening() as probe:
            self.port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("PUT", f"/{BUCKET}")
                return
            except OSError:
                assert self._process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def ask(self, method: str, path: str, data: bytes = b"") -> bytes:
        """The body of the answer. Raises OSError."""
        head = {
            "Authorization": "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/s3/aws4_request",
            "Content-Type": "text/plain",
        }
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data or None, head, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())

    def refuse_everybody(self, refuse: bool = True) -> None:
        """Answer 403 to each request from now on, or to none."""
        self.ask("POST", "/moto-api/reset-auth", b"0" if refuse else b"inf")

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@dataclass
class Way:
    """A port that leads to the server. `hold` is a part of the name of an upload that stops half-way.

    `held` is set then. A way that is down refuses connections.
    """

    server: Server
    hold: str = ""
    held: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        with _listening() as probe:
            self.port = int(probe.getsockname()[1])
        self.up()

    @property
    def environment(self) -> dict[str, str]:
        """What lets a job use it."""
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        return keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_EC2_METADATA_DISABLED": "true"}

    def up(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def down(self) -> None:
        """Take none, and cut those that there are."""
        assert self._listener is not None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.server.port))
                self._open += [client, server]
                for pump in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=pump, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, upwards: bool) -> None:
        head, passed = b"", 0
        with contextlib.suppress(OSError):
            while data := source.recv(1000):
                if data.startswith(b"PUT "):  # a request on a connection that is kept
                    head, passed = data.partition(b"\r\n")[0], 0
                passed += len(data)
                if upwards and self.hold and self.hold.encode() in head and passed > HELD_BYTES:
                    self.held.set()
                    return
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def find_objects(server: Server, prefix: str) -> list[str]:
    """The keys in the bucket that begin with the prefix."""
    text = server.ask("GET", f"/{BUCKET}?list-type=2&prefix={prefix}").decode()
    return [part.partition("</Key>")[0] for part in text.split("<Key>")[1:]]
