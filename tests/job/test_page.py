"""report.html at the ends of a job: what cannot be written is a warning; see also tests/report/."""

from pathlib import Path
from typing import Any

import pytest

from src import config
from src.job.page import Page
from src.report import page as pages
from src.run.layout import State


def page(folder: Path, said: list[str], rank0: bool = True) -> Page:
    nothing: Any = None
    return Page(folder, config.parse([]), nothing, nothing, nothing, rank0, said.append)


@pytest.mark.parametrize("state", [State.FINISHED, State.PREEMPTED, State.FAILED])
def test_what_cannot_be_written_is_a_warning(state: State, tmp_path: Path) -> None:
    said: list[str] = []
    assert not page(tmp_path / "no run", said).write(state)
    (line,) = said
    assert line.startswith(f"{tmp_path / 'no run'}/report.html: not written (")
    assert line.endswith(f"; `python -m src.report {tmp_path / 'no run'}` writes it")


def test_only_an_error_leaves_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    monkeypatch.setattr(pages, "of_failed", lambda path, settings: written.append(path))
    with page(tmp_path, []).failing():
        pass
    with pytest.raises(KeyboardInterrupt), page(tmp_path, []).failing():
        raise KeyboardInterrupt
    with pytest.raises(ValueError), page(tmp_path, [], rank0=False).failing():
        raise ValueError
    assert written == []
    with pytest.raises(ValueError), page(tmp_path, []).failing():
        raise ValueError
    assert written == [tmp_path]
