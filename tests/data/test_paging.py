"""Files larger than memory are read page by page; what memory is, and that samples stay the same."""

import mmap
from pathlib import Path

import pytest
import torch

from src import resources, schema
from src.data import idx, paging
from src.data.column import Column
from src.data.loader import ShardedLoader
from src.data.splits import Split
from tests.helpers.data_sets import write_idx


def flags(tensor: torch.Tensor) -> list[str]:
    """The system's flags of the mapping that holds the tensor."""
    found: list[str] = []
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, rest = line.partition(" ")
        if "-" in first and not first.endswith(":"):
            begin, end = (int(part, 16) for part in first.split("-"))
            inside = begin <= tensor.data_ptr() < end
        elif inside and first == "VmFlags:":
            found = rest.split()
    return found


@pytest.mark.parametrize(("memory", "shuffle"), [(0, "full"), (0, "blocks"), (2**40, "full")])
def test_pages_are_read_alone_where_memory_is_less(
    memory: int, shuffle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "memory_bytes", lambda: memory)
    values = torch.randint(0, 256, (1000, 20, 20), dtype=torch.uint8)
    write_idx(tmp_path / "x", values)
    mapped = idx.read(tmp_path / "x")
    split = Split(mapped, torch.zeros(1000, dtype=torch.int64))
    loader = ShardedLoader(split, schema.Train(), range(1), 1, torch.device("cpu"), shuffle=shuffle)
    assert ("rr" in flags(mapped[:])) == (memory == 0)
    seen = torch.cat([batch.inputs for (batch,) in loader.epoch(0)])
    assert torch.equal(seen.sum((1, 2)).sort().values, values.sum((1, 2)).sort().values)


def test_each_piece_is_advised(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("x", "y")]
    for file in files:
        write_idx(file, torch.zeros(2 * mmap.PAGESIZE, 2))
    pieces = [idx.read(file) for file in files]
    assert all(isinstance(piece, Column) for piece in pieces)
    for piece in pieces:
        paging.read_alone(piece)
        assert "rr" in flags(piece.pieces[0])  # type: ignore[union-attr]


def test_each_block_is_asked_for_once_before_its_samples_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "BLOCK_BYTES", 100)
    asked: list[tuple[int, int]] = []
    values = torch.zeros(105, 10, dtype=torch.uint8)
    start = values.data_ptr()
    monkeypatch.setattr(paging, "_advise", lambda address, size, advice: asked.append((address - start, size)))
    reader = paging.BlockReader(values)
    reader.read(torch.tensor([3, 9, 0]))
    reader.read(torch.tensor([5, 104, 10]))
    assert asked[0] == (0, 100)
    assert sorted(asked[1:]) == [(100, 100), (1000, 50)], "the last block ends with the file"
    paging.BlockReader(Column([values, values])).read(torch.tensor([3]))
    assert len(asked) == 3
