"""Mirrors on this machine: they serve a folder, or fail in the way a test asks for."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Mirror(SimpleHTTPRequestHandler):
    """Serves a folder, in the way the test asks for, and counts."""

    asked: list[str]
    way: str

    def __init__(self, asked: list[str], way: str, *args: object, **kwargs: object) -> None:
        self.asked, self.way = asked, way
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        self.asked.append(name)
        if self.way == "private" and self.headers.get("Authorization") != "Basic bWU6aHVudGVyMg==":
            self.send_error(401)
            return
        if self.way == "503":
            self.send_error(503)
            return
        whole = (Path(self.directory) / name).read_bytes()
        sent = whole[: len(whole) // 2] if self.way == "truncated" else whole
        self.send_response(200)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        for start in range(0, len(sent), 4096):
            self.wfile.write(sent[start : start + 4096])
            time.sleep(0.2 if self.way == "slow" else 0)


@contextmanager
def mirror(folder: Path, way: str = "") -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Mirror, asked, way, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
