"""What a mirror holds: which run, whose checkpoints, which files. Written last, so that it names only what is there.

    PREFIX/NAME/latest.json            which of the runs of this name goes on, and what is in its folder
    PREFIX/NAME/ID/manifest.json       what is in a run's folder
    PREFIX/NAME/ID/checkpoints/...     and the other files, named as in the run's folder

A run that begins anew under a name has an id, and so a folder, of its own: nothing is mixed, and nothing overwritten.
"""

import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath

from src.run.store import Store

FORMAT = 1
LATEST, MANIFEST = "latest.json", "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """A run in the mirror. `checkpoints` has the SHA-256 of each, newest first; `best` names one of them, or best.pt.

    `writer` is the job that wrote it.
    """

    id: str
    writer: str
    checkpoints: dict[str, str] = field(default_factory=dict)
    best: str = ""
    best_sha256: str = ""
    files: list[str] = field(default_factory=list)
    format: int = FORMAT

    @property
    def step(self) -> int:
        """Of the newest checkpoint."""
        names = newest_first(self.checkpoints)
        return int(names[0].removesuffix(".pt").removeprefix("step-")) if names else 0

    def write(self, store: Store, name: str) -> None:
        """Put it into the store. Raises StoreFailed."""
        store.write(name, json.dumps(asdict(self), indent=2).encode() + b"\n")


def newest_first(names: Iterable[str]) -> list[str]:
    """Names of checkpoints by their number, not by their text."""
    return sorted(names, key=lambda name: -int(name.removesuffix(".pt").removeprefix("step-")))


def new_id() -> str:
    """The id of a run that begins: sorted by time, and its own."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


def read(store: Store, name: str) -> Manifest | None:
    """A manifest of the store, None where there is none that can be read. Raises StoreFailed."""
    content = store.read(name)
    try:
        made = Manifest(**json.loads(content or b"{}"))
        names = [made.id, *made.checkpoints, *made.files, *filter(None, [made.best])]
        _ = made.step
    except (TypeError, ValueError, AttributeError):
        return None
    return made if made.format <= FORMAT and all(map(_is_inside, names)) else None


def _is_inside(name: str) -> bool:
    """Whether the name stays inside the folder that it is relative to."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts
