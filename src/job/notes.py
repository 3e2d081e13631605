"""What the ranks tell each other beside a step: a digest of their weights, and where their time went."""

from collections.abc import Callable

import torch
from torch import Tensor

from src.clock import Clock, Slow
from src.gradients.notes import DIGEST
from src.replicas import LastSaved, Replicas
from src.run.progress import Progress
from src.world.world import World, hosts


class Notes:
    """With each line of metrics.jsonl a rank gives a note, and reads those of all ranks."""

    def __init__(
        self,
        world: World,
        replicas: Replicas,
        clock: Clock,
        slow: Slow,
        last_saved: LastSaved,
        warn: Callable[[str], None],
    ) -> None:
        self._world, self._replicas, self._clock, self._slow = world, replicas, clock, slow
        self._last_saved, self._warn = last_saved, warn

    def own(self) -> Tensor:
        """This rank's: (NUMBERS,) of src.gradients.notes."""
        digest = self._replicas.digest()
        return torch.cat([digest, torch.tensor(self._clock.take(), dtype=digest.dtype).to(digest.device)])

    def read(self, notes: list[list[float]] | Tensor, progress: Progress) -> list[list[float]]:
        """The seconds of all ranks; JobFailed for a rank whose weights differ, a line for one that is slow."""
        rows = notes.tolist() if isinstance(notes, Tensor) else notes
        self._replicas.check([row[:DIGEST] for row in rows], progress.step - 1, self._last_saved)
        seconds = [row[DIGEST:] for row in rows]
        slow = self._slow.new([row[0] for row in seconds], progress.epoch)
        for rank, times in slow.items():
            self._warn(f"rank {rank} on {hosts(self._world)[rank]} computes {times:.1f} x the median")
        return seconds
