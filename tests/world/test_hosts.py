"""Which ranks share a host, whatever the variables say."""

import os
import socket
from pathlib import Path

import pytest

from src.environment import Ranks
from src.errors import UserError
from src.world import hosts, processes
from src.world import world as worlds
from src.world.hosts import Peer, place
from src.world.world import World
from tests.helpers.by_hand import by_hand

PEERS = [Peer("a", "1", ""), Peer("b", "2", ""), Peer("a", "1", ""), Peer("b", "3", "")]


def test_the_place_of_a_rank() -> None:
    assert [place(Ranks(rank, 4, None, None), PEERS) for rank in range(4)] == [(0, 2), (0, 1), (1, 2), (0, 1)]
    assert place(Ranks(3, 4, 1, 2, by_torchrun=True), PEERS) == (1, 2), "torchrun knows it"
    assert place(Ranks(2, 4, 0, 1), PEERS) == (1, 2), "numbers that were set by hand may be too small"
    with pytest.raises(UserError, match=r"LOCAL_WORLD_SIZE=4: of 4 ranks, 2 are on this host \(a, b\)"):
        place(Ranks(0, 4, 0, 4), PEERS)


def test_two_hosts_of_the_same_name_are_two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, process = hosts.identity("10.0.0.1", False), processes.this_process()
    assert hosts.identity("10.0.0.1", False) == one
    assert hosts.identity("10.0.0.2", False) != one
    (tmp_path / "boot_id").write_text("another\n")
    monkeypatch.setattr(processes, "BOOT", tmp_path / "boot_id")
    assert hosts.identity("10.0.0.1", False) != one
    assert processes.this_process().namespace != process.namespace, "its pids mean nothing here"
    monkeypatch.setenv("GROUP_RANK", "3")
    assert hosts.identity("10.0.0.1", True) == "torchrun 3"


def facts(world: World) -> tuple[int, int, int, bool]:
    return world.size, world.local_rank, world.local_size, world.one_host


def test_ranks_that_were_told_nothing_of_their_host(tmp_path: Path) -> None:
    job = by_hand(3, facts, tmp_path)
    assert job.values == [(3, rank, 3, True) for rank in range(3)], job.output


def test_two_hosts_are_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RANK and WORLD_SIZE alone, as PyTorchJob and Volcano set them: on one host a pod, or several."""
    monkeypatch.setattr(worlds, "identity", lambda *_: f"host {os.environ['RANK'] == '2'}")
    job = by_hand(3, facts, tmp_path)
    assert job.values == [(3, 0, 2, False), (3, 1, 2, False), (3, 0, 1, False)], job.output


def test_one_host_that_is_claimed_and_is_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "identity", lambda *_: os.environ["RANK"])
    job = by_hand(2, facts, tmp_path, LOCAL_WORLD_SIZE="2")
    assert job.codes == [2, 2]
    assert job.output.count(f"LOCAL_WORLD_SIZE=2: of 2 ranks, 1 are on this host ({socket.gethostname()})") == 2
