"""What the doctor says of names, interfaces, ports, other hosts and W&B."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from src.config import UserError
from src.doctor import network_checks
from tests.helpers.namespaces import doctor_in
from tests.helpers.plans import planned
from tests.helpers.wandb_server import WandbServer

AHEAD = "echo welcome; echo $(($(/bin/date +%s) + {seconds})).5; echo {answer}"
Fake = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_JOB_NODELIST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """Write a fake command, first on PATH."""

    def write(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return write


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow for the delay of a busy machine, which looks like a clock that is wrong."""
    monkeypatch.setattr(network_checks, "CLOCK_SECONDS", (20.0, 60.0))
    monkeypatch.setattr(network_checks, "ANSWER_SECONDS", 100)


def test_a_host_without_an_address() -> None:
    prepare = "hostname no-such-name && mount --bind /dev/null /etc/resolv.conf"
    name, interface = doctor_in("--mount --uts", prepare, "--only", "host name", "interface")
    assert (name["state"], name["fix"]) == ("yellow", "a line in /etc/hosts: ADDRESS no-such-name")
    assert interface["state"] == "green"  # on one host the name is not resolved
    several = doctor_in("--mount --uts", prepare, "--nodes", "other", "--only", "host name", "interface")
    assert [line["state"] for line in several] == ["red", "red"]


def test_a_host_name_that_resolves_to_loopback(tmp_path: Path) -> None:
    prepare = f"hostname me && echo 127.0.1.1 me > {tmp_path}/hosts && mount --bind {tmp_path}/hosts /etc/hosts"
    (line,) = doctor_in("--mount --uts", prepare, "--nodes", "x", "--only", "host name")
    assert line["state"] == "red"
    assert "me is 127.0.1.1: the other hosts would look for it on themselves" in line["found"]


def test_the_interface_that_gloo_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert network_checks.interface(planned()).found == "gloo takes lo (127.0.0.1)"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "no-such-interface")
    found = network_checks.interface(planned())
    assert (found.colour, found.fix) == ("red", "unset GLOO_SOCKET_IFNAME")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    assert network_checks.interface(planned(nodes=("other",))).colour == "red"


def test_loopback_is_down() -> None:
    (line,) = doctor_in("--net", "true", "--only", "interface")
    assert (line["state"], line["fix"]) == ("red", "ip link set lo up")


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as server:
        number = server.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(number))
        found = network_checks.port(planned())
        assert (found.colour, found.found) == ("red", f"port {number}: address already in use")
    assert network_checks.port(planned()).colour == "green"
    monkeypatch.setenv("MASTER_PORT", "99999")
    assert network_checks.port(planned()).fix == "unset MASTER_PORT"


def test_the_port_of_a_slurm_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "31234")
    assert network_checks.port(planned()).found.startswith("port 21234")


@pytest.mark.parametrize(
    ("seconds", "answer", "colour", "said"),
    [
        (0, "reached", "green", "all reach"),
        (30, "reached", "yellow", "s apart (b)"),
        (100, "reached", "red", "s apart (b)"),
        (-100, "reached", "red", "s apart (b)"),
        (0, "", "red", "b cannot reach"),
    ],
)
def test_other_hosts_clocks(seconds: int, answer: str, colour: str, said: str, fake: Fake, patient: None) -> None:
    fake("ssh", f"case $* in *BatchMode=yes*) {AHEAD.format(seconds=seconds, answer=answer)};; esac")
    found = network_checks.clocks(planned(nodes=("b",)))
    assert found.colour == colour, found
    assert said in found.found
    assert found.found.startswith("1 asked by ssh")


def test_the_probe_that_is_sent_to_other_hosts(fake: Fake, patient: None) -> None:
    """The command that ssh would run on the other host, run here: it prints the time and reaches the port."""
    fake("ssh", 'for last; do :; done; exec sh -c "$last"')
    found = network_checks.clocks(planned(nodes=("b", "c")))
    assert found.colour == "green", found
    assert "all reach" in found.found


def test_a_host_that_does_not_answer(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("ssh", "echo 'b: Permission denied (publickey)' >&2; exit 255")
    found = network_checks.clocks(planned(nodes=("b",)))
    assert (found.colour, found.found) == ("red", "1 asked by ssh: b (b: Permission denied (publickey))")
    assert "`ssh b date` must work without a question" in found.fix
    monkeypatch.setattr(network_checks, "ANSWER_SECONDS", 1)
    fake("ssh", "sleep 60")
    assert "b (no answer)" in network_checks.clocks(planned(nodes=("b",))).found
    monkeypatch.setenv("PATH", "/nowhere")
    assert network_checks.clocks(planned(nodes=("b",))).found.startswith("neither srun")
    assert network_checks.clocks(planned()).colour == "green"


def test_slurm_names_the_hosts_and_asks_them(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("srun", f"case $* in *--overlap*'-w n2'*) {AHEAD.format(seconds=0, answer='reached')};; esac")
    fake("scontrol", 'test "$*" = "show hostnames n[1-2]" && echo n1 && echo n2')
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    assert network_checks.hosts("") == []  # without SLURM_JOB_ID there is no job
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    assert network_checks.hosts("") == ["n2"]
    assert network_checks.clocks(planned(nodes=("n2",))).found.startswith("1 asked by srun: all reach")
    with pytest.raises(UserError, match=r"write a,b,c"):
        network_checks.hosts("n[1-")


def test_this_host_is_not_one_of_the_other_hosts() -> None:
    assert network_checks.hosts(f"a, {socket.gethostname()},localhost,b,") == ["a", "b"]


@pytest.mark.parametrize(
    ("mood", "colour", "said"),
    [
        ("well", "green", "knows the key"),
        ("reject", "red", "refuses the key"),
        ("error", "red", "answers with 500"),
        ("hang", "red", "does not answer (timed out)"),
    ],
)
def test_wandb(mood: str, colour: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_checks, "WANDB_SECONDS", 0.3 if mood == "hang" else 20)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with WandbServer() as server:
        server.mood = mood
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        found = network_checks.wandb(planned("track.wandb=online"))
        assert found.colour == colour, found
        assert said in found.found
        assert network_checks.wandb(planned()).colour == ("green" if mood == "well" else "yellow")


def test_wandb_without_a_key_a_server_or_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert network_checks.wandb(planned("track.wandb=disabled")).colour == "green"
    assert network_checks.wandb(planned()).found.startswith("offline, no key is set up")
    found = network_checks.wandb(planned("track.wandb=online"))
    assert (found.colour, found.fix) == ("red", "wandb login, or WANDB_API_KEY=")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "Connection refused" in network_checks.wandb(planned()).found
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert network_checks.wandb(planned()).colour == "yellow"
