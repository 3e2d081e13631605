"""The largest page that a run can have stays under its limit."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from src.report import facts, pictures
from src.report import page as report
from src.run import layout, results, tables
from tests.helpers.pages import LIMIT, Open

NAME = "\u754c" * 60  # six bytes a letter in ASCII
CLASSES, METRICS = 1000, 14


def line(kind: str, step: int) -> dict[str, Any]:
    """A line of metrics.jsonl with as many numbers as there may be."""
    values = {f"metric{at}": 0.123456 + step % 7 for at in range(METRICS)}
    measured = values | {f"average_{name}": value for name, value in values.items()}
    trained = {"loss": 0.123456, "lr": 0.0123456, "grad_norm": 1.23456, "samples_per_second": 12345.6}
    where = {"kind": kind, "epoch": step, "step": step * 1001, "samples_seen": step * 64064}
    return where | (trained if kind == "train" else measured)


def lengthened(run: Path) -> None:
    """Give the run long curves, a long life with long reasons, and 1,000 classes."""
    kinds = ("train", "test")
    lines = [json.dumps(line(kind, step)) for step in range(1, 3000) for kind in kinds]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    event = {"time": "2030-01-01T12:00:00+0000", "job": "", "reason": "no" * 3000, "step": 7}
    life = [event | {"event": ("resume", "failed")[at % 2], "world_size": 1 + at % 3} for at in range(2000)]
    (run / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in life))
    names = [f"metric{at}" for at in range(METRICS)]
    confused = [[(truth * 7 + guess) % 5 for guess in range(CLASSES)] for truth in range(CLASSES)]
    tables.write(run, 1, {results.DESCRIPTION: {"names": names, "shares": {}}, "confusion": confused}, print)


def test_a_thousand_classes_with_long_names_and_a_long_life(strangers: Path, tmp_path: Path, show: Open) -> None:
    run = shutil.copytree(strangers / "colours" / "runs" / "colours", tmp_path / "large")
    lengthened(run)
    settings = layout.load_settings(run)
    settings = dataclasses.replace(settings, track=dataclasses.replace(settings.track, notes="z" * 100_000))
    sources = report.sources_of(run, settings)
    assert sources.spec is not None
    spec = dataclasses.replace(sources.spec, names=(NAME,) * CLASSES)
    content = report.one(run, settings, dataclasses.replace(sources, spec=spec))
    images = torch.randint(0, 256, (pictures.WRONG, 3, 32, 32), dtype=torch.uint8)
    rows = [[at, at + 500, at + 900, 0.5] for at in range(pictures.WRONG)]
    content["wrong"] = pictures.packed(images) | {"rows": rows}
    content["classes"] = pictures.class_names(spec, pictures.shown_classes(content))
    assert content["classes"]["923"] == "\u754c" * pictures.LONGEST_NAME + "..."
    report.write(tmp_path / "page.html", [content])
    assert (tmp_path / "page.html").stat().st_size < LIMIT
    page = show(tmp_path / "page.html")
    assert page.locator(".pairs tbody tr").count() == 20
    assert page.locator(".wrongs figcaption").count() == pictures.WRONG
    assert page.locator(".life tbody tr").count() == facts.LIFE + 1
