"""Checks of storage: the data set, the run's directory, free space."""

import errno
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from src import files, flock, schema
from src.addresses import without_secrets
from src.data import dataset as data
from src.data import image_folder, kinds, provision
from src.doctor.findings import Finding, Plan, green, red, yellow
from src.doctor.model_size import parameters
from src.flock import NoLocks
from src.run import archive, layout
from src.run.layout import State
from src.run.lock import holder
from src.run.run import Run
from src.run.store import Store
from src.world.world import World

MIRROR_SECONDS = 3.0  # for the first byte of one mirror
DATA_BYTES = 70_000_000  # of pictures: the four files, and one of them packed beside them
SPARE_BYTES = 20_000_000  # metrics, report, W&B's offline files
PLENTY_BYTES = 1_000_000_000
SLOW_SECONDS = 1.0  # for a checkpoint, which needs three fsync calls
# In another process: NFS turns flock into a lock of the process, which two handles of one process do not conflict in.
TRY_LOCK = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def existing(path: Path) -> Path:
    """The path, or the nearest parent folder that exists."""
    path = path.absolute()
    return next((folder for folder in (path, *path.parents) if files.exists(folder)), Path("/"))


def in_the_way(path: Path) -> str:
    """Why the folder cannot be made, '' if it is there or can be: a link to nothing, or a file, on its path."""
    path = path.absolute()
    return next(filter(None, map(files.in_the_way, (path, *path.parents))), "")


def dataset(plan: Plan) -> Finding:
    """Whether the data set is there and undamaged, or what the job would do without it."""
    chosen, raw = plan.settings.data, kinds.folder(plan.settings.data)
    if chosen.name == "folder":
        return _pictures(chosen, raw)
    if not kinds.missing(chosen):
        if plan.checksums and (names := data.altered(chosen)):
            return red(
                f"{raw}: {', '.join(names)}: not what was read before, and nobody wrote to it: the disk fails?",
                "copy the data anew, onto another disk",
            )
        data.prepare(chosen, lambda _: None)
        return green(f"{chosen.name}: {len(kinds.names_of(chosen))} files in {raw}, undamaged")
    if chosen.name == "idx" or (chosen.name == "text" and len(kinds.missing(chosen)) == 1):
        absent = ", ".join(kinds.missing(chosen))
        return red(f"{chosen.name}: {absent} not in {raw}", "copy them there, or data.root=FOLDER")
    if not os.access(existing(raw), os.W_OK):
        return red(f"data.root={chosen.root}: {existing(raw)} is not writable", "data.root=FOLDER")
    if chosen.name == kinds.rendered(chosen):
        return green(f"{chosen.name}: will be rendered into {raw}, in less than a minute")
    wanted = ", ".join(kinds.kind_of(chosen).FILES)
    if chosen.name == "text":
        return _absent(chosen, f"text: not in {raw}", f"copy {wanted} there")
    if mirror := provision.answering(chosen, MIRROR_SECONDS):
        return yellow(
            without_secrets(f"{chosen.name}: not in {raw}; will be downloaded from {mirror}"),
            "no action needed; the start takes longer",
        )
    fix = f"copy {wanted} into {raw}, or data.mirrors=[FOLDER]"
    return _absent(chosen, f"{chosen.name}: not in {raw}, and no mirror answers", fix)


def _pictures(chosen: schema.Data, converted: Path) -> Finding:
    """Whether the pictures of class folders are converted, or how many will be."""
    ready, count = image_folder.state(chosen)
    if ready:
        return green(f"folder: {count:,} pictures in {chosen.root}, converted in {converted}")
    sides = f" data.image_size={chosen.image_size}" if chosen.image_size else ""
    if not os.access(existing(converted), os.W_OK):
        fix = f"python -m src.data import {chosen.root} --to FOLDER{sides}"
        return red(f"data.root={chosen.root}: {existing(converted)} is not writable", fix)
    return yellow(
        f"folder: {count:,} pictures in {chosen.root} will be converted into {converted}",
        f"no action needed; python -m src.data import {chosen.root}{sides} does it before the job",
    )


def _data_bytes(chosen: schema.Data) -> int:
    """What a data set that is not there yet may take."""
    if chosen.name != "folder":
        return DATA_BYTES if kinds.missing(chosen) else 0
    ready, count = image_folder.state(chosen)
    return 0 if ready else count * math.prod(image_folder.assumed(chosen).shape)


def _absent(chosen: schema.Data, text: str, fix: str) -> Finding:
    """What the job does without the data set: it stops, or trains on what it renders itself."""
    embedded = kinds.rendered(chosen)
    if chosen.fallback == "none":
        return red(text, f"{fix}, or data.name={embedded}")
    return yellow(f"{text}: would train on rendered {embedded}", fix)


