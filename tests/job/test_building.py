"""The parts of a job in order: what is refused before anything is written, and where what is made goes."""

from pathlib import Path

import pytest

from src.run import jsonl, layout
from tests.helpers.ranks import ROOT, good_job, run_job


def settings(small: str, *more: str) -> tuple[str, ...]:
    return ("data.name=idx", f"data.root={small}", "train.epochs=2", "run.name=x", *more)


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "."])
def test_a_run_s_name_is_no_path(name: str, small: str, tmp_path: Path) -> None:
    refused = run_job(2, tmp_path, *settings(small), f"run.name={name}")
    assert refused.codes == [2, 2]
    assert refused.output == (
        f"error: run.name={name}: must be the name of a folder, not a path; run.root= says where it is\n"
    )
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_checkpoint_s_name_means_a_file_and_nothing_else(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = good_job(1, tmp_path, *settings(small))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").write_bytes((first.run / "checkpoints" / "best.pt").read_bytes())
    taken = good_job(1, tmp_path, *settings(small), "run.name=y", "checkpoint.resume=own")
    assert "(weights of own)" in taken.output
    assert next(jsonl.read(taken.run / "events.jsonl"))["event"] == "start"


COMPILES = """

def build(settings, data, build=build):
    import os, pathlib
    pathlib.Path(os.environ["FOUND"]).write_text(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    return build(settings, data)
"""


def test_what_a_model_compiles_is_kept_in_its_run(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In TMPDIR it would be left behind, or be gone for the next start."""
    found, model = tmp_path / "found", tmp_path / "mine.py"
    model.write_text((ROOT / "src" / "models" / "logistic.py").read_text() + COMPILES)
    monkeypatch.setenv("FOUND", str(found))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    done = good_job(1, tmp_path, *settings(small), f"model.name={model}")
    assert found.read_text() == str(done.run / layout.COMPILED)
    assert not (done.run / layout.COMPILED).exists(), "nothing was compiled"
