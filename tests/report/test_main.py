"""`python -m src.report` on several runs, and its errors."""

import sys
from pathlib import Path

import pytest

from src.errors import UserError
from src.report import __main__ as report_command
from src.report import page as report
from tests.helpers.commands import command
from tests.helpers.pages import Open


def test_several_runs_together(
    softmax: Path,
    sigmoid: Path,
    tmp_path: Path,
    show: Open,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", str(softmax), str(sigmoid)])
    report_command.main()
    assert capsys.readouterr().out == f"{softmax.parent}/compare.html\n"
    page = show(softmax.parent / report.COMPARED)
    head = page.locator("#compare thead th").all_inner_texts()
    assert {"result", "samples/s", "model.loss", "optim.lr", "train.epochs"} <= set(head)
    assert "train.seed" not in head
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#compare tbody tr").all()]
    assert [row[head.index("model.loss") - 1] for row in rows] == ["cross_entropy", "bce"]
    assert page.locator(".chart >> nth=0").locator("path.curve").count() == 2
    assert page.locator("#draw").count() == 0
    assert report.report([softmax, sigmoid], tmp_path / "there.html").exists()


def test_mistakes_are_one_line(softmax: Path, tmp_path: Path) -> None:
    done = command("src.report", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}: is no run")
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(UserError, match=r"no/page\.html: cannot be written \(No such file.*--file"):
        report.report([softmax], tmp_path / "no" / "page.html")
