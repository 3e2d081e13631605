"""Opening an address: with the user and password of the address or of ~/.netrc, which no other host is sent."""

import base64
import netrc
import os
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from src.addresses import HIDDEN
from src.errors import Unreachable

# Many servers answer 403 to Python's own name.
AGENT = "Mozilla/5.0 (compatible; distributed-training-job/0.1; +python-urllib)"
PORTS = {"http": 80, "https": 443}


def _join(address: str, name: str) -> str:
    """The address of a file in a folder that is given by its address, whose query stays at the end."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}", fragment=""))


def open_file(address: str, name: str, seconds: float) -> BinaryIO:
    """The body of a file in a folder that is given by its address; `seconds` is the longest silence.

    Raises Unreachable with what was answered, which holds no secret of the address.
    """
    if HIDDEN in address:
        raise Unreachable("its password is not kept with a run: give data.mirrors= again")
    try:
        stream: BinaryIO = urllib.request.build_opener(_Redirects).open(_request(_join(address, name)), timeout=seconds)
    except urllib.error.HTTPError as error:
        raise Unreachable(f"{error.code} {error.reason}{_advice(error.code)}") from None
    except urllib.error.URLError as error:
        raise Unreachable(error.reason) from None
    except (OSError, HTTPException) as error:
        raise Unreachable(error) from None
    except ValueError:  # its text may quote the password
        raise Unreachable("is no address: are special characters in user and password percent-encoded?") from None
    return stream


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect; the password goes along to the same host alone."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        if followed is None:
            return None
        request = _request(followed.full_url)
        secret = req.unredirected_hdrs.get("Authorization")
        if secret and not request.has_header("Authorization") and _same_host(req.full_url, newurl):
            request.add_unredirected_header("Authorization", secret)
        return request


def _request(address: str) -> urllib.request.Request:
    """The request, with user and password in a header instead of the address. Raises ValueError."""
    parts = urlsplit(address)
    if parts.scheme not in PORTS:
        return urllib.request.Request(address)
    users, _, host = parts.netloc.rpartition("@")
    _ = parts.port  # raises ValueError where it is no number
    bare = quote(urlunsplit(parts._replace(netloc=host, fragment="")), safe="%/:=&?~#+!$,;'@()*[]")
    request = urllib.request.Request(bare, headers={"User-Agent": AGENT, "Accept": "*/*"})
    user, _, password = users.partition(":")
    if not users:
        user, password = _from_netrc(parts)
    if user or password:
        token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _from_netrc(parts: SplitResult) -> tuple[str, str]:
    """User and password that the netrc file has for just this host, percent-encoded."""
    named = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        found = netrc.netrc(str(Path(named).expanduser())).hosts.get(parts.hostname or "")
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError, RuntimeError):
        return "", ""
    return (_quoted(found[0]), _quoted(found[2])) if found else ("", "")


def _quoted(text: Any) -> str:
    return str(text or "").replace("%", "%25")


def _same_host(one: str, other: str) -> bool:
    """Whether both are one server, or the second is its encrypted side."""
    before, after = urlsplit(one), urlsplit(other)
    ports = [parts.port or PORTS.get(parts.scheme) for parts in (before, after)]
    if before.hostname != after.hostname:
        return False
    same = (before.scheme, ports[0]) == (after.scheme, ports[1])
    return same or (before.scheme, after.scheme, *ports) == ("http", "https", 80, 443)


def _advice(code: int) -> str:
    if code == 401:
        return ": give user and password, in ~/.netrc or as https://USER:PASSWORD@HOST/..."
    return ": may this user, or this address, read it?" if code == 403 else ""
