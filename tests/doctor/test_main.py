"""The doctor: green where a job runs, red and exit code 1 where it does not, whatever a check does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.doctor import __main__ as doctor
from src.doctor import rehearsal
from tests.helpers.commands import command


def call(*arguments: str, stdout: int | None = None, **variables: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: "" for name in ("NO_COLOR", "TERM") if name not in variables}
    variables = {"WANDB_MODE": "offline", "MASTER_PORT": str(rehearsal.free_port()), **kept, **variables}
    return command("src.doctor", "--seconds=300", *arguments, environment=variables, stdout=stdout)


def test_a_job_that_will_run_has_nothing_red(small: str, tmp_path: Path) -> None:
    done = call("data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["check"] for line in found] == list(doctor.NAMES), done.stderr
    assert {line["state"] for line in found} <= {"green", "yellow"}, done.stdout
    assert done.returncode == 0
    assert set(found[0]) == {"check", "host", "state", "message", "fix"}
    assert not list(tmp_path.iterdir())


def test_anything_red_is_exit_code_1_with_the_fix(tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text("train:\n  threads: 4000\n")
    done = call(f"config={config}", "--only", "surroundings", "cores")
    assert done.returncode == 1
    first, second, last = done.stdout.splitlines()
    assert second.startswith("red     cores         ")
    assert "x 4000 thread(s)" in second
    assert second.endswith("-> train.threads=1, or 1 rank(s)")
    assert first.startswith("green   surroundings  ")
    assert last == "1 green, 1 red"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals(no_color: str, coloured: bool) -> None:
    reading, terminal = os.openpty()
    call("--only", "gpus", stdout=terminal, NO_COLOR=no_color, TERM="xterm")
    os.close(terminal)
    assert (b"\x1b[" in os.read(reading, 10_000)) == coloured
    os.close(reading)


@pytest.mark.parametrize(
    "arguments", [("train.thread=2",), ("--ranks", "-1"), ("--nodes", "node[1-", "train.threads=1")]
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["doctor", *arguments])
    with pytest.raises(SystemExit, match="2"):
        doctor.main()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert len(captured.err.splitlines()) == 1
