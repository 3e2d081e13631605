"""The content of the report of a run, as plain values: result, curves, events, settings and provenance."""

import math
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from src import clock, config, model_file
from src.addresses import without_secrets
from src.report import confusion, curves, standing, text
from src.run import jsonl, layout, results
from src.run.layout import read_status
from src.run.results import Description
from src.schema import TEST as TEST_SET
from src.schema import VALIDATION, Config

Facts = dict[str, Any]
Event = dict[str, Any]
MOST_METRICS = 12  # curves of the test set
EMBEDDED = {"digits": "MNIST", "sums": "the text asked for"}  # rendered by this job, and what they are not
BEGINS, ENDS = ("start", "resume"), ("stop", "failed", "finish")
LIFE = 200  # events on the page: the first and the last ones
WORLDS = 20  # world sizes on the page, as above
LONGEST, LONGEST_EVENT = 4000, 300  # letters of a text
MARKS = 20  # on the curves: the newest


def of(path: Path, settings: Config, rows: int) -> Facts:
    """What the files of the run hold; at most `rows` points of each curve."""
    status, stands, events = read_status(path), standing.of(path), list(jsonl.read(path / layout.EVENTS))
    train, test, result = _lines(path / layout.METRICS)
    made_by = layout.read_provenance(path)
    described = results.describe(path, test[-1] if test else {})
    confused = confusion.of(path, bool(test))
    names = described.names[:MOST_METRICS]
    facts: Facts = {
        "name": path.name,
        "path": str(path),
        **stands,
        "step": status.get("step", 0),
        "epochs": settings.train.epochs,
        "data": {
            "name": settings.data.name,
            "note": made_by.get("data", {}).get("note", ""),
            "embedded": _embedded(settings.data.name, made_by),
        },
        "result": _result(described, result) if result and described.names else None,
        "measured": test[-1]["kind"] if test else TEST_SET,
        "best": _best(described, test),
        "shares": list(described.shares),
        "confusion": confused["confusion"],
        "pairs": confused["pairs"],
        "why": {"confusion": confused["why"]},
        "text": text.of(described, result) if text.is_text(settings) else None,
        "unfit": {"confusion": confused["unfit"]} if confused["unfit"] else {},
        "worlds": _worlds(events),
        "attempts": len(attempts(events)),
        "wall_seconds": wall_seconds(events, stands["seen"] if status.get("state") == "running" else ""),
        "samples_per_second": status.get("samples_per_second") or (train[-1]["samples_per_second"] if train else None),
        "weights_sha256": status.get("weights_sha256", "") if status.get("state") == "finished" else "",
        "command": command(made_by),
        "curves": curves.of(train, test, names, rows),
        "averages": curves.averages(names, test),
        "marks": marks(events)[-MARKS:],
        "life": life(events) + standing.end(stands),
        "seconds": clock.totals([line[clock.SECONDS] for line in train if clock.SECONDS in line]),
        "config": _settings(settings),
        "provenance": made_by,
    }
    return {name: plain(value) for name, value in facts.items()}


def _embedded(name: str, made_by: Facts) -> str:
    """What a data set that the job rendered may be taken for, '' for any other, and for sums that were asked for."""
    replaces = name == "digits" or bool(made_by.get("data", {}).get("note"))
    return EMBEDDED.get(name, "") if replaces else ""


