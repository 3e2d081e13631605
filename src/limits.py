"""What a shell, a scheduler or a container sets on a process: limits that are raised, and what else breaks a start."""

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from src.errors import JobFailed, UserError

OPEN_FILES = 65536  # enough for the connections of as many ranks; a limit of a million slows fork down elsewhere
TORCH_BYTES = 4_000_000_000  # of address space that torch and its libraries map on a CPU
READ_BY_TORCH = re.compile(r"TORCH_(?!CPP_LOG)|PYTORCH_")  # how the names of variables begin
NO_MEMORY = re.compile(r"failed to map segment|[cC]annot allocate memory|can't allocate memory|unable to mmap")


def raise_open_files() -> None:
    """Allow this process as many open files as it may allow itself: the usual 1024 are too few for many ranks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def loading(library: str) -> Iterator[None]:
    """Around an import: a library that does not fit into memory is a UserError, and so is what it reads beside that.

    torch refuses values of its variables, and MKL a working folder that was removed.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the working folder was removed ({error.strerror})", fix="cd to another") from None
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        if not (given := sorted(name for name in os.environ if READ_BY_TORCH.match(name))):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{library} cannot be loaded ({reason})", fix=f"correct or unset {', '.join(given)}") from None
    except (ImportError, OSError, MemoryError) as error:
        if not _is_memory(error):
            raise
        raise UserError(f"{library} cannot be loaded ({error}): {allowed()}", fix="ulimit -v unlimited") from None


@contextmanager
def naming_memory() -> Iterator[None]:
    """Memory that is not there is JobFailed in one line. What a GPU lacks keeps its traceback."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, JobFailed) or not _is_memory(error):
            raise
        reason = " ".join(str(error).split())[:200] or "MemoryError"
        raise JobFailed(f"no memory is left ({reason}): {allowed()}; use fewer ranks or a smaller batch") from None


def allowed() -> str:
    """How much memory this process may take, for an error."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return "this machine has no more" if limit == resource.RLIM_INFINITY else f"ulimit -v allows {limit / 1e6:,.0f} MB"


def too_low(file_bytes: int, open_files: int) -> list[tuple[str, str]]:
    """(what a limit is too low for, how to raise it), for the largest file and the open files that a job needs."""
    found = []
    for kind, need, text, fix in (
        (resource.RLIMIT_AS, TORCH_BYTES, "address space: {} MB, torch maps {}", "ulimit -v unlimited"),
        (resource.RLIMIT_FSIZE, file_bytes, "size of a file: {} MB, a checkpoint takes {}", "ulimit -f unlimited"),
    ):
        limit = resource.getrlimit(kind)[0]
        if limit not in (resource.RLIM_INFINITY, -1) and limit < need:
            found.append((text.format(f"{limit / 1e6:,.1f}", f"{need / 1e6:,.1f}"), fix))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < open_files:
        found.append((f"open files: {hard}, the ranks need {open_files}", f"ulimit -n {max(4096, open_files)}"))
    return found


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))
