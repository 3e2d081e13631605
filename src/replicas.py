"""The ranks' copies of what is trained, held against each other: one that differs is named, and the job ends."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from src import files
from src.errors import JobFailed
from src.gradients.digest import digest
from src.gradients.notes import DIGEST
from src.run.provenance import device_name
from src.world.world import World, hosts

NAMED = 4  # ranks in one line
CAUSE = "a memory fault, or code that changes them on one rank"
LastSaved = Callable[[], int | None]  # asked on rank 0: the step of the newest checkpoint that is written


class Replicas:
    """The tensors that must have the same bits on all ranks after each step: parameters, buffers and averages.

    A step's buffers are agreed on with its gradients (src.gradients.buffers), so they are among them.
    Ranks on different processors may differ in the last bits, which is a warning.
    """

    def __init__(self, world: World, module: nn.Module, average: nn.Module | None, warn: Callable[[str], None]) -> None:
        self._world, self._warn_once = world, files.once(warn)
        modules = [module] if average is None else [module, average]
        self._tensors = [one for part in modules for one in (*part.parameters(), *part.buffers()) if one.numel()]
        self._alone, self._checked_step = torch.zeros(DIGEST, dtype=torch.float64), -1

    def digest(self) -> Tensor:
        """That of this rank, as it travels beside the gradients; zeros where there is nobody to differ from."""
        return digest(self._tensors) if self._world.size > 1 else self._alone

    def check(self, digests: Sequence[Sequence[float]], step: int, last_saved: LastSaved) -> None:
        """Compare those of all ranks, from after `step` steps. Called by all ranks; JobFailed names who differs."""
        seen = [tuple(one) for one in digests]
        if seen.count(seen[0]) == len(seen):
            return
        processors = sorted({*self._world.all_gather(device_name(self._world.device))})
        if len(processors) > 1:  # each computes its own last bits, and no memory is at fault
            self._warn_once(
                f"the ranks' weights differ: their processors do ({_listed(processors)}); rank 0's are saved"
            )
            return
        places = [f"{rank} on {host}" for rank, host in enumerate(hosts(self._world))]
        saved = self._world.rank0_decides(last_saved)
        good = f"the checkpoint of step {saved} is the last good one" if saved else "nothing is saved yet"
        raise JobFailed(f"{_who(seen, places)} at step {step} ({CAUSE}); {good}")

    def check_now(self, step: int, last_saved: LastSaved) -> None:
        """The same before a checkpoint is made, with a message of its own: a fault since the last line is not saved."""
        if self._world.size > 1 and self._checked_step != step:
            self.check(self._world.all_gather_numbers(self.digest()), step, last_saved)
            self._checked_step = step


def _who(digests: list[tuple[float, ...]], places: list[str]) -> str:
    """Who differs from the majority; all of them where there is none."""
    usual, number = Counter(digests).most_common(1)[0]
    if 2 * number <= len(digests):
        return f"ranks {_listed(places)}: their weights differ from one another"
    others = [place for one, place in zip(digests, places, strict=True) if one != usual]
    if len(others) == 1:
        return f"rank {others[0]}: its weights differ from those of the other ranks"
    return f"ranks {_listed(others)}: their weights differ from those of the other ranks"


def _listed(places: list[str]) -> str:
    more = len(places) - NAMED
    return ", ".join(places[:NAMED]) + (f" and {more} more" if more > 0 else "")
