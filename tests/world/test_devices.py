"""On what the ranks compute: the same kind of device on all of them."""

import pytest
import torch

from src.errors import UserError
from src.world.devices import choose, visible_gpus
from src.world.hosts import Peer


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)


def peers(*hosts: str) -> list[Peer]:
    """Ranks of hosts such as a:01, which is the host a, seen from a rank that sees its GPUs 0 and 1."""
    return [Peer(host[0], host[0], "", tuple(host[2:])) for host in hosts]


@pytest.mark.parametrize(
    ("hosts", "numbers"),
    [
        (("a:01", "a:01"), (0, 1)),
        (("a:01", "b:01"), (0, 0)),
        (("a:0", "a:1"), (0, 0)),  # srun --gpus-per-task=1: each sees its own GPU as its first
        (("a:01", "a:01", "a:23", "a:23"), (0, 1, 0, 1)),
        (("a:01", "b:2", "a:01"), (0, 0, 1)),
    ],
)
def test_a_gpu_for_each_rank(hosts: tuple[str, ...], numbers: tuple[int, ...]) -> None:
    found = [choose("auto", rank, peers(*hosts)) for rank in range(len(hosts))]
    assert found == [(torch.device("cuda", number), "") for number in numbers]


@pytest.mark.parametrize(
    ("hosts", "note"),
    [
        (("a:", "a:"), ""),
        (("a:0", "a:0"), "2 ranks but only 1 GPU(s): training on CPU"),
        (("a:0", "b:"), "b: 1 ranks but only 0 GPU(s): training on CPU"),
        (("a:01", "a:1"), "2 ranks but only 2 GPU(s): training on CPU"),  # who takes which?
    ],
)
def test_all_ranks_train_on_the_cpu_if_one_must(hosts: tuple[str, ...], note: str) -> None:
    assert choose("auto", 0, peers(*hosts)) == (torch.device("cpu"), note)
    assert choose("auto", len(hosts) - 1, peers(*hosts))[0] == torch.device("cpu")
    assert choose("cpu", 0, peers(*hosts)) == (torch.device("cpu"), "")


def test_cuda_that_is_not_there_is_an_error_on_all_ranks() -> None:
    for rank, where in ((0, "b"), (1, "this host")):
        with pytest.raises(UserError, match=rf"train.device=cuda: 1 ranks on {where}, 0 GPUs; use train.device=cpu"):
            choose("cuda", rank, peers("a:0", "b:"))
    with pytest.raises(UserError, match=r"2 ranks on this host, 1 GPUs; start 1 ranks"):
        choose("cuda", 0, peers("a:0", "a:0"))


def test_the_names_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: type("P", (), {"uuid": f"GPU-{number}"}))
    assert visible_gpus("auto", named=False) == ("0", "1")
    assert visible_gpus("auto", named=True) == ("GPU-0", "GPU-1")
    assert visible_gpus("cpu", named=True) == ()
