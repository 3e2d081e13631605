"""What a job says and writes when it ends."""

from pathlib import Path

from tests.helpers.ranks import good_job


def settings(small: str, *more: str) -> tuple[str, ...]:
    return ("data.name=idx", f"data.root={small}", "train.epochs=2", "run.name=x", *more)


def test_the_last_line_does_not_read_like_a_start(small: str, tmp_path: Path) -> None:
    lines = good_job(1, tmp_path, *settings(small)).output.splitlines()
    assert lines[0] == "training on idx"
    assert lines[-1].startswith("next     python -m src.")
    assert lines[-2].startswith("saved    ")
    assert lines[-2].endswith("report.html")
