"""The rehearsal: two real ranks add gradients as the job will."""

import os
import subprocess
import time
from pathlib import Path

import pytest
import torch

from src import config, interrupts
from src.doctor import rehearsal
from src.doctor.findings import Plan
from src.world.world import World
from tests.helpers.plans import planned
from tests.helpers.ranks import fork


@pytest.mark.parametrize(
    ("settings", "nodes", "way"),
    [
        ((), (), "DDP, shared memory"),
        pytest.param(("train.sync=bitwise",), (), "bitwise, shared memory", marks=pytest.mark.slow(seconds=5)),
        pytest.param((), ("other",), "DDP, gloo", marks=pytest.mark.slow(seconds=5)),
    ],
)
def test_two_ranks_add(
    settings: tuple[str, ...], nodes: tuple[str, ...], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")  # the doctor inside a job
    found = rehearsal.all_reduce(planned("train.device=cpu", *settings, ranks=2, nodes=nodes))
    assert found.colour == "green", found
    assert found.message.startswith("2 ranks add 7,850 numbers in ")
    assert found.message.endswith(way)


def test_the_sums_of_a_job_on_gpus_are_tried_without_one() -> None:
    settings = config.parse(["train.cuda_graph=true", "train.sync=bitwise"])
    assert rehearsal.rehearse(settings, World())["right"]


def test_ranks_that_fail_say_why() -> None:
    if torch.cuda.is_available():
        pytest.skip("GPUs here")
    found = rehearsal.all_reduce(planned("train.device=cuda"))
    assert found.colour == "red"
    assert "train.device=cuda: 2 ranks on this host, 0 GPUs" in found.message


def test_ranks_that_do_not_answer_in_time_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []
    start = rehearsal._start

    def note(plan: Plan) -> "subprocess.Popen[str]":
        started.append(start(plan))
        return started[-1]

    monkeypatch.setattr(rehearsal, "_start", note)
    assert rehearsal.all_reduce(planned(seconds=1.1)).message.startswith("2 ranks did not add within 1 s")
    assert [process.returncode for process in started] == [-9]


def test_more_ranks_than_shards_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"train.shards=8: 9 ranks cannot share them"):
        rehearsal.all_reduce(planned("train.sync=bitwise", ranks=3, nodes=("b", "c")))


def test_a_rank_that_fails_ends_the_one_that_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "GRACE_SECONDS", 1)

    def rank() -> None:
        if os.environ["RANK"] == "1":
            raise SystemExit(1)
        interrupts.exit_on_signal(with_parent=True)
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)

    monkeypatch.setattr(rehearsal, "rank", rank)
    job = fork(1, rehearsal.main, tmp_path)
    assert job.codes[0] not in (0, 1), job.output
    waiting = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    while waiting.exists() and waiting.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
