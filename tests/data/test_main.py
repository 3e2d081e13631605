"""python -m src.data, as a command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from tests.helpers.commands import command
from tests.helpers.picture_folders import draw
from tests.helpers.ranks import HUNG_SECONDS, ROOT


def test_the_command_and_its_mistakes(tmp_path: Path) -> None:
    root = str(draw(tmp_path / "pictures"))
    done = command("src.data", "import", root, "data.image_size=8", "--to", str(tmp_path / "to"))
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert done.stdout.startswith("python -m src.train data.name=folder data.root=")
    assert (tmp_path / "to" / "converted" / "8").is_dir()
    done = command("src.data", "import", root, f"data.root={tmp_path / 'other'}")
    assert (tmp_path / "other" / "converted" / "own-size").is_dir()
    for arguments, said in (
        ((root, "train.epochs=1"), "train.epochs=1: only data.* may be given"),
        ((root, "data.image_size=x"), "data.image_size=x: must be an integer"),
        ((str(tmp_path / "none"),), "none: is not there; name a folder of pictures"),
    ):
        done = command("src.data", "import", *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert said in done.stderr


def test_ctrl_c_ends_at_once_and_the_next_call_goes_on(tmp_path: Path) -> None:
    for split, count in (("train", 1200), ("test", 2)):
        for at in range(count):
            folder = tmp_path / split / f"class{at % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            if at < 2:
                Image.effect_noise((400, 400), 50).save(folder / f"{at}.png")
            else:
                os.link(folder / f"{at % 2}.png", folder / f"{at}.png")
    arguments = [sys.executable, "-m", "src.data", "import", str(tmp_path), "data.image_size=64"]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done, deadline = tmp_path / "converted" / "64" / ".train.part" / "done", time.monotonic() + HUNG_SECONDS
    while not (done.exists() and b"\1" in done.read_bytes()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=HUNG_SECONDS)
    assert (process.returncode, "Traceback" in output) == (-signal.SIGINT, False), output
    assert b"\0" in done.read_bytes()
    again = command("src.data", *arguments[3:])
    assert again.returncode == 0, again.stderr
    assert "going on with the conversion that was stopped" in again.stderr
