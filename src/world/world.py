"""World: who am I among the ranks, on which device, and how do we agree. The only room that reads RANK."""

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist  # noqa: TID251
from torch.distributed.elastic.multiprocessing.errors import record as record  # noqa: TID251

from src.errors import JobFailed, UserError
from src.schema import Train
from src.world.rendezvous import open_store

T = TypeVar("T")

ASK_AGAIN_SECONDS = 0.5  # how long the others wait for a decision before they ask whether it is still coming


@dataclass(frozen=True)
class World:
    """All ranks of the job, seen from one of them.

    `backend` is "none" for a world of one, else "gloo" (CPU) or "nccl" (GPU; what is agreed between hosts
    still goes over gloo).
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1
    device: torch.device = torch.device("cpu")
    backend: str = "none"
    note: str = ""

    @property
    def one_host(self) -> bool:
        """Whether all ranks share this machine."""
        return self.size == self.local_size

    def gather(self, value: T) -> list[T]:
        """Every rank's `value`, in rank order, on every rank. Any picklable value."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def first_decides(self, decide: Callable[[], T]) -> T:
        """Run `decide` on rank 0 alone; every rank gets its result, or its UserError."""
        if self.size == 1:
            return decide()
        answer = [_answer(decide) if self.rank == 0 else None]
        dist.broadcast_object_list(answer, src=0)
        return cast(T, _results(answer)[0])

    def each_node_decides(self, decide: Callable[[], T]) -> list[T]:
        """Run `decide` on the first rank of every node; each rank gets all results, or the first UserError.

        It may take longer than the collectives' timeout (a download): the ranks meet again and again.
        """
        if self.size == 1:
            return [decide()]
        with ThreadPoolExecutor(1) as aside:
            future = aside.submit(_answer, decide) if self.local_rank == 0 else None
            while True:
                wait([future] if future else [], ASK_AGAIN_SECONDS)
                answers = self.gather((future is not None, future.result() if future and future.done() else None))
                if all(answer for decides, answer in answers if decides):
                    return cast(list[T], _results([answer for _, answer in answers]))

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; the same answer on all."""
        return any(self.gather(flag))

    def broadcast(self, tensor: torch.Tensor) -> None:
        """Overwrite the tensor (any shape, on CPU or on the device) with rank 0's."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.gather(None)


@dataclass(frozen=True)
class _Answer:
    """What a deciding rank tells the others."""

    result: object = None
    mistake: UserError | None = None


def _answer(decide: Callable[[], object]) -> _Answer:
    try:
        return _Answer(result=decide())
    except UserError as error:
        return _Answer(mistake=error)


def _results(answers: list[_Answer | None]) -> list[object]:
    """What was decided; raises the first UserError. None stands for a rank that does not decide."""
    given = [answer for answer in answers if answer is not None]
    for answer in given:
        if answer.mistake is not None:
            raise answer.mistake
    return [answer.result for answer in given]


def is_first() -> bool:
    """Whether this process is rank 0, asked before the ranks have met (of its environment alone).

    In an impossible environment it is: nobody else would say so.
    """
    try:
        return _environment()[0] == 0
    except UserError:
        return True


@contextmanager
def join(settings: Train) -> Iterator[World]:
    """Meet the other ranks, and part from them once. Raises UserError for an impossible environment."""
    torch.set_num_threads(settings.threads)
    rank, size, local_rank, local_size = _environment()
    device, note = _device(settings.device, local_rank, local_size)
    if size == 1:
        yield World(device=device, note=note)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    world = World(rank, local_rank, size, local_size, device, backend, note)
    if world.one_host:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo looks the host's name up, for minutes
    timeout = timedelta(seconds=settings.timeout_seconds)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if backend == "nccl" else "gloo",
        store=open_store(rank, size, world.one_host, timeout),
        rank=rank,
        world_size=size,
        timeout=timeout,
        device_id=device if backend == "nccl" else None,
    )
    try:
        yield world
    except RuntimeError as error:
        if "/gloo/" not in str(error):
            raise
        reason = str(error).partition("] ")[2].partition(". ")[0]  # without gloo's source line and its advice
        raise JobFailed(f"rank {rank} lost another one, which failed before it: {reason}") from None
    # Only after a good end: a rank that failed must not wait here for the others.
    dist.destroy_process_group()


def hosts(world: World) -> list[str]:
    """The host name of every rank, in rank order."""
    return world.gather(socket.gethostname())


def backends() -> dict[str, str]:
    """The backends that this torch was built with, and the version of those that have one of their own."""
    found = {"gloo": ""} if dist.is_gloo_available() else {}
    if dist.is_nccl_available():
        found["nccl"] = ".".join(str(part) for part in torch.cuda.nccl.version())  # type: ignore[no-untyped-call]
    return found


def _environment() -> tuple[int, int, int, int]:
    """(rank, world size, local rank, local world size), from torchrun's variables or for a world of one."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    given = {name: os.environ[name] for name in names if name in os.environ}
    if not given:
        return 0, 1, 0, 1
    if "RANK" not in given or "WORLD_SIZE" not in given:
        missing = "WORLD_SIZE" if "RANK" in given else "RANK"
        found = " ".join(f"{name}={value}" for name, value in given.items())
        raise UserError(f"{found}: set, but {missing} is not", fix="start with torchrun, or unset them for one process")
    for name, value in given.items():
        if not value.isdigit():
            raise UserError(f"{name}={value}: must be a whole number")
    rank, size = int(given["RANK"]), int(given["WORLD_SIZE"])
    if rank >= size:
        raise UserError(f"RANK={rank} WORLD_SIZE={size}: the rank must be below the world size")
    local_rank, local_size = int(given.get("LOCAL_RANK", rank)), int(given.get("LOCAL_WORLD_SIZE", size))
    return rank, size, local_rank, local_size


def _device(wanted: str, local_rank: int, local_size: int) -> tuple[torch.device, str]:
    """The device of this rank, and a note where it is not what one would expect."""
    gpus = torch.cuda.device_count() if wanted != "cpu" else 0
    if gpus >= local_size:
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank), ""
    if wanted == "cuda":
        raise UserError(
            f"train.device=cuda: {local_size} ranks on this host, {gpus} GPUs",
            fix=f"{f'start {gpus} ranks' if gpus else 'use train.device=cpu'}",
        )
    note = f"{local_size} ranks but only {gpus} GPU(s): training on CPU" if gpus else ""
    return torch.device("cpu"), note
