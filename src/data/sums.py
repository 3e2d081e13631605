"""The embedded text: lines of sums such as 37+45=82, the same bytes on every machine.

The pairs of numbers are dealt once: those of the test text are in the training text in neither order. All random
numbers are the raw words of PCG64, which numpy keeps stable (its distributions it does not).
"""

from pathlib import Path

import numpy as np

from src import files
from src.data import folders

SHA256 = {
    "train.txt": "8570c4d8660309769669443787bc32957c06ae49663bfff5f7324eee3373cb8b",
    "test.txt": "2064e136dbb6711aed021d7be8271e4dd110fcd18f79341be3089ebf67008359",
}
SEED = 1998
NUMBERS = range(10, 100)  # of two digits: sums of one digit would be rare, and learnt last
TEST_PAIRS = 500  # of 4,095 pairs
ROUNDS = 8  # the training text has each of its sums so often, each time in another order

Pairs = list[tuple[int, int]]


def write(folder: Path) -> None:
    """Render both texts, each whole under its name or not there.

    One process at a time does it, also where several nodes share the folder; a file that is there is never
    touched. Raises UserError where the folder cannot be written.
    """
    with folders.writing(folder), folders.alone(folder, folders.say) as shared:
        for name, text in texts().items():
            if not (folder / name).exists():
                with files.whole(folder / name, shared) as temporary:
                    temporary.write_text(text, encoding="utf-8")


def texts() -> dict[str, str]:
    """The content of each file."""
    random = np.random.PCG64(SEED)  # one stream: the deal, the training text, the test text
    pairs = _shuffled(random, [(a, b) for a in NUMBERS for b in NUMBERS if a <= b])
    train, test = (_both_orders(chosen) for chosen in (pairs[TEST_PAIRS:], pairs[:TEST_PAIRS]))
    return {
        "train.txt": "".join(_lines(_shuffled(random, train)) for _ in range(ROUNDS)),
        "test.txt": _lines(_shuffled(random, test)),
    }


def _both_orders(pairs: Pairs) -> Pairs:
    return pairs + [(b, a) for a, b in pairs if a != b]


def _shuffled(random: np.random.PCG64, pairs: Pairs) -> Pairs:
    return [pairs[at] for at in np.argsort(random.random_raw(len(pairs)), kind="stable")]


def _lines(pairs: Pairs) -> str:
    return "".join(f"{a}+{b}={a + b}\n" for a, b in pairs)
