"""The files of a data set on disk: fetched once per node, checked, whole under their name or not there."""

import gzip
import hashlib
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from src import files
from src.addresses import without_secrets
from src.data import http
from src.data.folders import Report, alone, misplaced, say, writing
from src.data.remembered import Remembered
from src.errors import Unreachable, UserError

STALL_SECONDS = 20.0  # a mirror that sends nothing for so long is given up
SLOW_SECONDS = 5.0  # between two lines about files that are checked
REPORT_SECONDS = 2.0  # between two lines about a download
CHUNK = 1 << 18
SUMS = "SHA256SUMS"  # what was fetched here, in sha256sum's own format


def fetch(folder: Path, resources: Iterable[tuple[str, str]], mirrors: list[str], report: Report) -> None:
    """Bring every (name.gz, MD5) of `resources` that is missing into `folder`, unpacked.

    One process at a time does it, also where several nodes share the folder. Files that are there are never
    touched. Raises Unreachable, or UserError where the folder cannot be written.
    """
    wanted = {packed.removesuffix(".gz"): (packed, md5) for packed, md5 in resources}
    if hint := misplaced(folder, wanted):
        report(hint)
    with writing(folder), alone(folder, report) as shared:
        for name, (packed, md5) in wanted.items():
            if not (folder / name).exists():
                try:
                    _fetch_one(folder, packed, md5, mirrors, report, shared, partial(_unpack, folder / name))
                except Unreachable as error:
                    raise Unreachable(f"{error}; {hint}" if hint else error) from None


def fetch_archive(
    folder: Path, archive: str, md5: str, members: dict[str, str], mirrors: list[str], report: Report
) -> None:
    """Bring the files {name: its .gz in the archive} into `folder`, unpacked, and keep the archive for others of it.

    As `fetch` in all else.
    """

    def unpack(packed: Path, shared: bool) -> None:
        with zipfile.ZipFile(packed) as stream:
            for name, member in members.items():
                if not (folder / name).exists():
                    with stream.open(member) as inner, gzip.open(inner) as content:
                        _write(content, folder / name, shared)
        if not (folder / archive).exists():
            os.replace(packed, folder / archive)

    with writing(folder), alone(folder, report) as shared:
        if not all((folder / name).exists() for name in members):
            _fetch_one(folder, archive, md5, mirrors, report, shared, unpack)


def _fetch_one(
    folder: Path,
    packed: str,
    md5: str,
    mirrors: list[str],
    report: Report,
    shared: bool,
    unpack: Callable[[Path, bool], None],
) -> None:
    temporary = folder / f".{packed}{f'.{os.uname().nodename}-{os.getpid()}' if shared else ''}.part"
    answers = []
    try:
        # torchvision leaves the .gz beside the raw file: it is as good as a mirror.
        # The second round: a damaged download is tried again.
        for source in (str(folder), *mirrors, *mirrors):
            try:
                digest = _copy(source, packed, temporary, report)
            except Unreachable as error:
                answers.append(f"{source}: {error}")
                continue
            if digest == md5:
                unpack(temporary, shared)
                return
            answers.append(f"{source}: {packed} is damaged (MD5 {digest}, expected {md5})")
            if source != str(folder):
                report(without_secrets(answers[-1]))
    finally:
        temporary.unlink(missing_ok=True)
    raise Unreachable(without_secrets("; ".join(dict.fromkeys(answers[1:]))) or "no mirror is named")


