"""checkpoint.mirror: a copy of the run in an object store, written beside the training, for machines whose disk goes.

After a save, a thread of rank 0 uploads the newest checkpoint, then the records, status.json and the manifest, and
removes old checkpoints. A save that comes while it uploads is taken next, and those between are left out. Training
never waits for it; a store that fails is a warning, and is tried again at the next save.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from src import files
from src.run import bringing, layout, manifest, seal
from src.run.manifest import LATEST, MANIFEST, Manifest
from src.run.store import Store, StoreFailed
from src.schema import Config

END_SECONDS = 120.0  # longest that the job waits for the last upload
FAILED_SECONDS = 5.0  # ... after a failure: it must be gone soon
RECORDS = (layout.CONFIG, layout.PROVENANCE, layout.METRICS, layout.EVENTS, layout.REPORT, layout.MIRROR, "wandb/id")
KEY = "checkpoint.mirror"


class Mirror:
    """The copy of the run at `path`. Rank 0 has one; without a URL, and on the others, every method does nothing."""

    def __init__(
        self, path: Path, settings: Config, rank0: bool, say: Callable[[str], None], warn: Callable[[str], None]
    ) -> None:
        self._path, self._settings, self._say, self._warn = path, settings, say, warn
        self._url = settings.checkpoint.mirror.rstrip("/") if rank0 else ""
        self._afresh = settings.checkpoint.resume == "never"
        self._warnings = files.Warnings(warn)
        self._store: Store | None = None
        self._writer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._before: set[str] | None = None  # who has written this run before this job
        self._id = ""
        self._brought: int | None = None  # the step that this disk began with
        self._kept: dict[str, str] = {}  # checkpoints in the mirror and their SHA-256
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of the files there
        self._state = threading.Condition()
        self._wanted = self._busy = self._lost = False
        self._thread: threading.Thread | None = None
        self._shown = ""

    def bring_back(self, refuse: Callable[[Path], None]) -> None:
        """Before the run is opened: where the mirror is further than this disk, take the run from there.

        `refuse` raises UserError for a folder with a run of other settings. Raises UserError, also for a URL that
        cannot be used, and OSError of this disk.
        """
        if not self._url:
            return
        self._store = Store(f"{self._url}/{self._path.name}", KEY)
        self._shown = self._store.shown
        has_run = files.exists(self._path / layout.CONFIG)
        known = layout.read_mirror(self._path) if has_run else {}
        self._id, self._afresh = known.get("id", ""), self._afresh or known.get("afresh", False)
        self._brought = known.get(layout.BROUGHT)
        try:
            self._compare(refuse, has_run)
        except StoreFailed as error:
            consequence = "; training goes on from this disk, and tries again at the next save"
            self._warnings.failed(self._shown, error, consequence)
        self._id = self._id or manifest.new_id()

    def _compare(self, refuse: Callable[[Path], None], has_run: bool) -> None:
        assert self._store is not None
        latest = manifest.read(self._store, LATEST)
        self._before = set()
        if latest is None or (self._afresh and not has_run):
            return
        step = layout.newest_whole(self._path) if has_run else -1
        mine: Manifest | None = latest
        if has_run and latest.id != self._id:
            mine = manifest.read(self._store, f"{self._id}/{MANIFEST}") if self._id else None
            if latest.step > step:
                other = f"holds another run of this name, at step {latest.step}"
                self._warn(f"{self._shown}: {other}; this disk's goes on at step {step}, and is kept beside it")
        if mine is None:
            return
        self._before, self._kept = {mine.writer}, dict(mine.checkpoints)
        if mine.step > step:
            found, damaged = bringing.bring_back(self._store, mine, self._path, step, refuse, self._warn)
            self._kept = {name: known for name, known in self._kept.items() if name not in damaged}
            if found is None and not has_run:
                self._afresh, self._kept = True, {}
                return
            if found is not None:
                self._brought = found
                here = f" (step {step} is on this disk)" if has_run else ""
                self._say(f"mirror   {self._shown}: brought back step {found}{here}")
        self._id = mine.id

    def write_down(self) -> None:
        """Which run of the mirror this folder is. Raises OSError."""
        if self._url:
            known = {"id": self._id, "afresh": self._afresh, layout.BROUGHT: self._brought}
            files.write_text(self._path / layout.MIRROR, json.dumps(known) + "\n")

    def catch_up(self) -> None:
        """The run is finished: send what the mirror lacks, where an earlier job could not."""
        try:
            self.write_down()
        except OSError:  # a disk that is only read now: without the id a folder of its own would be made each time
            return
        self.finish()

    def request(self) -> None:
        """Something was saved: upload the newest, beside the training."""
        if self._store is None or self._lost:
            return
        with self._state:
            self._wanted = True
            self._state.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
                self._thread.start()

    def finish(self, seconds: float = END_SECONDS) -> None:
        """Upload how the run ended, and wait for it, but not longer; says what is not there then."""
        self.request()
        if self._store is None or self._lost:
            return
        with self._state:
            is_done = self._state.wait_for(lambda: not (self._wanted or self._busy), seconds)
        newest = next(iter(layout.newest_first(self._path / layout.CHECKPOINTS)), None)
        if newest is not None and (not is_done or newest.name not in self._kept):
            there = next(iter(manifest.newest_first(self._kept)), "no checkpoint")
            when = f"not done within {seconds:.0f} s" if not is_done else "the last upload failed"
            self._warn(f"{self._shown}: {when}: it holds {there}, this disk {newest.name}")

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever ends the block badly is uploaded too, as far as it comes in a few seconds."""
        try:
            yield
        except BaseException:
            self.finish(FAILED_SECONDS)
            raise

    def _run(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._wanted)
                self._wanted, self._busy = False, True
            try:
                self._upload()
                self._warnings.worked(self._shown)
            except FileNotFoundError:  # pruned meanwhile: a newer one is there
                time.sleep(0.1)
                self._wanted = True
            except OSError as error:
                self._warnings.failed(self._shown, error, "; training goes on, and tries again at the next save")
            except Exception as error:
                self._warnings.failed(self._shown, OSError(f"{type(error).__name__}: {error}"), "; training goes on")
            with self._state:
                self._busy = False
                self._state.notify_all()

    def _upload(self) -> None:
        """Make the mirror what the folder is. Raises OSError."""
        assert self._store is not None
        if self._is_taken(manifest.read(self._store, LATEST)):
            return
        folder, kept = self._path / layout.CHECKPOINTS, dict(self._kept)
        newest = layout.newest_first(folder)[:1]
        for file in newest:
            self._send_checkpoint(file, kept)
        best, best_sha256 = self._send_best(folder / layout.BEST, kept)
        names = self._send_records()
        ordered = manifest.newest_first(kept)
        stale = [name for name in ordered[self._settings.checkpoint.keep :] if name != best]
        kept = {name: kept[name] for name in ordered if name not in stale}
        latest = manifest.read(self._store, LATEST)
        if self._is_taken(latest):  # the upload took long, or this machine was suspended
            return
        made = Manifest(self._id, self._writer, kept, best, best_sha256, names)
        made.write(self._store, f"{self._id}/{MANIFEST}")
        if latest is None or latest.id == self._id or self._afresh or made.step >= latest.step:
            made.write(self._store, LATEST)
        for name in stale:
            self._store.remove(self._name(name))
        self._kept = kept

    def _is_taken(self, latest: Manifest | None) -> bool:
        """Whether another job writes this run too: the newer one goes on, as where a machine was taken for lost."""
        if latest is None or latest.id != self._id:
            return False
        if self._before is None:  # it did not answer when the job began
            self._before, self._kept = {latest.writer}, latest.checkpoints | self._kept
        if latest.writer in {self._writer, *self._before}:
            return False
        self._lost = True
        self._warn(f"{self._shown}: another job ({latest.writer}) writes this run too; this one mirrors it no more")
        return True

    def _send_checkpoint(self, file: Path, kept: dict[str, str]) -> None:
        assert self._store is not None
        sha256 = seal.of(file)
        if kept.get(file.name) != sha256:
            self._store.upload(file, self._name(file.name))
            kept[file.name] = sha256

    def _send_best(self, file: Path, kept: dict[str, str]) -> tuple[str, str]:
        """(name and SHA-256 of the best checkpoint): mostly one that is there under the name of its step."""
        assert self._store is not None
        try:
            sha256 = seal.of(file)
        except FileNotFoundError:
            return "", ""
        name = next((name for name, known in kept.items() if known == sha256), layout.BEST)
        if name == layout.BEST and self._sent.get(layout.BEST) != _identity(file):
            identity = _identity(file)
            self._store.upload(file, self._name(layout.BEST))
            self._sent[layout.BEST] = identity
        return name, sha256

    def _send_records(self) -> list[str]:
        """Upload the other files, status.json last; returns their names."""
        assert self._store is not None
        named = [self._path / name for name in RECORDS]
        named += sorted((self._path / layout.TABLES).glob("*.json")) + sorted((self._path / layout.MODEL).rglob("*.py"))
        names = []
        for file in [*named, self._path / layout.STATUS]:
            if not file.is_file():
                continue
            name, identity = str(file.relative_to(self._path)), _identity(file)
            if self._sent.get(name) != identity:
                self._store.upload(file, f"{self._id}/{name}")
                self._sent[name] = identity
            names.append(name)
        return names

    def _name(self, checkpoint: str) -> str:
        return f"{self._id}/{layout.CHECKPOINTS}/{checkpoint}"


def _identity(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
