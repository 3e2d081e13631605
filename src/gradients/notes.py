"""What each rank tells the others now and then, beside a step's gradients: NUMBERS numbers, which nobody adds.

Gradients are added, so each rank has a place of its own: a row in shared memory, or numbers behind the gradients, to
which the others add zeros. A note has neither a message nor a meeting of its own. The numbers behind the gradients are
there in every step: an all-reduce adds in an order that depends on the length, and when a note is given must not
change a bit of a gradient.
"""

from collections.abc import Sequence

DIGEST = 4  # numbers: a digest of 64 bits in parts of 16, which float32 holds exactly
SECONDS = 4
NUMBERS = DIGEST + SECONDS


class Board:
    """Rows in memory that all ranks see: `numbers` are 2 sides x ranks x NUMBERS doubles.

    Between `write` and `read` the ranks meet. Notes use the two sides alternately: a rank that writes a side again has
    met all others for the note between, which they begin only when they have read that side.
    """

    def __init__(self, rank: int, ranks: int, numbers: "memoryview[float]") -> None:
        self._rank, self._ranks, self._numbers = rank, ranks, numbers
        self._notes = 0

    def write(self, note: Sequence[float]) -> None:
        """Leave this rank's note, before the meeting."""
        self._notes += 1
        start = self._side() + self._rank * NUMBERS
        for at, value in enumerate(note, start):
            self._numbers[at] = value

    def read(self) -> list[list[float]]:
        """The notes of all ranks, after it."""
        starts = range(self._side(), self._side() + self._ranks * NUMBERS, NUMBERS)
        return [list(self._numbers[start : start + NUMBERS]) for start in starts]

    def _side(self) -> int:
        return (self._notes & 1) * self._ranks * NUMBERS


def size(ranks: int) -> int:
    """Bytes of a board."""
    return 2 * ranks * NUMBERS * 8
