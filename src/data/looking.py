"""The data set that a job would train on, without a file written: what is there, or what would be fetched or made."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from src import schema
from src.addresses import without_secrets
from src.data import dataset, download, image_folder, kinds, provision
from src.data.dataset import DataSet, Prepared
from src.data.splits import Split
from src.errors import UserError
from src.world.world import World

MIRROR_SECONDS = 3.0  # longest wait for the first byte of a mirror
MNIST_SIZES = 60_000, 10_000
# Training and test samples of data sets that are not here: what their authors and torchvision's pages say.
SIZES = dict.fromkeys(("mnist", "fashion_mnist", "kmnist", "digits", "emnist_mnist"), MNIST_SIZES) | {
    "emnist_letters": (124_800, 20_800),
    "emnist_balanced": (112_800, 18_800),
    "emnist_byclass": (697_932, 116_323),
    "emnist_bymerge": (697_932, 116_323),
    "emnist_digits": (240_000, 40_000),
}


@dataclass(frozen=True)
class Found:
    """What is on a node's disk: the files, or `lacking`, what a job would do about those that are missing."""

    prepared: Prepared
    lacking: str = ""


def look(settings: schema.Data, world: World, report: Callable[[str], None]) -> tuple[DataSet, str]:
    """(the data set, what a job would do first to have it): where it would do something, the samples are noise.

    Checksums that are not remembered are not computed: `checksums` lacks them. Called by all ranks; raises the
    UserErrors of `dataset.load`.
    """
    found = world.each_node_decides(lambda: _found(settings))
    lacking = next((node.lacking for node in found if node.lacking), "")
    first = found[0].prepared
    if not lacking:
        names = [name for name in first.checksums if all(name in node.prepared.checksums for node in found)]
        known = [
            replace(node.prepared, checksums={name: node.prepared.checksums[name] for name in names}) for node in found
        ]
        return dataset.mapped(settings, world, known, report), ""
    return _assumed(replace(settings, name=first.name), first.note), lacking


def is_checked(data: DataSet, settings: schema.Data) -> bool:
    """Whether all checksums of its files are known."""
    chosen = replace(settings, name=data.name)
    return len(data.checksums) == len(kinds.names_of(chosen, dataset.wanted_of(settings)))


def _found(settings: schema.Data, note: str = "") -> Found:
    wanted, here = dataset.wanted_of(settings), Prepared(settings.name, {}, note)
    if settings.name == "folder":
        splits = image_folder.SPLITS[:1] if wanted else image_folder.SPLITS
        ready, count = image_folder.state(settings, splits)
        if not ready:
            return Found(here, f"{count} pictures would be converted into {kinds.folder(settings)}")
    elif kinds.missing(settings, wanted):
        return _lacking(settings, here)
    files = kinds.names_of(settings, wanted)
    known = download.verify(kinds.folder(settings), files, dataset.pinned(settings), known=True)
    return Found(replace(here, checksums=known))


def _lacking(settings: schema.Data, here: Prepared) -> Found:
    """What a job would do where files are missing. Raises UserError where it could not train."""
    raw = kinds.folder(settings)
    if settings.name == kinds.rendered(settings):
        return Found(here, f"would be rendered into {raw}")
    if settings.name in ("idx", "text"):
        error: Exception | str = provision.absent(settings)
        if isinstance(error, UserError):
            raise error
    elif mirror := provision.answering(settings, MIRROR_SECONDS):
        return Found(here, f"would be fetched from {without_secrets(mirror)} into {raw}")
    else:
        error = "no mirror answers"
    name, note = dataset.instead(settings, str(error))
    return _found(replace(settings, name=name), note)


def _assumed(settings: schema.Data, note: str) -> DataSet:
    """As many samples of the kind as there will be, all of them the same noise: they take the memory of one."""
    spec = kinds.kind_of(settings).assumed(settings)
    sizes = _sizes(settings)
    train, test = (
        Split(
            _noise(spec.shape, spec.dtype, 256, size),
            _noise(spec.target_shape, spec.target_dtype, spec.classes or 256, size),
        )
        for size in sizes
    )
    has_test = not dataset.wanted_of(settings)
    return DataSet(name=settings.name, train=train, test=test, spec=spec, checksums={}, note=note, has_test=has_test)


def _noise(shape: tuple[int, ...], dtype: torch.dtype, below: int, size: int) -> Tensor:
    """(size, *shape), always the same."""
    one = torch.randint(0, below, (1, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    return one.expand(size, *shape)


def _sizes(settings: schema.Data) -> tuple[int, int]:
    """How many training and test samples there will be."""
    if settings.name == "folder":
        both = image_folder.state(settings, image_folder.SPLITS[: 1 if dataset.wanted_of(settings) else 2])[1]
        train = image_folder.state(settings, image_folder.SPLITS[:1])[1]
        return train, both - train or train
    if settings.name == "sums":
        from src.data import sums  # with numpy, which nothing else here needs

        train_text, test_text = (len(text) for text in sums.texts().values())
        return (train_text - 1) // settings.block, (test_text - 1) // settings.block
    return SIZES[settings.name]
