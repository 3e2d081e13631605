"""The network interfaces of this host and their addresses, of IPv4 and IPv6."""

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from src.errors import UserError

SIOCGIFADDR = 0x8915
IF_INET6 = Path("/proc/net/if_inet6")
LOOPBACK = "lo"
DISCARD = 9  # the port of a probe that sends nothing


def addresses() -> dict[str, list[str]]:
    """The addresses of each interface that has one, IPv4 first; those of IPv6 that need no scope."""
    found: dict[str, list[str]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, interface in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
            except OSError:
                continue
            found.setdefault(interface, []).append(socket.inet_ntoa(answer[20:24]))
    for address, interface in _ipv6():
        if not address.is_link_local:
            found.setdefault(interface, []).append(str(address))
    return found


def _ipv6() -> list[tuple[ipaddress.IPv6Address, str]]:
    try:
        lines = IF_INET6.read_text().splitlines()
    except OSError:  # a kernel without IPv6
        return []
    return [(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])), line.split()[-1]) for line in lines]


def loopback() -> str:
    """This host's own address, as only it sees it: 127.0.0.1, or ::1 where there is no IPv4."""
    mine = addresses().get(LOOPBACK, [])
    return "127.0.0.1" if "127.0.0.1" in mine or "::1" not in mine else "::1"


def is_loopback(address: str) -> bool:
    """Whether other hosts cannot use the address; for a name too, which other hosts may know."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def resolve(host: str) -> list[str]:
    """The addresses of a host's name or address, [] if it has none. An IPv6 address may stand in brackets."""
    try:
        answers = socket.getaddrinfo(bare(host), DISCARD, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):  # UnicodeError: a name that no DNS can hold
        return []
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def bare(host: str) -> str:
    """The host without the brackets that an IPv6 address has before a port."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def towards(host: str) -> str:
    """The address with which this host reaches another one; '' if there is no way there."""
    for address in resolve(host):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((address, DISCARD))  # sends nothing: only asks for the route
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return ""


def of(address: str) -> str:
    """The interface that has the address, '' if none has."""
    return next((interface for interface, found in addresses().items() if address in found), "")


def missing(variable: str, available: Iterable[str]) -> list[str]:
    """The interfaces that GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names and that are not available.

    gloo takes whole names; NCCL takes beginnings, a whole name after =, and all but those after ^.
    """
    value, available = os.environ.get(variable, "").strip(), list(available)
    exact = variable == "GLOO_SOCKET_IFNAME" or value.startswith("=")
    if variable == "NCCL_SOCKET_IFNAME" and value.startswith("^"):
        return []
    named = [name.strip() for name in (value if exact and not value.startswith("=") else value.lstrip("=")).split(",")]
    absent = [
        name
        for name in filter(None, named)
        if not any(other == name or (not exact and other.startswith(name)) for other in available)
    ]
    if variable == "NCCL_SOCKET_IFNAME" and len(absent) < len(named):
        return []  # NCCL is content with one
    return absent


def use(rank: int, towards_rank0: Sequence[str], one_host: bool, nccl: bool) -> None:
    """Let gloo use an interface with which all ranks can reach each other; the user's GLOO_SOCKET_IFNAME goes first.

    `towards_rank0` are the ranks' addresses. Raises UserError if a variable names no interface of this host.
    """
    available = addresses()
    for variable in ("GLOO_SOCKET_IFNAME", *["NCCL_SOCKET_IFNAME"] * (nccl and not one_host)):
        if absent := missing(variable, available):
            listed = ", ".join(available) or "none is up"
            raise UserError(
                f"{variable}={os.environ[variable]}: no interface {absent[0]} with an address here ({listed})",
                fix=f"unset {variable}, or name one of these",
            )
    if os.environ.get("GLOO_SOCKET_IFNAME", "").strip():
        return
    if one_host:
        os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK  # else gloo looks the host's name up, for minutes
    elif interface := _reachable(rank, towards_rank0):
        os.environ["GLOO_SOCKET_IFNAME"] = interface


def _reachable(rank: int, towards_rank0: Sequence[str]) -> str:
    """The interface that reaches the other hosts, '' to leave it to gloo, which takes that of the host name's address.

    Where the name has no address, or a loopback address (127.0.1.1 in Debian), the others could not connect.
    """
    named = resolve(socket.gethostname())
    if named and not any(map(is_loopback, named)):
        return ""
    others = [address for address in towards_rank0 if address and not is_loopback(address)]
    mine = towards_rank0[rank]
    if not is_loopback(mine) and of(mine):
        return of(mine)
    return next(filter(None, (of(towards(address)) for address in others)), "")