def _copy(source: str, name: str, to: Path, report: Report) -> str:
    """Copy the file from a URL or a folder; returns its MD5. Raises Unreachable, or OSError where `to` fails."""
    digest = hashlib.md5(usedforsecurity=False)
    with to.open("wb") as out:
        for chunk in _chunks(source, name, report):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _chunks(source: str, name: str, report: Report) -> Iterator[bytes]:
    """The file's bytes, piece by piece, with a line about the progress now and then. Raises Unreachable."""
    try:
        with _open(source, name) as stream:
            total, done, reported = int(getattr(stream, "length", None) or 0), 0, time.monotonic()
            remote = "://" in source
            if remote:
                report(without_secrets(f"fetching {name} ({total / 1e6:.1f} MB) from {source}"))
            while chunk := stream.read(CHUNK):
                yield chunk
                done += len(chunk)
                if remote and time.monotonic() - reported > REPORT_SECONDS:
                    reported = time.monotonic()
                    report(f"fetching {name}: {done / 1e6:.1f} of {total / 1e6:.1f} MB")
    except (OSError, HTTPException) as error:
        raise Unreachable(error) from None


def answers(source: str, name: str, seconds: float) -> bool:
    """Whether a URL or a folder has the file: its first byte is asked for."""
    try:
        with _open(source, name, seconds) as stream:
            return bool(stream.read(1))
    except (OSError, HTTPException, Unreachable):
        return False


def _open(source: str, name: str, seconds: float = STALL_SECONDS) -> BinaryIO:
    """The file of a URL or a folder. Raises Unreachable, OSError."""
    if "://" not in source:
        return (Path(source) / name).open("rb")
    return http.open_file(source, name, seconds)


def _unpack(raw: Path, packed: Path, shared: bool) -> None:
    with gzip.open(packed) as stream:
        _write(stream, raw, shared)


def _write(content: gzip.GzipFile, raw: Path, shared: bool) -> None:
    """Write to a temporary name, note the checksum, and only then give the file its name."""
    with files.whole(raw, shared) as temporary:
        with temporary.open("wb") as out:
            shutil.copyfileobj(content, out, CHUNK)
        with (raw.parent / SUMS).open("a", encoding="utf-8") as sums:
            sums.write(f"{sha256(temporary)}  {raw.name}\n")


def sha256(file: Path, read: Callable[[int], None] = lambda _: None) -> str:
    """The SHA-256 of a file's bytes, in hex; `read` is called with the number of bytes of each piece."""
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        while chunk := stream.read(4 * CHUNK):
            digest.update(chunk)
            read(len(chunk))
    return digest.hexdigest()


class Slowly:
    """Says how far something is that takes long: the first time after SLOW_SECONDS, then as often."""

    def __init__(self, what: str, report: Report) -> None:
        self._what, self._report = what, report
        self._done, self._said = 0, time.monotonic()

    def __call__(self, count: int) -> None:
        """So many bytes more are done."""
        self._done += count
        if time.monotonic() - self._said > SLOW_SECONDS:
            self._said = time.monotonic()
            self._report(f"{self._what}: {self._done / 1e6:.1f} MB so far")


def verify(
    folder: Path, names: Iterable[str], pinned: dict[str, str], report: Report = say, known: bool = False
) -> dict[str, str]:
    """The SHA-256 of each file, held against the pinned one or what was recorded when it was fetched.

    It is computed where it is not remembered of a file that is as it was; with `known` such a file is left out, and
    nothing is written.

    Raises UserError naming the file, what was expected and what was found.
    """
    recorded = {words[1]: words[0] for line in _lines(folder / SUMS) if len(words := line.split()) == 2} | pinned
    digests, slowly = {}, Slowly(f"checking the files in {folder}", report)
    memory = Remembered(folder)
    for name in names:
        try:
            if not known or memory.known(name):
                digests[name] = memory.sha256(name, lambda file: sha256(file, slowly))
        except OSError as error:
            raise UserError(f"{folder / name}: cannot be read ({files.reason(error)})") from None
        if name in recorded and recorded[name] != digests.get(name, recorded[name]):
            raise UserError(
                f"{folder / name}: is damaged or altered: SHA-256 {digests[name]}, expected {recorded[name]}",
                fix="move it away to have it fetched again",
            )
    memory.save()
    return digests


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if files.exists(file) else []
