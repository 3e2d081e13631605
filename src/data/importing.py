"""python -m src.data import: what is converted from what, and the command that trains on it."""

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path

from src import files, schema
from src.data import arrays, class_folders, folders, image_folder, path_list, tables
from src.data.image_folder import SPLITS, BrokenPictures
from src.data.survey import Pictures
from src.errors import UserError

LISTS, ARRAYS, ROWS = (".csv", ".tsv"), (".npz",), (".parquet", ".arrow")


def run(source: Path, to: Path | None, settings: schema.Data, skip_broken: bool) -> str:
    """Convert `source` for data.root=`to`; returns the command that trains on it. Raises UserError."""
    if not files.exists(source):
        raise UserError(f"{source}: is not there", fix="name a folder of pictures, a .csv, a .npz or a .parquet file")
    kind = source.suffix.lower()
    is_pictures = source.is_dir() and not tables.files_of(source)
    if to is None and not is_pictures:
        raise UserError(f"{source}: where is it to be written?", fix="--to FOLDER, which is data.root= of the job")
    settings = dataclasses.replace(settings, name="folder", root=str(to or source))
    if kind in ARRAYS:
        settings = dataclasses.replace(settings, name="idx")
        has_test = arrays.write(source, Path(settings.root))
    elif is_pictures:
        has_test = _pictures(source, settings, skip_broken)
    elif kind in LISTS or kind in ROWS or source.is_dir():
        has_test = _table(source, settings, skip_broken)
    else:
        raise UserError(f"{source}: is no folder, .csv, .tsv, .npz, .parquet or .arrow file")
    return _command(settings, has_test)


def _pictures(source: Path, settings: schema.Data, skip_broken: bool) -> bool:
    """Convert class folders, in their place or elsewhere; returns whether there is a test set."""
    splits = SPLITS if files.exists(source / "test") else SPLITS[:1]
    while True:
        found = {split: image_folder.scan(settings, split, source, folders.say) for split in splits}
        try:
            image_folder.convert(settings, found, folders.say)
            return len(splits) > 1
        except BrokenPictures as broken:
            if not skip_broken:
                raise UserError(str(broken), fix="move it away, or leave all such out: --skip-broken") from None
            _leave_out(source, broken)


def _leave_out(source: Path, broken: BrokenPictures) -> None:
    """Add the broken pictures to left-out.txt, which every start obeys and says. Raises UserError."""
    pictures, file = broken.pictures, source / class_folders.LEFT_OUT
    assert isinstance(pictures, class_folders.Pictures)
    names = (f"{broken.split}/{pictures.names[index]}" for index in broken.reasons)
    lines = [f"{class_folders.written(name)}\n" for name in names]
    try:
        before = file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""
        before += "\n" if before and not before.endswith("\n") else ""
        with files.whole(file) as temporary:
            temporary.write_text(before + "".join(lines), encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({files.reason(error)})", fix=files.advice(error)) from None
    for index, reason in broken.reasons.items():
        folders.say(f"left out: {pictures.name(index)}: {reason}")


def _table(source: Path, settings: schema.Data, skip_broken: bool) -> bool:
    """Convert a list of paths and labels, or the rows of a table; returns whether there is a test set."""
    found: Mapping[str, Pictures]
    found = tables.rows(source) if source.is_dir() or source.suffix.lower() in ROWS else path_list.listed(source)
    while True:
        try:
            image_folder.convert(settings, found, folders.say)
            return "test" in found
        except BrokenPictures as broken:
            if not skip_broken:
                raise UserError(str(broken), fix="mend it, or leave all such out: --skip-broken") from None
            for index, reason in broken.reasons.items():
                folders.say(f"left out: {broken.pictures.name(index)}: {reason}")
            found = dict(found) | {broken.split: path_list.Without(broken.pictures, frozenset(broken.reasons))}


def _command(settings: schema.Data, has_test: bool) -> str:
    """The training's command line."""
    words = [f"data.name={settings.name}", f"data.root={settings.root}"]
    if settings.name == "folder" and settings.image_size:
        words.append(f"data.image_size={settings.image_size}")
    if not has_test:
        words.append("data.validation=0.1")
    return f"python -m src.train {shlex.join(words)}"
