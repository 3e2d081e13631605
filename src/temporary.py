"""A temporary folder of this process's own: nothing stays in TMPDIR.

Libraries leave things in TMPDIR: W&B its copies of pictures and files, torch the code that it compiled. In a folder of
the process's own all of it is removed at the end; what a `kill -9` leaves is removed by the next start of any job of
this user on this host. Each process holds a lock on its folder as long as it lives, so nobody else's is touched.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "training-job-"  # W&B's sockets are below it, and a socket's path has at most 107 bytes
LOCK = "lock-of-training-job"  # in each folder; one without it is not ours, whatever its name

_own: tuple[Path, int] | None = None


def begin() -> None:
    """Make the folder, and let TMPDIR name it for this process and its children.

    Without a temporary folder that can be written there is nothing to do: then nothing is left there either.
    """
    global _own
    if _own is not None and _own[1] == os.getpid():
        return
    with contextlib.suppress(OSError):
        above = Path(tempfile.gettempdir())
        if above.name.startswith(PREFIX):  # of the process that started this one: its end would take ours away
            above = above.parent
        _remove_orphaned(above)
        _own = _make(above), os.getpid()
        atexit.register(end)  # for an end that is not src.leaving's; after what libraries register later
        os.environ["TMPDIR"] = tempfile.tempdir = str(_own[0])


def end() -> None:
    """Remove the folder and all that is in it."""
    if _own is not None and _own[1] == os.getpid():
        shutil.rmtree(_own[0], ignore_errors=True)
    _remove_torchrun_s()


def _remove_torchrun_s() -> None:
    """Remove the folder that torchrun made for this rank's error, and those above it that are empty then.

    torchrun leaves them in TMPDIR. One that has an error in it, or a log, stays for torchrun to read.
    """
    folder = Path(os.environ.get("TORCHELASTIC_ERROR_FILE", "")).parent
    if not any(above.name.startswith("torchelastic_") for above in folder.parents):
        return  # not in a temporary folder: --log-dir
    with contextlib.suppress(OSError):
        while True:
            folder.rmdir()
            if folder.name.startswith("torchelastic_"):
                return
            folder = folder.parent


def _make(above: Path) -> Path:
    """A new folder, with a lock that is held."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)  # stays open as long as the process lives
        with contextlib.suppress(OSError):  # a file system without locks: nobody removes what he cannot lock
            fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        os.close(handle)  # removed before it was locked, by a process that starts at this moment


def _remove_orphaned(above: Path) -> None:
    """Remove this user's folders of processes that are no more."""
    for lock in above.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError):
            handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if os.fstat(handle).st_uid == os.getuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(handle)