def directory(plan: Plan) -> Finding:
    """The run's directory: the state of the run, and whether writing, fsync, renaming, linking and locking work."""
    root, path = Path(plan.settings.run.root), layout.directory(plan.settings)
    if held_by := holder(path):
        return red(f"{path}: is in use by {held_by}", "wait, stop it, or run.name=")
    if problem := in_the_way(path):
        return red(f"run.root={root}: {problem}", "run.root=FOLDER")
    Run(path, World(), plan.settings, print).refuse_contradiction()
    if plan.settings.checkpoint.mirror:
        Store(plan.settings.checkpoint.mirror, "checkpoint.mirror")  # asks nobody, and refuses what cannot be one
    lacking: list[str] = []
    began, operation = time.monotonic(), "creating a folder"
    try:
        for operation in _try_out(existing(path), lacking):  # noqa: B007
            pass
    except OSError as error:
        return red(f"run.root={root}: {operation} in {existing(path)} fails: {files.reason(error)}", "run.root=FOLDER")
    seconds = time.monotonic() - began
    kind, options = _file_system(existing(path))
    text = f"{path}: {_state(path)} ({kind}, {seconds:.2f} s)"
    if lacking:
        return yellow(f"{text}: {'; '.join(lacking)}", "no action needed, or run.root=FOLDER on another file system")
    if {"nolock", "local_lock=all", "local_lock=flock"} & set(options):
        return yellow(f"{text}: locks work on this host only, two hosts could write one run", "mount it without nolock")
    if kind in ("overlay", "tmpfs", "ramfs"):
        return yellow(f"{text}: lost when the container or the host restarts", "run.root=FOLDER on a disk or volume")
    if seconds > SLOW_SECONDS:
        return yellow(f"{text}: slow: so is each checkpoint, beside the training", "run.root=FOLDER on a faster disk")
    return green(f"{text}: write, fsync, rename, link, lock work")


def _try_out(folder: Path, lacking: list[str]) -> Iterator[str]:
    """Do each file operation of a run, and yield its name before it; `lacking` gets what a job does without.

    Raises OSError.
    """
    yield "creating a folder"
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as name:
        scratch = Path(name)
        yield "writing, fsync or renaming of a checkpoint"
        archive.write(scratch / "step.pt", {"format": archive.FORMAT})
        yield "hard-linking a checkpoint"
        try:
            os.link(scratch / "step.pt", scratch / layout.BEST)
        except OSError as error:
            lacking.append(f"no hard links ({files.reason(error)}): best.pt is a copy")
            files.link_or_copy(scratch / "step.pt", scratch / layout.BEST)
        yield "locking"
        try:
            _try_lock(scratch / "lock")
        except NoLocks as error:
            lacking.append(f"no locks ({error}): start no second job on one run from another host")


def _try_lock(file: Path) -> None:
    """Lock the file, and see that a second process cannot. Raises NoLocks, OSError."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        flock.take(handle)
        command = [sys.executable, "-I", "-S", "-c", TRY_LOCK, str(file)]
        second = subprocess.run(command, capture_output=True, text=True)
    finally:
        os.close(handle)
    if "BlockingIOError" not in second.stderr:
        raise OSError(errno.ENOLCK, "a second process gets the lock too")


def _state(path: Path) -> str:
    """The state of the run that is there, and what the job would do with it."""
    status = layout.read_status(path)
    if not status:
        return "a new run"
    state = f"{status.get('state', '?')} at step {status.get('step', 0)}"
    return (
        f"{state}, continues with a higher train.epochs="
        if status.get("state") == State.FINISHED
        else f"{state}, continues"
    )


def _file_system(path: Path) -> tuple[str, list[str]]:
    """(type, mount options) of the file system that contains the path."""
    result, longest = ("", [""]), Path("")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, system = line.partition(" - ")
        at = Path(mount.split()[4].encode().decode("unicode_escape"))
        if path.resolve().is_relative_to(at) and len(at.parts) >= len(longest.parts):
            kind, _, options = system.split(" ", 2)
            result, longest = (kind, options.split(",")), at
    return result


def disk(plan: Plan) -> Finding:
    """Whether there is space for the checkpoints, and for a data set that is not there yet."""
    settings = plan.settings
    weights = 4 * parameters(settings)
    # Each holds the weights and at most two moments of the optimizer; a new one is written before an old one goes.
    need = (settings.checkpoint.keep + 2) * 3 * weights + SPARE_BYTES
    data_need = _data_bytes(settings.data)
    root, data_root = existing(Path(settings.run.root)), existing(Path(settings.data.root))
    if root.stat().st_dev == data_root.stat().st_dev:
        need, data_need = need + data_need, 0
    for key, at, needed in (("run.root", root, need), ("data.root", data_root, data_need)):
        free = shutil.disk_usage(at).free
        text = f"{key}: {free / 1e6:,.0f} MB free on {at}, the job may take {needed / 1e6:,.0f}"
        if free < needed:
            return red(text, f"free space, or {key}=FOLDER on another disk")
    left = shutil.disk_usage(root).free
    text = f"{left / 1e9:,.1f} GB free for runs, which may take {need / 1e6:,.0f} MB"
    return green(text) if left > PLENTY_BYTES else yellow(text, "free space: W&B's files and other runs grow")
