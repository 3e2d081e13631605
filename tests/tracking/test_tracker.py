"""metrics.jsonl always, W&B where it is wanted; secrets nowhere."""

from pathlib import Path

from tests.helpers.wandb_runs import train


def test_disabled_does_not_import_wandb(small: str, tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("raise SystemExit('imported')")
    done = train(small, tmp_path, "track.wandb=disabled", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "runs" / "x" / "wandb").exists()


def test_secrets_stay_out(small: str, tmp_path: Path) -> None:
    """Of all files and of all that is printed: also where a mirror with a password does not answer."""
    key, mirror = "5ec4e7" * 7, "data.mirrors=[http://user:hunter2@127.0.0.1:9/mirror]"
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    theirs = {"WANDB_API_KEY": key, "WANDB_MODE": "offline", **nowhere}
    done = [
        train(small, tmp_path, mirror, **theirs),
        train(small, tmp_path, mirror, "data.name=mnist", "data.fallback=none", f"data.root={tmp_path}", **theirs),
    ]
    assert [one.returncode for one in done] == [0, 2], done
    assert "http://***@127.0.0.1:9/mirror: " in done[1].stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    content = b"".join(file.read_bytes() for file in files) + str(done[0].stdout + done[0].stderr).encode()
    content += str(done[1].stdout + done[1].stderr).encode()
    assert b"127.0.0.1:9/mirror" in content
    assert b"hunter2" not in content
    assert key.encode() not in content