def plain(value: Any) -> Any:
    """The value as JSON allows it: no NaN or infinity, floats to six digits, no password of an address."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return _public(value, LONGEST) if isinstance(value, str) else value


def _public(text: str, most: int) -> str:
    """The text without passwords, cut to so many letters."""
    return cut(str(without_secrets(text)), most)


def cut(text: str, most: int) -> str:
    """The text, or so many letters of a longer one: reasons may be pages of an error, notes a book."""
    return text if len(text) <= most else f"{text[:most]}..."


def _lines(file: Path) -> tuple[list[Facts], list[Facts], Facts | None]:
    """The lines of metrics.jsonl: those of training, those that decided which weights are the best, and the result.

    With data.validation the test set is measured once, at the end.
    """
    lines = list(jsonl.read(file))
    train, tested, held_out = (
        [one for one in lines if one["kind"] == kind] for kind in ("train", TEST_SET, VALIDATION)
    )
    result = (tested or held_out)[-1] if lines and (tested or held_out) else None
    return train, held_out or tested, result


def _result(described: Description, line: Facts) -> Facts:
    """An evaluation for people: the metric in front as `value` and, of a share, `of`; the others in one text."""
    (first, *others), averaged = described.names, results.averaged(line)
    shown, number = described.text(first, line), described.value(first, line)
    below = line.get(described.shares[first][1]) if first in described.shares else None
    value, of = (shown, "")
    if isinstance(below, int) and number is not None:
        value, of = str(round(number * below)), f"/{below}"
    return {
        "epoch": line["epoch"],
        "on": line["kind"],
        "name": first,
        "value": value,
        "of": of,
        "text": shown if of else "",
        "others": _texts(described, others, line),
        "averaged": _texts(described, [name for name in described.names if name in averaged], averaged),
    }


def _texts(described: Description, names: list[str], line: Facts) -> str:
    return ", ".join(f"{name} {described.text(name, line)}" for name in names[:MOST_METRICS])


def _best(described: Description, lines: list[Facts]) -> Facts | None:
    """The best evaluation by the metric that decides, None if that is unknown; `is_last`: the last one is as good.

    The averaged weights decide where they are the better ones.
    """
    both = [(line | more, bool(more)) for line in lines for more in ({}, results.averaged(line))]
    if (line := described.best_of([line for line, _ in both])) is None:
        return None
    name, average = described.best, next(average for one, average in both if one is line)
    last = described.best_of([lines[-1], lines[-1] | results.averaged(lines[-1])]) or {}
    is_last = described.value(name, line) == described.value(name, last)
    found = f"{name} {described.text(name, line)}{' by the averaged weights' if average else ''}"
    return {"epoch": line["epoch"], "text": found, "is_last": is_last}


def attempts(events: list[Event]) -> list[list[Event]]:
    """The events of each process group that worked on the run: a start or a resume, and what followed."""
    groups: list[list[Event]] = []
    for event in events:
        if event["event"] in BEGINS or not groups:
            groups.append([])
        groups[-1].append(event)
    return groups


def wall_seconds(events: list[Event], still_runs: str = "") -> float:
    """The time that the attempts took, from their first event to their last, or to `still_runs`."""
    spans = [(attempt[0]["time"], attempt[-1]["time"]) for attempt in attempts(events)]
    if spans and still_runs:
        spans[-1] = (spans[-1][0], max(spans[-1][1], still_runs, key=datetime.fromisoformat))
    return sum((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() for start, end in spans)


def marks(events: list[Event]) -> list[Facts]:
    """Where the curves are marked: the step, what happened (stopped, resumed or resized), and a text."""
    marked: list[Facts] = []
    for before, event in pairwise([{}, *(event for event in events if event["event"] in BEGINS + ENDS)]):
        if event["event"] == "stop":
            marked.append({"step": event["step"], "kind": "stopped", "text": _ended(event)})
        elif event["event"] == "resume":
            if marked and marked[-1]["kind"] == "stopped" and marked[-1]["step"] == event["step"]:
                marked.pop()  # the text of the resume begins with the stop
            resized = event.get("world_size_before") not in (None, event["world_size"])
            kind, text = "resized" if resized else "resumed", f"{_ended(before)}; {_text(event)}"
            marked.append({"step": event["step"], "kind": kind, "text": text})
    return marked


def _ended(event: Event) -> str:
    if event.get("event") == "finish":
        return "finished before"
    if event.get("event") == "failed":
        return f"failed ({_short(str(event.get('reason', '')))})"
    return f"stopped ({event['reason']})" if event.get("event") == "stop" else "killed"


def life(events: list[Event]) -> list[Facts]:
    """One row an event, checkpoints in a row as one; a row says how many of the middle are left out."""
    rows: list[Facts] = []
    saved = 0
    for event in events:
        saved = saved + 1 if event["event"] == "checkpoint" else 0
        row = {name: event.get(name) for name in ("time", "event", "step", "world_size")}
        row["text"] = f"{saved} checkpoints, the last in {event['milliseconds']:g} ms" if saved > 1 else _text(event)
        rows[len(rows) - (saved > 1) :] = [row]
    if len(rows) > LIFE:
        left_out = {"event": "", "text": f"... {len(rows) - LIFE} more ..."}
        rows[LIFE // 2 : -LIFE // 2] = [left_out]
    return rows


def _text(event: Event) -> str:
    """An event in words."""
    kind, before = event["event"], event.get("world_size_before")
    ranks = f"{event['world_size']} rank{'s' if event['world_size'] > 1 else ''}"
    if kind == "start":
        return f"started on {ranks}" + (f" from the weights of {event['weights']}" if event.get("weights") else "")
    if kind == "resume":
        resized = f" instead of {before}" if before not in (None, event["world_size"]) else ""
        return f"went on at step {event['step']} on {ranks}{resized}"
    if kind == "checkpoint":
        return f"checkpoint in {event['milliseconds']:g} ms"
    if kind in ENDS[:2]:
        return _ended(event)
    text = "finished" if kind == "finish" else f"{kind} {event.get('reason', '')} {event.get('file', '')}".strip()
    return _short(text)


def _short(text: str) -> str:
    return _public(text, LONGEST_EVENT)


def _worlds(events: list[Event]) -> list[int | str]:
    """The world sizes of the attempts, in order, without repetitions in a row; of many the first and the last."""
    sizes = [attempt[0]["world_size"] for attempt in attempts(events)]
    found: list[int | str] = [size for before, size in pairwise([0, *sizes]) if size != before]
    return found if len(found) <= WORLDS else [*found[: WORLDS // 2], "...", *found[-WORLDS // 2 :]]


def command(made_by: Facts) -> str:
    """The command that the last attempt was started with, as torchrun takes it where there were more ranks."""
    ranks, given = int(made_by.get("world_size", 1)), str(made_by.get("command", ""))
    return given.replace("python -m", f"torchrun --nproc_per_node={ranks} -m", 1) if ranks > 1 else given


def _settings(settings: Config) -> list[list[Any]]:
    """[key, value, default] of every setting."""
    defaults = {name: model_file.default_of(key) for name, key in config.keys_of(settings.model).items()}
    return [
        [f"{section}.{name}", value, defaults[f"{section}.{name}"]]
        for section, values in config.as_dict(settings).items()
        for name, value in values.items()
        if f"{section}.{name}" in defaults
    ]
