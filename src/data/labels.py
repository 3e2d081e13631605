"""Labels as a file stores them, whole numbers of any kind, and the classes 0..C-1 that a model is trained on."""

from pathlib import Path

import torch
from torch import Tensor

from src.data.column import Column, Rows
from src.data.order import LISTED
from src.errors import UserError

AT_ONCE = 1 << 20  # labels that are looked at at once
COUNTED = 1 << 16  # numbers of this range are counted, which is quicker than sorting
FEW_CLASSES = 1000  # so many may have a single sample each
LISTED_NAMES = 10  # labels that a line names


def are_classes(targets: Rows) -> bool:
    """Whether targets are classes: a single whole number for each sample."""
    return targets.dim() == 1 and not targets.is_floating_point()


def distinct(labels: Rows) -> Tensor:
    """The labels that occur, sorted, int64."""
    found = torch.empty(0, dtype=torch.int64)
    for start in range(0, len(labels), AT_ONCE):
        part = labels[start : start + AT_ONCE].long()
        lowest, highest = (int(end) for end in part.aminmax())
        if highest - lowest < COUNTED:
            here = torch.bincount(part - lowest).nonzero().flatten() + lowest
        else:
            here = torch.unique(part)
        found = torch.unique(torch.cat([found, here]))
    return found


def names_of(file: Path, labels: Rows) -> tuple[int, tuple[str, ...]]:
    """(number of classes, their names: the labels as they are stored); no names where these are 0..C-1.

    Raises UserError where the numbers are no classes.
    """
    known = distinct(labels)
    count = len(known)
    if count > max(FEW_CLASSES, len(labels) // 2):
        raise UserError(
            f"{file}: {count:,} different whole numbers for {len(labels):,} samples are no classes",
            fix="write targets that are quantities as float32",
        )
    if int(known[0]) == 0 and int(known[-1]) == count - 1:
        return count, ()
    return count, tuple(map(str, known.tolist()))


def numbers_of(names: tuple[str, ...]) -> Tensor | None:
    """The stored labels of classes with these names, int64; None where labels are the classes' numbers."""
    try:
        return torch.tensor([int(name) for name in names]) if names else None
    except ValueError:  # words: of a data set of another kind
        return None


def classes_of(labels: Rows, known: Tensor | None) -> Rows:
    """Each label's class, (n,) int64: its place among the `known` ones, which hold it.

    Those of many samples are looked up where they are taken.
    """
    if known is None:
        column = labels.then(Tensor.long) if isinstance(labels, Column) else Column([labels], Tensor.long)
    else:
        ordered, places = known.sort()
        column = Column([labels]) if isinstance(labels, Tensor) else labels
        column = column.then(lambda rows: places[torch.searchsorted(ordered, rows.long())])
    return column[:] if len(column) <= LISTED else column


def renumbered(classes: Rows, places: Tensor) -> Rows:
    """Classes (n,) int64 by other numbers: `places` (C,) int64 of each."""
    return places[classes] if isinstance(classes, Tensor) else classes.then(lambda rows: places[rows])


def refuse_unknown(file: Path, labels: Rows, known: Tensor) -> None:
    """Raise UserError for a test label that no training sample has."""
    missing = [label for label in distinct(labels).tolist() if label not in {*known.tolist()}]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{file}: holds the label {missing[0]}{more}",
            fix=f"the training labels are {listed(tuple(map(str, known.tolist())))}: a model learns those alone",
        )


def listed(names: tuple[str, ...]) -> str:
    """Labels for people: 1..26, or 0, 2, 5, or 0, 2, 5, ..., 900."""
    first, last = int(names[0]), int(names[-1])
    if last - first == len(names) - 1 and len(names) > 1:
        return f"{first}..{last}"
    if len(names) <= LISTED_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:3])}, ..., {names[-1]}"


def mapping(names: tuple[str, ...]) -> str:
    """The line that says how labels are mapped; '' where they are not."""
    if numbers_of(names) is None:
        return ""
    return f"labels {listed(names)} are trained as classes 0..{len(names) - 1}"
