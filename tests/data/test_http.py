"""Passwords of addresses are used, shown nowhere, and sent to no other host."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from src.data import http
from src.errors import Unreachable

SECRET = "p@ss/w:rd%"
QUOTED = "p%40ss%2Fw%3Ard%25"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()


class Server(BaseHTTPRequestHandler):
    """Serves only who gives the password; 403 to Python's own name. /to/URL redirects."""

    seen: list[tuple[str, str]]

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        self.seen.append((self.path, given))
        if "python-urllib/" in self.headers["User-Agent"].lower():
            self.send_error(403)
        elif self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/").partition("?")[0])
            self.end_headers()
        elif self.path.startswith("/private") and given != BASIC:
            self.send_error(401)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())


@contextmanager
def server() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(host:port, the (path, Authorization) of each request)."""
    seen: list[tuple[str, str]] = []
    running = ThreadingHTTPServer(("127.0.0.1", 0), type("Seeing", (Server,), {"seen": seen}))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{running.server_port}", seen
    finally:
        running.shutdown()
        running.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def body(address: str, name: str = "f.gz") -> str:
    with http.open_file(address, name, 5) as stream:
        return stream.read().decode()


def test_user_and_password_are_used_and_not_in_the_path() -> None:
    with server() as (host, seen):
        assert body(f"http://me:{QUOTED}@{host}/private/") == "/private/f.gz"
        assert seen == [("/private/f.gz", BASIC)]
        with pytest.raises(Unreachable, match=r"401 Unauthorized: give user and password, in ~/.netrc or as") as error:
            body(f"http://me:wrong@{host}/private/")
    assert "wrong" not in str(error.value)


def test_a_query_stays_at_the_end() -> None:
    with server() as (host, _):
        assert body(f"http://{host}/a/?token=x%20y&b=1#c") == "/a/f.gz?token=x%20y&b=1"
        assert body(f"http://{host}") == "/f.gz"


def test_python_s_own_name_is_not_given() -> None:
    """Many servers refuse it; the test's does."""
    with server() as (host, _):
        assert body(f"http://{host}/a") == "/a/f.gz"


def test_a_redirect_takes_the_password_to_the_same_host_alone() -> None:
    with server() as (host, seen), server() as (other, others):
        assert body(f"http://me:{QUOTED}@{host}/to/http://{host}/private", "x") == "/private/x"
        assert [given for _, given in seen] == [BASIC, BASIC]
        assert body(f"http://me:{QUOTED}@{host}/to/http://{other}/public", "x") == "/public/x"
        assert others == [("/public/x", "")]
        assert body(f"http://me:{QUOTED}@{host}/to/http://me:{QUOTED}@{other}/private", "x") == "/private/x"


def test_the_encrypted_side_of_a_host_is_the_same() -> None:
    same = http._same_host
    assert same("http://h/a", "https://h/b")
    assert same("https://h:443/a", "https://h/b")
    assert not same("https://h/a", "http://h/b")
    assert not same("http://h:8080/a", "https://h/b")
    assert not same("http://h/a", "http://h.evil/b")


def test_a_password_of_the_netrc_file_is_for_its_host_alone(home: Path) -> None:
    with server() as (host, seen):
        (home / ".netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\ndefault login a password b\n")
        (home / ".netrc").chmod(0o600)
        assert body(f"http://{host}/private") == "/private/f.gz"
        assert body(f"http://localhost:{host.partition(':')[2]}/public") == "/public/f.gz"
    assert [given for _, given in seen] == [BASIC, ""]


@pytest.mark.parametrize(
    "address",
    [
        "http://me:hunter2@host:port/",
        "http://me:hun/ter2@127.0.0.1:9/",
        "http://me:hunter2@[::1/",
        "http://me:hunter2@127.0.0.1:9/?token=hunter2",
        "http://me:hunter2@127.0.0.1:99999/",
        "hunter2://127.0.0.1/",
        "http://\u00e9\u00e9..hunter2/",
    ],
)
def test_an_error_shows_no_secret(address: str) -> None:
    with pytest.raises(Unreachable) as error:
        body(address)
    assert "ter2" not in str(error.value).replace("unknown url type: hunter2", "")


def test_a_password_that_a_run_did_not_keep() -> None:
    with pytest.raises(Unreachable, match=r"its password is not kept with a run: give data.mirrors= again"):
        body("https://***@host/")
