"""How a run stands, as its files say it: also where nobody was left to write how it ended."""

from datetime import datetime
from pathlib import Path
from typing import Any

from src import follow
from src.run import layout
from src.run.layout import State, read_status
from src.run.lock import holder

Facts = dict[str, Any]
NOT_STARTED = "not started"


def of(path: Path) -> Facts:
    """State and reason; when the files were last written; the newest checkpoint; how it goes on, '' while it does.

    `unseen` names the host that wrote "running" last, where this one cannot know whether it still does.
    """
    status = read_status(path)
    state = follow.state(path, status) if "state" in status else NOT_STARTED
    step, saved = _newest(path)
    ended = state not in (State.RUNNING, State.FINISHED, NOT_STARTED)
    resumes = f"the same command resumes at step {step}" if saved else "the same command begins again at step 0"
    return {
        "state": state,
        "reason": status.get("reason", ""),
        "seen": last_sign(path),
        "saved": {"step": step, "time": saved} if saved and state != State.FINISHED else None,
        "goes_on": resumes if ended else "",
        "unseen": _writer(path) if state == State.RUNNING and not holder(path) else "",
    }


def end(stands: Facts) -> list[Facts]:
    """The row of the run's life that a killed run could not write itself."""
    if stands["state"] != follow.KILLED:
        return []
    return [{"time": stands["seen"], "event": follow.KILLED, "text": "killed: nothing was written after this"}]


def last_sign(path: Path) -> str:
    """When the run's files were last written, as events.jsonl writes times; '' if there are none."""
    return _text(max(_written(path / name) for name in (layout.METRICS, layout.EVENTS, layout.STATUS)))


def _newest(path: Path) -> tuple[int, str]:
    """(step of the newest checkpoint, when it was written); (0, '') for none. It is not read: they are atomic."""
    for file in layout.newest_first(path / layout.CHECKPOINTS):
        return int(file.stem.removeprefix("step-")), _text(_written(file))
    return 0, ""


def _written(file: Path) -> float:
    """Seconds of the epoch, 0 where there is no such file."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _text(written: float) -> str:
    return datetime.fromtimestamp(written).astimezone().isoformat(timespec="seconds") if written else ""


def _writer(path: Path) -> str:
    """The process that held the run last, as its lock names it."""
    try:
        return (path / "lock").read_text(errors="replace").partition("\n")[0] or "another process"
    except OSError:
        return "another process"
