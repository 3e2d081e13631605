"""Interfaces and addresses of IPv4 and IPv6, and the variables that name interfaces."""

import json
import os
import socket

import pytest

from src.errors import UserError
from src.world import interfaces
from tests.helpers.launched import forget
from tests.helpers.namespaces import python_in


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


LINK = (
    "ip link set lo up && ip link add eth9 type veth peer name eth8 && ip link set eth8 up && ip link set eth9 up && "
    "ip addr add fd00::1/64 dev eth9 nodad && sleep 0.3"
)


def seen_in(prepare: str) -> list[object]:
    """What a Python in a network of its own sees, after the shell command."""
    program = (
        "import json; from src.world import interfaces as i;"
        "print(json.dumps([i.addresses(), i.loopback(), *map(i.towards, ('10.1.0.9', 'fd00::9', 'nohost'))]))"
    )
    answer: list[object] = json.loads(python_in("--net", prepare, program))
    return answer


def test_a_host_with_both_kinds_of_addresses() -> None:
    found, loopback, four, six, none = seen_in(f"{LINK} && ip addr add 10.1.0.1/24 dev eth9")
    assert found == {"lo": ["127.0.0.1", "::1"], "eth9": ["10.1.0.1", "fd00::1"]}
    assert (loopback, four, six, none) == ("127.0.0.1", "10.1.0.1", "fd00::1", "")


def test_a_host_without_ipv4() -> None:
    found, loopback, four, six, _ = seen_in(f"{LINK} && ip addr del 127.0.0.1/8 dev lo")
    assert found == {"lo": ["::1"], "eth9": ["fd00::1"]}
    assert (loopback, four, six) == ("::1", "", "fd00::1")


def test_addresses_in_brackets_and_names_that_are_none() -> None:
    assert interfaces.bare("[fd00::1]") == "fd00::1"
    assert interfaces.resolve("[::1]") == interfaces.resolve("::1") == ["::1"]
    for name in ("", "no.such.host.invalid", "a" * 300, "a..b"):
        assert interfaces.resolve(name) == [] or name == ""
    assert interfaces.is_loopback("127.0.1.1")
    assert not interfaces.is_loopback("node1")
    assert interfaces.of("127.0.0.1") == "lo"


def test_an_address_that_is_listed_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = [(2, 2, 17, "", ("10.0.0.1", 9)), (2, 2, 17, "", ("10.0.0.2", 9)), (2, 2, 17, "", ("10.0.0.1", 9))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: twice)
    assert interfaces.resolve("n1") == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    ("variable", "value", "missing"),
    [
        ("GLOO_SOCKET_IFNAME", "eth0,ib0", ["ib0"]),
        ("GLOO_SOCKET_IFNAME", "eth", ["eth"]),
        ("GLOO_SOCKET_IFNAME", "^lo", ["^lo"]),
        ("GLOO_SOCKET_IFNAME", " ", []),
        ("NCCL_SOCKET_IFNAME", "eth", []),
        ("NCCL_SOCKET_IFNAME", "=eth", ["eth"]),
        ("NCCL_SOCKET_IFNAME", "ib,eth", []),
        ("NCCL_SOCKET_IFNAME", "ib", ["ib"]),
        ("NCCL_SOCKET_IFNAME", "^docker,lo", []),
    ],
)
def test_a_variable_that_names_no_interface(
    variable: str, value: str, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert interfaces.missing(variable, ["lo", "eth0"]) == missing


def test_gloo_s_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces.use(0, ["", ""], one_host=True, nccl=False)
    assert os.environ.pop("GLOO_SOCKET_IFNAME") == "lo"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib7")
    with pytest.raises(UserError, match=r"GLOO_SOCKET_IFNAME=ib7: no interface ib7 with an address here \(lo.*; unset"):
        interfaces.use(0, ["", ""], one_host=True, nccl=False)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib7")
    interfaces.use(0, ["", ""], one_host=False, nccl=False)  # not NCCL's business
    with pytest.raises(UserError, match="NCCL_SOCKET_IFNAME=ib7"):
        interfaces.use(0, ["", ""], one_host=False, nccl=True)


def test_a_host_whose_name_is_a_loopback_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's 127.0.1.1: gloo would offer it to the other hosts. Then the way to them decides."""
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    monkeypatch.setattr(interfaces, "addresses", lambda: {"lo": ["127.0.0.1"], "eth0": ["10.0.0.1"]})
    monkeypatch.setattr(interfaces, "towards", lambda host: "10.0.0.1" if host == "10.0.0.2" else "127.0.0.1")
    for mine in ("10.0.0.1", "127.0.1.1"):
        interfaces.use(0, [mine, "10.0.0.2"], one_host=False, nccl=False)
        assert os.environ.pop("GLOO_SOCKET_IFNAME") == "eth0"
    monkeypatch.setattr(interfaces, "resolve", lambda host: ["10.0.0.1"])
    interfaces.use(0, ["10.0.0.1", "10.0.0.2"], one_host=False, nccl=False)
    assert "GLOO_SOCKET_IFNAME" not in os.environ, "the name has an address that others can use"
