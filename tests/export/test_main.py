"""`python -m src.export`: its errors are one line."""

from pathlib import Path

from tests.helpers.commands import command


def test_a_run_without_weights(best: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((best / "config.yaml").read_text())
    done = command("src.export", str(tmp_path), "--to", "onnx")
    assert done.returncode == 2
    assert "has no weights yet" in done.stderr
    assert len(done.stderr.splitlines()) == 1
