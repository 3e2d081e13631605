"""Ranks that no torchrun starts: on hosts of their own, by mpirun, and where there is no IPv4."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.run.layout import read_status
from tests.helpers import hosts
from tests.helpers.hosts import Hosts
from tests.helpers.launched import is_launcher_s
from tests.helpers.namespaces import in_namespaces
from tests.helpers.ranks import ROOT

SETTINGS = ("data.name=idx", "train.epochs=1", "run.name=r", "track.wandb=disabled", "train.timeout_seconds=60")


def settings(small: str, folder: Path) -> list[str]:
    return [*SETTINGS, f"data.root={small}", f"run.root={folder}"]


@pytest.fixture
def made(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Two hosts, of IPv4 or IPv6 alone."""
    if reason := hosts.objection():
        pytest.skip(reason)
    found = Hosts(tmp_path / "hosts", HOSTS="2", FAMILY=request.param)
    yield found
    found.down()


@pytest.mark.parametrize("made", ["4", pytest.param("6", marks=pytest.mark.slow(seconds=15))], indirect=True)
def test_rank_and_world_size_alone_on_two_hosts(made: Hosts, small: str, tmp_path: Path) -> None:
    """As PyTorchJob and Volcano start ranks: two on the first host, one on the second, in any order."""
    command = [sys.executable, "-m", "src.train", *settings(small, tmp_path)]
    common = {"WORLD_SIZE": "3", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
    placed = {"2": "node2", "1": "node1", "0": "node1"}
    logs = {rank: tmp_path / f"{rank}.log" for rank in placed}
    ranks = [made.start(host, command, logs[rank], RANK=rank, **common) for rank, host in placed.items()]
    codes = [rank.wait(timeout=hosts.PATIENCE_SECONDS) for rank in ranks]
    output = "".join(log.read_text() for log in logs.values())
    assert codes == [0, 0, 0], output
    assert read_status(tmp_path / "r")["world_size"] == 3
    assert "sync     DDP, gloo" in output, "two hosts share no memory"
    assert "Traceback" not in output


@pytest.mark.slow(seconds=15)
@pytest.mark.parametrize("made", ["6"], indirect=True)
def test_node_sh_on_hosts_without_ipv4(made: Hosts, small: str, tmp_path: Path) -> None:
    started = []
    for node in ("0", "1"):
        variables = {"HEAD": "node1:29500", "NODES": "2", "NODE_RANK": node, "JOB": "six", "RANKS_PER_NODE": "2"}
        command = ["launch/node.sh", *settings(small, tmp_path)]
        started.append(made.start(f"node{int(node) + 1}", command, tmp_path / f"{node}.log", **variables))
    codes = [each.wait(timeout=hosts.PATIENCE_SECONDS) for each in started]
    output = "".join((tmp_path / f"{node}.log").read_text() for node in ("0", "1"))
    assert codes == [0, 0], output
    assert read_status(tmp_path / "r")["world_size"] == 4
    assert "Traceback" not in output


NO_IPV4 = "ip link set lo up && ip addr del 127.0.0.1/8 dev lo"


def test_one_host_without_ipv4(small: str, tmp_path: Path) -> None:
    launcher = ("launch.torchrun", "--standalone", "--nproc-per-node=2", "-m", "src.train")
    done = in_namespaces("--net", NO_IPV4, *launcher, *settings(small, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "world    2 ranks, cpu" in done.stdout


@pytest.mark.parametrize("program", ["mpirun.openmpi", "mpiexec.hydra"])
def test_mpirun(program: str, small: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here (apt install openmpi-bin, hydra)")
    options = ["--allow-run-as-root", "--oversubscribe"] if "openmpi" in program else []
    words = [program, *options, "-n", "3", sys.executable, "-m", "src.train", *settings(small, tmp_path)]
    kept = {name: value for name, value in os.environ.items() if not is_launcher_s(name)}
    # A job that torchrun started is the parent: its variables are not those of mpirun's tasks.
    parent = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "gone", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x"}
    done = subprocess.run(words, cwd=ROOT, env=kept | parent, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "world    3 ranks, cpu" in done.stdout
    assert "RANK=0 WORLD_SIZE=2: set before mpirun, for another job; not used" in done.stdout
