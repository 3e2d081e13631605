"""A list in the store that the ranks enter themselves in: one request reads it, however many ranks there are.

Asking the store for each rank in turn takes a request for each of them at every look, and a list that all ranks read
takes ranks x ranks bytes; so rank 0 reads the list, and answers each rank under a key of its own.
"""

from torch.distributed import Store  # type: ignore[attr-defined]  # noqa: TID251


def enter(store: Store, key: str, rank: int, word: str = "-") -> None:
    """Add a line to the list under `key`; `word` has no spaces."""
    store.append(key, f"{rank} {word}\n")  # type: ignore[attr-defined]


def entered(store: Store, key: str) -> dict[int, str]:
    """The last word of each rank that has entered itself; does not wait."""
    lines = store.get(key).decode().splitlines() if store.check([key]) else []
    return {int(rank): word for rank, word in map(str.split, lines)}


def missing(store: Store, key: str, size: int) -> list[int]:
    """Of the ranks above 0 those that have not entered themselves."""
    present = entered(store, key)
    return [rank for rank in range(1, size) if rank not in present]
