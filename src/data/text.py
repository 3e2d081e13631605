"""Text as bytes: files cut in blocks, each byte with the byte that follows as its target.

A text is one file, train.txt, or a folder train/ of .txt files: documents, in the order of their names. A block lies
in one file.
"""

from pathlib import Path

import torch
from torch import Tensor

from src import files, schema
from src.data import folders
from src.data.column import Column, Rows
from src.data.splits import Spec, Split, check_test
from src.errors import UserError

TRAIN: tuple[str, ...] = ("train.txt",)
TEST: tuple[str, ...] = ("test.txt",)
FILES = TRAIN + TEST


def train(folder: Path, settings: schema.Data) -> tuple[Split, Spec]:
    """The training text in blocks of data.block bytes. Raises UserError where it is too short."""
    return split_of(folder, TRAIN[0], settings.block), assumed(settings)


def test(folder: Path, settings: schema.Data, spec: Spec) -> Split:
    """The test text in blocks as long as the model's. Raises UserError where it is too short."""
    split = split_of(folder, TEST[0], settings.block)
    check_test(folder, split, spec, TEST[0])
    return split


def assumed(settings: schema.Data) -> Spec:
    """What a model must know; nothing of it depends on the text."""
    return Spec((settings.block,), torch.uint8, 0, (settings.block,), torch.uint8)


def documents(folder: Path, name: str) -> tuple[str, ...]:
    """The files of the text that is called `name`, relative to `folder`: itself, or the documents in its folder.

    Raises UserError where both are there, or the folder holds no document.
    """
    many = folder / name.removesuffix(".txt")
    with folders.reading(many):
        if not many.is_dir():
            return (name,)
        if files.exists(folder / name):
            raise UserError(f"{folder}: holds both {name} and the folder {many.name}", fix="move one of them away")
        found = sorted(path.relative_to(folder).as_posix() for path in many.glob("*.txt") if path.is_file())
        others = [path.name for path in many.iterdir() if path.is_dir()]
    if others:
        raise UserError(f"{many / others[0]}: is a folder in a text's folder", fix=f"put its files into {many} itself")
    if not found:
        raise UserError(f"{many}: holds no .txt file", fix="put the documents there, or one text beside it")
    return tuple(found)


def split_of(folder: Path, name: str, block: int) -> Split:
    """Inputs and targets (n, block) uint8, two views of the mapped files, the second a byte further.

    The last bytes of a file that fill no block are left out. Raises UserError for a text of no block and a byte.
    """
    names, inputs, targets = documents(folder, name), [], []
    for document in names:
        with folders.reading(folder / document):
            if text := _mapped(folder / document, block):
                inputs.append(text[0])
                targets.append(text[1])
    if not inputs:
        _refuse_short(folder, names, block)
    return Split(_joined(inputs), _joined(targets))


def notes(folder: Path, block: int) -> list[str]:
    """A line for each text with documents that are shorter than a block and a byte, and give no sample."""
    lines = []
    for name in FILES:
        names = documents(folder, name)
        short = [document for document in names if (folder / document).stat().st_size <= block]
        if short:
            lines.append(
                f"{folder / short[0]}{f' and {len(short) - 1} more' if short[1:] else ''}: left out, "
                f"shorter than data.block={block} and a byte"
            )
    return lines


def _mapped(file: Path, block: int) -> tuple[Tensor, Tensor] | None:
    size = file.stat().st_size
    if (count := (size - 1) // block) < 1:
        return None
    text = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)
    return text[: count * block].view(count, block), text[1 : count * block + 1].view(count, block)


def _joined(pieces: list[Tensor]) -> Rows:
    return pieces[0] if len(pieces) == 1 else Column(pieces)


def _refuse_short(folder: Path, names: tuple[str, ...], block: int) -> None:
    size = max((folder / name).stat().st_size for name in names)
    where = folder / names[0] if len(names) == 1 else f"{(folder / names[0]).parent}: the longest of {len(names)} files"
    raise UserError(
        f"{where}{':' if len(names) == 1 else ''} is {size} bytes long, data.block={block} needs {block + 1} at least",
        fix="take a longer text, or a smaller data.block=" if size > 1 else "take a longer text",
    )
