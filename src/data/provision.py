"""Where the files of a data set come from: rendered here, fetched from mirrors, or put there by the user."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from src import schema
from src.addresses import without_secrets
from src.data import download, emnist, folders, idx, text
from src.data.kinds import FOLDERS, folder, kind_of, missing, rendered
from src.errors import Unreachable, UserError


def answering(settings: schema.Data, seconds: float) -> str:
    """The mirror that would be fetched from, '' if none answers. Takes a byte from it, and no more."""
    if settings.name in emnist.KINDS:
        packed, mirrors = emnist.ARCHIVE, emnist.MIRRORS
    else:
        source = _source(settings.name)
        packed, mirrors = source.resources[0][0], source.mirrors
    asked = [str(folder(settings)), *settings.mirrors, *mirrors]
    return next((mirror for mirror in asked if download.answers(mirror, packed, seconds)), "")


def provide(settings: schema.Data, report: Callable[[str], None]) -> None:
    """Render or fetch the files. Raises Unreachable with the reason where that is not possible, and UserError."""
    raw = folder(settings)
    if settings.name == rendered(settings):
        report(f"rendering the embedded {settings.name} into {raw}")
        renderer(settings.name).write(raw)
    elif settings.name in ("idx", "text"):
        raise absent(settings)
    else:
        try:
            _fetch(settings, lambda line: report(without_secrets(line)))
        except Unreachable as error:
            raise Unreachable(f"no mirror answers ({error})") from None


def absent(settings: schema.Data) -> UserError | Unreachable:
    """What is wrong where files that a user brings are missing."""
    raw = folder(settings)
    if settings.name == "idx":
        hint = folders.misplaced(raw, idx.FILES)
        return UserError(f"data.name=idx: put your files into {raw}: {', '.join(missing(settings))}", fix=hint)
    if there := {*text.FILES} - {*missing(settings)}:
        return UserError(f"data.name=text: {raw} holds {', '.join(there)} alone", fix=how_to(settings))
    hint = folders.misplaced(raw, text.FILES, levels=1)
    return Unreachable(f"{raw} holds no {' and no '.join(text.FILES)}" + (f"; {hint}" if hint else ""))


def _fetch(settings: schema.Data, report: Callable[[str], None]) -> None:
    if kind := emnist.KINDS.get(settings.name):
        mirrors = [*settings.mirrors, *emnist.MIRRORS]
        download.fetch_archive(folder(settings), emnist.ARCHIVE, emnist.MD5, kind.members, mirrors, report)
    else:
        source = _source(settings.name)
        download.fetch(folder(settings), source.resources, settings.mirrors + list(source.mirrors), report)


def renderer(name: str) -> Any:
    """The module that renders a data set: numpy and Pillow, which nothing else here needs, come with it."""
    from src.data import digits, sums

    return digits if name == "digits" else sums


def _source(name: str) -> Any:
    """torchvision's class: it names the files, their checksums and its mirrors. Takes 0.8 s to import."""
    from torchvision import datasets  # noqa: TID251

    return getattr(datasets, Path(FOLDERS[name]).parts[0])


def how_to(settings: schema.Data) -> str:
    """What to do where the files of a data set can be had nowhere."""
    files, raw = ", ".join(kind_of(settings).FILES), folder(settings)
    if settings.name == "text":
        return f"put {files} into {raw}; or train on rendered sums: data.name=sums"
    packed = emnist.ARCHIVE if settings.name in emnist.KINDS else "the .gz files"
    return (
        f"put {files} into {raw}, or name a folder or URL with {packed}: data.mirrors=[...]; "
        "or train on rendered digits: data.name=digits"
    )
