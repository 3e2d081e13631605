"""What the job reads and writes: its data set, its run directory, the disk below it."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from src.data import dataset as data
from src.doctor.findings import Finding, Plan, green, red, yellow
from src.doctor.model_size import parameters
from src.run import archive, checkpoint, layout
from src.run.lock import hold, holder
from src.run.run import Run
from src.world.world import World

ASK_SECONDS = 3.0  # for one mirror's first byte
DATA_BYTES = 70_000_000  # the four files, and one of them packed beside them
SPARE_BYTES = 20_000_000  # a record, a report, W&B's offline pieces
PLENTY_BYTES = 1_000_000_000
SLOW_SECONDS = 1.0  # a checkpoint makes three such flushes
# Another process: a second handle of this one would be let in where NFS turns flock into a process's lock.
TRY_LOCK = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there already."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def dataset(plan: Plan) -> Finding:
    """The data set, there and whole; or what would happen instead."""
    chosen, raw = plan.settings.data, data.folder(plan.settings.data)
    if not data.missing(chosen):
        data.prepare(chosen, lambda _: None)
        return green(f"{chosen.name}: four files in {raw}, whole")
    if chosen.name == "idx":
        return red(f"idx: {', '.join(data.missing(chosen))} not in {raw}", "put them there, or data.root=FOLDER")
    if not os.access(existing(raw), os.W_OK):
        return red(f"data.root={chosen.root}: {existing(raw)} cannot be written", "data.root=FOLDER")
    if chosen.name == "digits":
        return green(f"digits: will be rendered into {raw}, which takes a minute at most")
    if mirror := data.answering(chosen, ASK_SECONDS):
        return yellow(f"{chosen.name}: not in {raw}; will be fetched from {mirror}", "nothing to do; the start waits")
    fix = f"put {', '.join(data.FILES)} into {raw}, or data.mirrors=[FOLDER]"
    if chosen.fallback == "none":
        return red(f"{chosen.name}: not in {raw}, and no mirror answers", f"{fix}, or data.name=digits")
    return yellow(f"{chosen.name}: not in {raw}, no mirror answers: would train on rendered digits", fix)


def directory(plan: Plan) -> Finding:
    """The run directory: what the job will find there, and whether writing, flushing, renaming and locking work."""
    root, path = Path(plan.settings.run.root), layout.directory(plan.settings)
    if held_by := holder(path):
        return red(f"{path}: is in use by {held_by}", "wait, stop it, or run.name=")
    Run(path, World(), plan.settings, print).refuse_contradiction()
    began, tried = time.monotonic(), "making a folder"
    try:
        for step in _try_out(existing(path)):
            tried = step
    except OSError as error:
        return red(f"run.root={root}: {tried} in {existing(path)} fails: {error.strerror or error}", "run.root=FOLDER")
    seconds = time.monotonic() - began
    kind, options = _file_system(existing(path))
    told = f"{path}: {_state(path)} ({kind}, {seconds:.2f} s)"
    if {"nolock", "local_lock=all", "local_lock=flock"} & set(options):
        return yellow(f"{told}: locks reach this host alone, two hosts could take one run", "mount it without nolock")
    if kind in ("overlay", "tmpfs", "ramfs"):
        return yellow(f"{told}: is gone with the container or the next boot", "run.root=FOLDER on a disk or volume")
    if seconds > SLOW_SECONDS:
        return yellow(f"{told}: slow, every checkpoint waits for it", "run.root=FOLDER on a faster disk")
    return green(f"{told}: write, flush, rename, link, lock work")


def _try_out(folder: Path) -> Iterator[str]:
    """Do there what a run does, and say each step before it. Raises OSError."""
    yield "making a folder"
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as name:
        here = Path(name)
        yield "writing, flushing or renaming a checkpoint"
        archive.write(here / "step.pt", {"format": archive.FORMAT})
        yield "giving a checkpoint a second name (a hard link)"
        os.link(here / "step.pt", here / checkpoint.BEST)
        yield "locking"
        handle = hold(here)
        command = [sys.executable, "-I", "-S", "-c", TRY_LOCK, str(here / "lock")]
        second = subprocess.run(command, capture_output=True, text=True)
        os.close(handle)
        if "BlockingIOError" not in second.stderr:
            raise OSError(errno.ENOLCK, "a second process is let in")


def _state(path: Path) -> str:
    status = layout.read_status(path)
    if not status:
        return "a new run"
    then = f"{status.get('state', '?')} at step {status.get('step', 0)}"
    return f"{then}, prolonged by train.epochs= alone" if status.get("state") == "finished" else f"{then}, goes on"


def _file_system(path: Path) -> tuple[str, list[str]]:
    """Type and options of the file system that the path is on."""
    found, longest = ("", [""]), Path("")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, system = line.partition(" - ")
        at = Path(mount.split()[4].encode().decode("unicode_escape"))
        if path.resolve().is_relative_to(at) and len(at.parts) >= len(longest.parts):
            kind, _, options = system.split(" ", 2)
            found, longest = (kind, options.split(",")), at
    return found


def disk(plan: Plan) -> Finding:
    """Room for the checkpoints, and for a data set that is not there yet."""
    settings = plan.settings
    weights = 4 * parameters(settings)
    # Each holds the weights and at most two moments of the optimizer; one more is there while it is written.
    need = (settings.checkpoint.keep + 2) * 3 * weights + SPARE_BYTES
    data_need = DATA_BYTES if data.missing(settings.data) else 0
    root, data_root = existing(Path(settings.run.root)), existing(Path(settings.data.root))
    if root.stat().st_dev == data_root.stat().st_dev:
        need, data_need = need + data_need, 0
    for key, at, wanted in (("run.root", root, need), ("data.root", data_root, data_need)):
        free = shutil.disk_usage(at).free
        told = f"{key}: {free / 1e6:,.0f} MB free on {at}, the job may take {wanted / 1e6:,.0f}"
        if free < wanted:
            return red(told, f"make room, or {key}=FOLDER on another disk")
    left = shutil.disk_usage(root).free
    told = f"{left / 1e9:,.1f} GB free for runs, which may take {need / 1e6:,.0f} MB"
    return green(told) if left > PLENTY_BYTES else yellow(told, "make room: W&B's files and other runs grow")
